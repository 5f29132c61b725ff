"""The latest revisions, whole, so that a watcher can resume after any of them."""

from __future__ import annotations

import itertools
from collections import deque

from atomesh.registry.operations import Revision


class History:
    """Revisions without a gap, as many as hold at most `limit` changes."""

    def __init__(self, revision: int, limit: int) -> None:
        """Empty: it can be resumed after `revision`, the last one committed, and no other."""
        self._revisions: deque[Revision] = deque()
        self._after = revision
        self._limit = limit
        self._changes = 0

    @property
    def oldest(self) -> int:
        """The lowest revision that a watcher can resume after."""
        return self._after

    def append(self, revision: Revision) -> None:
        """Adds the next revision and forgets what is too old."""
        self._revisions.append(revision)
        self._changes += len(revision.transitions)
        while self._changes > self._limit:
            gone = self._revisions.popleft()
            self._changes -= len(gone.transitions)
            self._after = gone.number

    def after(self, revision: int) -> list[Revision] | None:
        """All revisions after one; None where they are no longer kept (COMPACTED)."""
        if revision < self._after:
            return None
        return list(itertools.islice(self._revisions, revision - self._after, None))  # numbers have no gaps
