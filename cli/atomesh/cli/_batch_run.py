"""One run of `atomesh batch`: lines in, outputs out, and a word at the end that is true."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from atomesh.cli._batch_files import rejected
from atomesh.cli._batch_lines import MAX_LINE, Source
from atomesh.cli._batch_report import Report
from atomesh.cli._batch_room import Room
from atomesh.cli._batch_targets import Found, Targets
from atomesh.cli._batch_view import View
from atomesh.cli._errors import CliError, UsageMistake
from atomesh.cli._messages import parse, to_data
from atomesh.cli._output import note
from atomesh.cli._settings import Settings
from atomesh.cli.batch import Files, Manner
from atomesh.core.errors import InvalidArgument, NotFound
from atomesh.pipelines.batch import PAIRS, BatchInput, BatchItem, BatchSettings, EmptyBatch, Outcome, open_batch

_TOLD_REJECTS = 10  # on stderr, where no file takes them


class BrokenLine(InvalidArgument):
    """A line that is no input."""

    reason = "BROKEN_LINE"

    def __init__(self, why: str, raw: bytes | None) -> None:
        """`raw` is the line; None where it is too long to be kept."""
        super().__init__(why)
        self.raw = raw


class NoTarget(NotFound):
    """A line's agent is none."""

    reason = "UNKNOWN_AGENT"


class Run:
    """The lines of one file, through one agent or several."""

    def __init__(self, agent: str | None, files: Files, manner: Manner, settings: Settings, *, as_json: bool) -> None:
        """Opens nothing yet."""
        self._agent = agent
        self._files = files
        self._manner = manner
        self._settings = settings
        self._report = Report(manner, as_json=as_json)
        self._interrupted = False

    async def run(self) -> int:
        """The exit code."""
        from atomesh.cli._tracing import opened_tracer
        from atomesh.cli.call import check_registry, open_client

        source = Source(self._files.input_file or "-")
        with contextlib.closing(source):
            await check_registry(self._settings)
            async with (
                opened_tracer(self._settings) as tracer,
                open_client(self._settings, [], tracer) as mesh,
                Targets(mesh, self._settings) as targets,
            ):
                found = None if self._agent is None else await targets.find_any(self._agent)
                with Room.opened(self._files, self._agent or PAIRS.value, source) as room:
                    await self._batch(source, targets, found, room, mesh)
                    code = self._report.tell(room, interrupted=self._interrupted)
        return code

    async def _batch(self, source: Source, targets: Targets, found: Found | None, room: Room, mesh: Any) -> None:
        from atomesh.pipelines.batch import MeshExecutor

        executor = MeshExecutor(mesh) if found is None else found.executor
        target = PAIRS if found is None else found.target
        bar = room.output is not None or not sys.stdout.isatty()
        with View(source.count(), bar=bar) as view:
            inputs = self._inputs(source, targets, found, room, view)
            settings = self._batch_settings(room)
            batch = open_batch(executor, target, inputs, settings, observer=room.observer, progress=view.show)
            try:
                async with batch:
                    with self._stoppable(batch.stop):
                        async for item in batch:
                            self._take(item, room)
            except EmptyBatch:
                if not (room.past.done or room.unknown):
                    raise UsageMistake(f"{source.name} has no line with an input; give it one at least") from None
            self._report.summary = batch.summary()

    def _batch_settings(self, room: Room) -> BatchSettings:
        manner = self._manner
        return BatchSettings(
            ordered=manner.ordered,
            max_concurrency=manner.concurrency,
            item_timeout=manner.item_timeout,
            timeout=manner.timeout,
            min_success=manner.min_success,
            id=room.batch_id,
        )

    # -- in ------------------------------------------------------------------

    async def _inputs(
        self, source: Source, targets: Targets, found: Found | None, room: Room, view: View
    ) -> AsyncIterator[BatchInput]:
        async with contextlib.aclosing(source.lines()) as lines:
            async for number, raw in lines:
                if room.past.has_output(number):
                    view.skip()
                    continue
                try:
                    part, whose = await self._part(number, raw, targets, found)
                except (BrokenLine, NoTarget) as error:
                    yield BatchInput(error, key=str(number))
                    continue
                if room.past.unknown(number) and not (whose.idempotent or self._files.repeat_unknown):
                    room.leave(number)
                    view.skip()
                    continue
                yield part

    async def _part(
        self, number: int, raw: bytes | None, targets: Targets, found: Found | None
    ) -> tuple[BatchInput, Found]:
        """A line's input.

        Raises:
            BrokenLine: it is none.
            NoTarget: it is for an agent that is none.
        """
        if raw is None:
            raise BrokenLine(f"line {number} has more than {MAX_LINE} bytes, which no message has", None)
        where = f"line {number}"
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            raise BrokenLine(f"{where} is not UTF-8; convert the file first, such as with iconv", raw) from None
        try:
            if found is None:
                name, text = _pair(text, where)
                found = await _named(targets, name)
            message = parse(text, where, found.input)
        except UsageMistake as error:
            raise BrokenLine(error.message, raw) from None
        return BatchInput(message, found.target, str(number)), found

    # -- out -----------------------------------------------------------------

    def _take(self, item: BatchItem, room: Room) -> None:
        """Writes what became of a line."""
        line = int(item.key)
        if isinstance(item.error, BrokenLine):
            self._reject(line, item.error, room)
            return
        if item.outcome is Outcome.CANCELLED:
            return  # nobody knows; without an outcome it is unknown, or is done again
        told: dict[str, Any] = {"line": line} | ({"agent": item.target} if self._manner.pairs else {})
        if item.outcome is Outcome.SUCCESS:
            try:
                told |= {"output": to_data(item.output, whole=True)}
            except (ValueError, TypeError) as error:  # an Any of a type that the contract does not bring
                told |= {"error": _error("UNREADABLE_OUTPUT", str(error), may_have_run=True)}
        else:
            told |= {"error": _error(item.error_type, str(item.error), may_have_run=item.may_have_run)}
            told["error"]["sent"] = item.seconds > 0  # then it is in the journal
        told |= {"endpoint": item.endpoint, "seconds": round(item.seconds, 6)}
        room.put(told)

    def _reject(self, line: int, error: BrokenLine, room: Room) -> None:
        room.rejected += 1
        if room.rejects is not None:
            room.rejects.add(rejected(line, error.message, error.raw))
        elif room.rejected <= _TOLD_REJECTS:
            note(f"rejected: {error.message}")

    @contextlib.contextmanager
    def _stoppable(self, stop: Callable[[], None]) -> Iterator[None]:
        """The first Ctrl-C or SIGTERM stops the batch, the second the process."""

        def interrupt() -> None:
            if self._interrupted:
                raise KeyboardInterrupt
            self._interrupted = True
            stop()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, interrupt)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)


def _error(kind: str, message: str, *, may_have_run: bool) -> dict[str, Any]:
    return {"type": kind, "message": message, "may_have_run": may_have_run}


def _pair(text: str, where: str) -> tuple[str, str]:
    """The agent that a line names, and the text of its input."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageMistake(f"{where} is not JSON: {error}") from None
    if not isinstance(data, dict) or set(data) != {"agent", "input"} or not isinstance(data["agent"], str):
        raise UsageMistake(f'{where} is no pair; write {{"agent": "text-processor", "input": {{...}}}}')
    return data["agent"], json.dumps(data["input"])


async def _named(targets: Targets, name: str) -> Found:
    try:
        return await targets.find(name)
    except CliError as error:
        raise NoTarget(error.message) from None
    except InvalidArgument as error:  # a name that is none
        raise NoTarget(error.message) from None
