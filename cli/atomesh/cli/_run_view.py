"""How a run looks while it goes on: a live tree of its stages on a terminal, a line for each step elsewhere. On stderr."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, Self

from rich.live import Live

from atomesh.cli._output import console, note
from atomesh.cli._run_seen import Seen
from atomesh.cli._run_tree import picture
from atomesh.cli._run_words import what_next
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.pipelines import Event

_RATE = 10  # pictures a second: an eye takes no more, and each costs a millisecond


class RunView:
    """Shows a run; `listen` is what the runner calls.

    It is left after the runner, so that the last picture is how the run ended.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        """`quiet` shows nothing."""
        self._quiet = quiet
        self._seen = Seen()
        self._console = console(stderr=True)
        self._live: Live | None = None
        if sys.stderr.isatty() and not quiet:
            self._live = Live(console=self._console, refresh_per_second=_RATE, get_renderable=self._picture)

    def __enter__(self) -> Self:
        """Nothing is shown before the run begins: what is wrong until then is told in a line."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leaves the last picture standing, and says what can be done where the run has not ended."""
        if self._live is not None and self._live.is_started:
            self._live.stop()
        if self._seen.run is not None and self._seen.stands() == "interrupted":
            note(f"interrupted: {what_next(self._seen.run.id, durable=True)}")

    def listen(self, event: Event) -> None:
        """Takes an event of the run."""
        self._seen.take(event, SYSTEM_CLOCK.now())
        if self._quiet:
            return
        if self._live is not None:
            self._live.start(refresh=True)
        elif line := self._seen.line(event):
            note(line)

    def leave(self) -> None:
        """This process does not go on with the run, which is durable: it is interrupted, not cancelled."""
        self._seen.interrupted = True

    def _picture(self) -> Any:
        out = self._console
        return picture(self._seen, SYSTEM_CLOCK.now(), out.width, out.height)
