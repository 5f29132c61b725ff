"""Children of this process that are `atomesh` verbs themselves: started, watched, stopped, never orphaned.

A child with `--with-parent` ends when its standard input closes, which the
kernel does for a parent that dies in any way, SIGKILL included, on every Unix.
It says on one line of JSON that it is ready; what it logs goes to ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Annotated, Any, Self

import typer

from atomesh.cli._errors import CliError, ExitCode

WITH_PARENT = "--with-parent"
_ERROR = "error: "
WithParent = Annotated[bool, typer.Option(WITH_PARENT, hidden=True)]

READY_SECONDS = 20.0
"""A child imports and binds in one or two seconds; on a machine at full load
it took eight. Twice of it lets a person wait for what hangs."""

STOP_SECONDS = 30.0
"""After SIGTERM, before SIGKILL: an agent's own drain takes at most 25."""

_KEPT_LINES = 20

_LONGEST_LINE = 1 << 16
"""Bytes. A line above it comes in pieces: twice of it is memory for what nobody
reads, and a quarter would cut the longest honest log records."""

_LAST_WORDS_SECONDS = 1.0
"""For what an ended process wrote to be read, which is there already. Only a
process that it left behind, and that holds its output open, makes us wait."""


class Child:
    """One process `python -m atomesh ...`."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        heard: Callable[[str, str], None],
        *,
        environment: Mapping[str, str] | None = None,
        told: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        """Nothing is started yet.

        `heard(name, line)` is given what it logs and prints, `told` the events
        that it says of itself, the one that it is ready among them.
        """
        self._environment = None if environment is None else dict(environment)
        self.name = name
        self.ready: dict[str, Any] = {}
        """What it said when it was ready: address, http, pid."""
        self._arguments = [sys.executable, "-m", "atomesh", *arguments, WITH_PARENT, "--json"]
        self._heard = heard
        self._last: deque[str] = deque(maxlen=_KEPT_LINES)
        self._process: asyncio.subprocess.Process | None = None
        self._transport: asyncio.SubprocessTransport | None = None
        self._exited: asyncio.Future[None] | None = None
        self._readers: list[asyncio.Task[None]] = []
        self._first_ready: asyncio.Future[dict[str, Any]] | None = None
        self._told = told
        self.stopping = False

    @property
    def address(self) -> str:
        """What it serves on."""
        return str(self.ready.get("address", ""))

    @property
    def http(self) -> str:
        """Where its metrics are."""
        return str(self.ready.get("http", ""))

    @property
    def pid(self) -> int:
        """Its process id; 0 where it was never started."""
        return self._process.pid if self._process is not None else 0

    @property
    def exit_code(self) -> int | None:
        """Negative for a signal; None while it runs."""
        return self._process.returncode if self._process is not None else None

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    async def start(self, patience: float | None = READY_SECONDS) -> None:
        """Starts it and returns once it is ready; `patience` in seconds, None for as long as it takes.

        Raises:
            CliError: it ended before, with its own last words, or is not ready in time.
            OSError: the system has no process for it.
        """
        self._first_ready = asyncio.get_running_loop().create_future()
        self._process = await self._spawned()
        if self.stopping:  # said while there was no process to tell it
            self.terminate()
        self._readers = [asyncio.create_task(self._read_stdout()), asyncio.create_task(self._read_stderr())]
        ended: asyncio.Task[Any] = asyncio.create_task(self._ended())
        try:
            await asyncio.wait({self._first_ready, ended}, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            if self._first_ready.done():
                self.ready = self._first_ready.result()
                return
            if ended.done():
                raise await self._last_words()
            raise CliError(f"{self.name} is not ready after {patience:g} s; try again", ExitCode.FAILED)
        finally:
            ended.cancel()

    async def wait(self) -> int:
        """Its exit code, negative for a signal, once it has ended."""
        code = await self._ended()
        if self._readers:
            await asyncio.wait(self._readers, timeout=_LAST_WORDS_SECONDS)
            for reader in self._readers:
                reader.cancel()
        if self._transport is not None:
            self._transport.close()
        return code

    def kill(self) -> None:
        """SIGKILL, nothing else: what a crash looks like."""
        self._send(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM: it drains and ends."""
        self.stopping = True
        self._send(signal.SIGTERM)

    async def stop(self, grace: float = STOP_SECONDS) -> None:
        """Ends it: SIGTERM, and SIGKILL after `grace` seconds. Twice is fine."""
        self.terminate()
        try:
            async with asyncio.timeout(grace):
                await self.wait()
        except TimeoutError:
            self.kill()
            await self.wait()

    def how_it_ended(self) -> str:
        """`with exit code 1`, `by SIGKILL`."""
        code = self.exit_code
        if code is not None and code < 0:
            return f"by {signal.Signals(-code).name}"
        return f"with exit code {code}"

    async def _spawned(self) -> asyncio.subprocess.Process:
        loop = asyncio.get_running_loop()
        exited = self._exited = loop.create_future()
        self._transport, protocol = await loop.subprocess_exec(
            lambda: _Protocol(exited),
            *self._arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment,
            # Ctrl-C goes to the whole group of the terminal; who stops when is ours to say.
            start_new_session=True,
        )
        return asyncio.subprocess.Process(self._transport, protocol, loop)

    async def _ended(self) -> int:
        """Its exit code, whoever holds its output open still."""
        if self._process is None or self._exited is None:
            return 0
        await asyncio.shield(self._exited)
        return self._process.returncode or 0

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _last_words(self) -> CliError:
        """The error that it ended with, as ours."""
        code = await self.wait()
        said = [line.removeprefix(_ERROR) for line in self._last if line.startswith(_ERROR)]
        known = code in ExitCode._value2member_map_ and code != 0
        return CliError(
            said[-1] if said else f"{self.name} ended {self.how_it_ended()} before it was ready",
            ExitCode(code) if known else ExitCode.FAILED,
        )

    async def _read_stdout(self) -> None:
        if self._process is None or self._process.stdout is None:
            return
        async for line in _lines(self._process.stdout):
            said = _event(line)
            if said is None:
                self._heard(self.name, line)
                continue
            if self._told is not None:
                self._told(said)
            if self._first_ready is not None and not self._first_ready.done() and said["event"] == "ready":
                self._first_ready.set_result(said)

    async def _read_stderr(self) -> None:
        if self._process is None or self._process.stderr is None:
            return
        async for line in _lines(self._process.stderr):
            self._last.append(line)
            # The error that it does not start with is told by whoever started it.
            if self.ready or not line.startswith(_ERROR):
                self._heard(self.name, line)


