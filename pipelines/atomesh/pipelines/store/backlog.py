"""Rows that wait to be written, bounded in number and in bytes.

While the store answers it is emptied twenty times a second. While the store is
away it fills, and then the oldest row gives way: the newest runs are those that
somebody will ask about. Rows of one run follow each other, the last one says it
all, so a row that a later one of its run replaces costs nothing.
"""

from __future__ import annotations

from atomesh.pipelines.store.rows import Row

MAX_ROWS = 10_000
"""Ended runs that are held while the store is away: a minute and a half of 100
runs/s. Half loses the runs of a database's restart; ten times is a long outage
held in memory, for history that a crash would lose all the same."""

MAX_BYTES = 64 * 1024 * 1024
"""Of their protobuf. Rows with outputs at their cap would else be 2 GB."""


class Backlog:
    """Rows by run, in the order in which they came."""

    def __init__(self, max_rows: int = MAX_ROWS, max_bytes: int = MAX_BYTES) -> None:
        """Empty."""
        self._rows: dict[str, Row] = {}
        self._bytes = 0
        self.max_rows, self.max_bytes = max_rows, max_bytes
        self.lost = 0
        """Runs whose end was given up, in all."""

    def __len__(self) -> int:
        """Rows that wait."""
        return len(self._rows)

    def add(self, row: Row) -> None:
        """One more to write, in place of an earlier one of its run."""
        earlier = self._rows.pop(row.id, None)
        if earlier is not None:
            self._bytes -= earlier.size
            if row.ended_at is None:  # a begin says nothing that an end did not
                row = earlier
        self._rows[row.id] = row
        self._bytes += row.size
        while len(self._rows) > self.max_rows or (self._bytes > self.max_bytes and len(self._rows) > 1):
            self._drop_oldest()

    def take(self, count: int) -> list[Row]:
        """The oldest ones, which stay until `written`."""
        return [row for row, _ in zip(self._rows.values(), range(count), strict=False)]

    def written(self, rows: list[Row]) -> None:
        """These are in the store."""
        for row in rows:
            if self._rows.get(row.id) is row:
                del self._rows[row.id]
                self._bytes -= row.size

    def _drop_oldest(self) -> None:
        oldest = self._rows.pop(next(iter(self._rows)))
        self._bytes -= oldest.size
        self.lost += oldest.ended_at is not None
