"""Takes notes of what happens, in order."""

from __future__ import annotations

import re
from collections.abc import Callable

from atomesh.testing.history.facts import Fact

_ID = re.compile(rb"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")


class Recorder:
    """The facts so far, and the names under which leases stand in them."""

    def __init__(self, now: Callable[[], float], *, alias: bool = False, first: int = 1) -> None:
        """`alias` gives leases names by the order of their granting, so that equal worlds have equal histories.

        `first` is the lowest number of a call: processes that write one
        history each have a range of their own.
        """
        self.now = now
        self.facts: list[Fact] = []
        self._alias = alias
        self._next = first
        self._names: dict[str, str] = {}
        self._granted: dict[str, None] = {}

    def note(self, fact: Fact) -> None:
        """It happened."""
        self.facts.append(fact)

    def number(self) -> int:
        """For the next call or watch."""
        self._next += 1
        return self._next - 1

    def granted(self, lease_id: str) -> str:
        """The name of a lease that was granted just now."""
        if lease_id not in self._granted:
            self._granted[lease_id] = None
            self._names.setdefault(lease_id, f"lease-{len(self._granted)}")
        return self.name(lease_id)

    def name(self, lease_id: str) -> str:
        """The name of a lease that somebody says."""
        if not self._alias:
            return lease_id
        return self._names.setdefault(lease_id, f"unknown-{len(self._names)}")

    def secrets(self, answer: bytes, granted: str = "") -> tuple[str, ...]:
        """Leases whose ids are in an answer, as bytes, beside the one that it grants."""
        found = {match.decode() for match in _ID.findall(answer)}
        return tuple(sorted(self.name(each) for each in found if each in self._granted and each != granted))
