"""What a validator says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise was broken: at the latest at `at` (seconds of the history), by what."""

    at: float
    what: str
    promise: str = ""
    """Which one; set by `check`."""

    def __str__(self) -> str:
        """In one line."""
        return f"at {self.at:.6f} s: {self.what} [{self.promise}]"
