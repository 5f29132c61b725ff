"""What happened, in order: one line per event, the same lines for the same seed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable


class Trace:
    """Lines of virtual time, who, and what."""

    def __init__(self, now: Callable[[], float]) -> None:
        """Empty."""
        self.lines: list[str] = []
        self._now = now

    def add(self, who: str, what: str) -> None:
        """It happened now."""
        self.lines.append(f"{self._now():12.6f} {who:<12} {what}")

    def digest(self) -> str:
        """Equal for equal traces."""
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()
