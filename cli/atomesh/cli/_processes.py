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
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Self

import typer

from atomesh.cli._errors import CliError, ExitCode

WITH_PARENT = "--with-parent"
WithParent = Annotated[bool, typer.Option(WITH_PARENT, hidden=True)]

READY_SECONDS = 20.0
"""A child imports and binds in one or two seconds; on a machine at full load
it took eight. Twice of it lets a person wait for what hangs."""

STOP_SECONDS = 30.0
"""After SIGTERM, before SIGKILL: an agent's own drain takes at most 25."""

_KEPT_LINES = 20


class Child:
    """One process `python -m atomesh ...`."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        heard: Callable[[str, str], None],
        *,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`heard(name, line)` is given what it writes to stderr. Nothing is started yet."""
        self._environment = None if environment is None else dict(environment)
        self.name = name
        self.ready: dict[str, Any] = {}
        """What it said when it was ready: address, http, pid."""
        self._arguments = [sys.executable, "-m", "atomesh", *arguments, WITH_PARENT, "--json"]
        self._heard = heard
        self._last: deque[str] = deque(maxlen=_KEPT_LINES)
        self._process: asyncio.subprocess.Process | None = None
        self._readers: list[asyncio.Task[None]] = []
        self._told: asyncio.Future[dict[str, Any]] | None = None
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

    async def start(self) -> None:
        """Starts it and returns once it is ready.

        Raises:
            CliError: it ended before, with its own last words, or is not ready in time.
        """
        self._told = asyncio.get_running_loop().create_future()
        self._process = await asyncio.create_subprocess_exec(
            *self._arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment,
            # Ctrl-C goes to the whole group of the terminal; who stops when is ours to say.
            start_new_session=True,
        )
        self._readers = [asyncio.create_task(self._read_stdout()), asyncio.create_task(self._read_stderr())]
        ended: asyncio.Task[Any] = asyncio.create_task(self._process.wait())
        try:
            await asyncio.wait({self._told, ended}, timeout=READY_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if self._told.done():
                self.ready = self._told.result()
                return
            if ended.done():
                raise await self._last_words()
            raise CliError(f"{self.name} is not ready after {READY_SECONDS:g} s; try again", ExitCode.FAILED)
        finally:
            ended.cancel()

    async def wait(self) -> int:
        """Its exit code, negative for a signal, once it has ended."""
        if self._process is None:
            return 0
        code = await self._process.wait()
        await asyncio.gather(*self._readers)
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

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _last_words(self) -> CliError:
        """The error that it ended with, as ours."""
        code = await self.wait()
        said = [line.removeprefix("error: ") for line in self._last if line.startswith("error: ")]
        known = code in ExitCode._value2member_map_ and code != 0
        return CliError(
            said[-1] if said else f"{self.name} ended {self.how_it_ended()} before it was ready",
            ExitCode(code) if known else ExitCode.FAILED,
        )

    async def _read_stdout(self) -> None:
        if self._process is None or self._process.stdout is None:
            return
        async for line in self._process.stdout:
            with contextlib.suppress(ValueError):
                said = json.loads(line)
                if self._told is not None and not self._told.done() and said.get("event") == "ready":
                    self._told.set_result(said)

    async def _read_stderr(self) -> None:
        if self._process is None or self._process.stderr is None:
            return
        async for raw in self._process.stderr:
            line = raw.decode("utf-8", "replace").rstrip("\n")
            self._last.append(line)
            if self.ready:
                self._heard(self.name, line)


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