class _Protocol(asyncio.subprocess.SubprocessStreamProtocol):
    """Tells when the process has ended, which `Process.wait` in some Pythons tells only once its pipes are closed."""

    def __init__(self, exited: asyncio.Future[None]) -> None:
        super().__init__(_LONGEST_LINE, asyncio.get_running_loop())
        self._exited = exited

    def process_exited(self) -> None:
        super().process_exited()
        if not self._exited.done():
            self._exited.set_result(None)


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """Its lines, whatever their length: a reader that stops at one would let the writer block on a full pipe."""
    rest = b""
    while chunk := await stream.read(_LONGEST_LINE):
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) >= _LONGEST_LINE:
            lines.append(rest)
            rest = b""
        for line in lines:
            yield line.decode("utf-8", "replace")
    if rest:
        yield rest.decode("utf-8", "replace")


def _event(line: str) -> dict[str, Any] | None:
    """What a verb says of itself with --json; None for what its agent's author prints."""
    with contextlib.suppress(ValueError):
        said = json.loads(line)
        if isinstance(said, dict) and "event" in said:
            return said
    return None


def end_with_parent() -> None:
    """Sends this process SIGTERM when its standard input closes: whoever holds the other end is gone."""
    loop = asyncio.get_running_loop()

    def readable() -> None:
        if not os.read(0, 4096):
            loop.remove_reader(0)
            os.kill(os.getpid(), signal.SIGTERM)

    loop.add_reader(0, readable)


class Signals:
    """SIGINT and SIGTERM as events, for as long as the block lasts."""

    def __init__(self) -> None:
        """None has come."""
        self.came = asyncio.Event()
        self.again = asyncio.Event()
        """A second one: somebody does not want to wait."""

    def __enter__(self) -> Self:
        """Takes them over; in the main thread only, where Python delivers them."""
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._arrived)
        return self

    def __exit__(self, *_: object) -> None:
        """Gives them back."""
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().remove_signal_handler(number)

    def _arrived(self) -> None:
        (self.again if self.came.is_set() else self.came).set()
