"""`atomesh serve --workers N`: the processes that `_supervision.py` decides about, each `atomesh serve` itself.

They are spawned, never forked: gRPC's threads do not survive a fork. Each has
the same flags but for its addresses, registers by itself, and ends with its
supervisor however that ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from atomesh.cli._errors import CliError, ExitCode
from atomesh.cli._flags import as_typed
from atomesh.cli._places import places
from atomesh.cli._processes import Child, Signals
from atomesh.cli._supervision import Exit, GiveUp, Start, Supervision
from atomesh.cli._workers_told import Told
from atomesh.core.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from atomesh.cli._settings import Settings
    from atomesh.cli.serve import ServeFlags

log = logging.getLogger("atomesh.workers")

_OWN_FLAGS = ("serve_bind", "serve_advertise", "serve_http_bind", "serve_workers", "log_format")
"""What each worker is told for itself, or not at all."""

_AFTER_GRACE = 15.0
"""Seconds that a drain may take beyond its grace: 1 for the registry's watch, 1
for cancelled work, 5 for a gRPC server that does not end, and as much again."""

_FORCED = 8.0
"""Seconds from a forced end to SIGKILL. An agent's server takes at most 5; at
half of these its lease would not be given back."""


async def run_workers(classes: Sequence[str], flags: ServeFlags, settings: Settings, *, as_json: bool) -> int:
    """Serves with `settings.serve.workers` processes until SIGTERM, SIGINT or all have drained; the exit code.

    Raises:
        CliError: they cannot be started; with the last words of one that could not.
    """
    chosen = settings.log.format
    if chosen == "auto":
        chosen = "text" if sys.stderr.isatty() else "json"
    command = ["serve", *classes, *as_typed(flags, without=_OWN_FLAGS), "--log-format", chosen]
    told = Told(classes, settings, log_json=chosen == "json", as_json=as_json)
    return await Workers(command, settings, told).run()


class Workers:
    """Does what the supervision says, and tells what happens."""

    def __init__(self, command: Sequence[str], settings: Settings, told: Told) -> None:
        """Raises UsageMistake or InvalidArgument where there is no address for each."""
        self._command = command
        self._places = places(settings.serve, settings.serve.workers)
        self._patience = settings.serve.drain_grace + _AFTER_GRACE
        self._told = told
        self._supervision = Supervision(settings.serve.workers, random.Random())
        self._children: dict[int, Child] = {}
        self._stopping = asyncio.Event()

    async def run(self) -> int:
        """Until a signal, until all have ended on purpose, or until one must be given up."""
        with Signals() as signals:
            keepers = [asyncio.create_task(self._keep(start)) for start in self._supervision.begin()]
            stop = asyncio.create_task(signals.came.wait())
            try:
                await _first_of(keepers, stop)
                code = await self._stop(keepers, signals.again)
            finally:
                stop.cancel()
                await self._abandon(keepers)
        for keeper in keepers:
            keeper.result()  # raises why it was given up
        return code

    async def _keep(self, start: Start) -> None:
        """One worker's life: started, watched, started again."""
        action: Start | GiveUp | None = start
        while isinstance(action, Start):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(action.delay):
                    await self._stopping.wait()
            if self._stopping.is_set():
                return
            action = await self._live(action)
        if isinstance(action, GiveUp):
            if left := len(self._running()):
                log.error("%s; draining the other %d", action.reason, left)
            known = action.code in ExitCode._value2member_map_
            raise CliError(action.reason, ExitCode(action.code) if known else ExitCode.FAILED)

    async def _live(self, start: Start) -> Start | GiveUp | None:
        """One process, from its start to its end, and what comes then."""
        number = start.worker
        last = self._children.get(number)
        place = self._places[number - 1]
        if last is not None and last.address and not start.failed:
            place = place.again_at(last.address)
        child = Child(
            self._told.name(number),
            [*self._command, *place.flags()],
            partial(self._told.heard, number),
            told=self._told.learned,
        )
        try:
            self._children[number] = child
            await child.start(patience=None)
        except (CliError, OSError) as error:
            how = Exit(child.exit_code if child.exit_code == 0 else _code(error), _reason(error))
        else:
            self._supervision.ready(number, SYSTEM_CLOCK.now())
            self._told.ready(number, child)
            how = Exit(await child.wait(), f"ended {child.how_it_ended()}")
        action = self._supervision.ended(number, SYSTEM_CLOCK.now(), how)
        self._told.ended(number, child, how, action.delay if isinstance(action, Start) else None)
        return action

    async def _stop(self, keepers: Sequence[asyncio.Task[None]], again: asyncio.Event) -> int:
        """Drains all at once; 0 where all ended well."""
        self._supervision.stop()
        self._stopping.set()
        self._terminate()
        impatient = asyncio.create_task(again.wait())
        try:
            if await _all_ended(keepers, self._patience, impatient):
                return self._supervision.exit_code
            if impatient.done():
                log.warning("a second signal: stopping %d workers at once", len(self._running()))
                self._terminate()
                if await _all_ended(keepers, _FORCED):
                    return ExitCode.FAILED
            log.error("%d workers do not end; SIGKILL", len(self._running()))
            return ExitCode.FAILED
        finally:
            impatient.cancel()

    def _running(self) -> list[Child]:
        return [child for child in self._children.values() if child.running]

    def _terminate(self) -> None:
        # All, not those that run: one of which the process is just being made is told as soon as it is there.
        for child in self._children.values():
            child.terminate()

    async def _abandon(self, keepers: Sequence[asyncio.Task[None]]) -> None:
        """Leaves no process behind, whatever went wrong; where nothing did, there is none."""
        self._supervision.stop()
        self._stopping.set()
        self._terminate()
        for child in self._running():
            child.kill()
        await asyncio.gather(*keepers, return_exceptions=True)


async def _first_of(keepers: Sequence[asyncio.Task[None]], stop: asyncio.Task[object]) -> None:
    """Returns once all have ended, one has failed, or it is to stop."""
    together = asyncio.ensure_future(asyncio.wait(keepers, return_when=asyncio.FIRST_EXCEPTION))
    try:
        await asyncio.wait([together, stop], return_when=asyncio.FIRST_COMPLETED)
    finally:
        together.cancel()


async def _all_ended(
    keepers: Sequence[asyncio.Task[None]], patience: float, impatient: asyncio.Task[object] | None = None
) -> bool:
    """Whether they end within so many seconds, and before somebody is impatient."""
    together = asyncio.ensure_future(asyncio.wait(keepers))
    others = [] if impatient is None else [impatient]
    try:
        await asyncio.wait([together, *others], timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        return together.done()
    finally:
        together.cancel()


def _code(error: CliError | OSError) -> int:
    return error.code if isinstance(error, CliError) else ExitCode.FAILED


def _reason(error: CliError | OSError) -> str:
    return error.message if isinstance(error, CliError) else f"no process can be started: {error.strerror or error}"
