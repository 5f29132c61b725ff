"""What is said of workers: one line when they are up, their logs under their names, events for programs."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from atomesh.cli._output import escape, note, say, say_json
from atomesh.cli._places import spans

if TYPE_CHECKING:
    from atomesh.cli._processes import Child
    from atomesh.cli._settings import Settings
    from atomesh.cli._supervision import Exit

log = logging.getLogger("atomesh.workers")


class Told:
    """Results on stdout, the rest on stderr, as every verb."""

    def __init__(self, classes: Sequence[str], settings: Settings, *, log_json: bool, as_json: bool) -> None:
        """Agents go by what was typed until a worker has loaded them and says what they are called."""
        self._agents = settings.serve.name or "+".join(name.rpartition(":")[2] for name in classes)
        self._registry = settings.mesh.registry
        self._log_json = log_json
        self._as_json = as_json
        self._count = settings.serve.workers
        self._starting = set(range(1, self._count + 1))
        self._up: dict[int, Child] = {}
        self._starts = dict.fromkeys(self._starting, 0)
        self._refusals: set[str] = set()
        self._held: list[str] = []
        """Of workers that did not start while none has: where none can, one line says why, and not one for each."""

    def name(self, number: int) -> str:
        """`text-processor/2`."""
        return f"{self._agents}/{number}"

    def learned(self, event: dict[str, Any]) -> None:
        """What a worker says of itself."""
        if event.get("agents"):
            self._agents = "+".join(event["agents"])

    def heard(self, number: int, _: str, line: str) -> None:
        """What a worker logs and prints: JSON with its name in it, text with its name before it."""
        if self._log_json and line.startswith('{"') and line.endswith("}"):
            told = f'{{"worker": {json.dumps(self.name(number))}, {line[1:]}'
        else:
            told = f"{self.name(number)}: {line}"
        _to_whoever_listens(2, partial(note, told))

    def ready(self, number: int, child: Child) -> None:
        """It serves."""
        self._up[number] = child
        self._starts[number] += 1
        self._let_go()
        if self._as_json:
            said = {"worker": self.name(number), "starts": self._starts[number]}
            self._event("ready", said | {key: child.ready[key] for key in child.ready if key != "event"})
        for refusal in child.ready["refusals"]:
            if refusal not in self._refusals:
                self._refusals.add(refusal)
                note(f"the registry refused: {refusal}; calls by address work all the same")
        if number not in self._starting:
            log.info("%s is up again on %s (pid %d)", self.name(number), child.address, child.pid)
        self._first_start_over(number)

    def ended(self, number: int, child: Child, how: Exit, delay: float | None) -> None:
        """It has ended, or did not start; it is started again in `delay` seconds, None for never."""
        self._up.pop(number, None)
        name = self.name(number)
        about = {"worker": name, "pid": child.pid, "exit_code": child.exit_code}
        if delay is not None:
            where = f"{child.address}, pid {child.pid}" if child.address else f"pid {child.pid}"
            self._held.append(f"{name} ({where}): {how.reason}; started again in {delay:.1f} s")
            self._let_go()
            if self._as_json:
                self._event("restarting", about | {"reason": how.reason, "seconds": round(delay, 3)})
        elif self._as_json:
            self._event("ended", about | {"reason": how.reason})
        self._first_start_over(number)

    def _event(self, name: str, about: Mapping[str, Any]) -> None:
        _to_whoever_listens(1, partial(say_json, {"event": name, **about}))

    def _let_go(self) -> None:
        if any(self._starts.values()):
            for line in self._held:
                log.warning(line)
            self._held.clear()

    def _first_start_over(self, number: int) -> None:
        """The one line, once each worker was ready or was not."""
        if number not in self._starting:
            return
        self._starting.discard(number)
        if not self._starting and self._up and not self._as_json:
            _to_whoever_listens(1, partial(say, escape(self._line())))

    def _line(self) -> str:
        up = list(self._up.values())
        count = f"{len(up)} workers" if len(up) == self._count else f"{len(up)} of {self._count} workers"
        known = sum(bool(child.ready["registered"]) for child in up)
        where = (
            "registered with" if known == len(up) else f"{known} registered with" if known else "not registered with"
        )
        pages = f"metrics at /metrics of {spans([child.http for child in up])}"
        return f"{self._agents}: {count} on {spans([child.address for child in up])}, {where} {self._registry}, {pages}"


def _to_whoever_listens(stream: int, tell: Callable[[], None]) -> None:
    """Tells; where the reader of that stream has gone, nobody is told any more, and the workers serve on."""
    try:
        tell()
    except BrokenPipeError:
        # Also for what is still in the stream's buffer, or the end of Python would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
