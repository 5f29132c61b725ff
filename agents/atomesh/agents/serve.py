"""Serving as the main thing that a process does, and not serving at all."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Sequence
from typing import Any, TypeVar, Unpack, cast

from google.protobuf.message import Message

from atomesh.agents.admission import Admission
from atomesh.agents.agent import Agent, In, Out
from atomesh.agents.calls import Where
from atomesh.agents.context import new_instance_id
from atomesh.agents.failures import log
from atomesh.agents.metrics import AgentMetrics
from atomesh.agents.served import ServedAgent
from atomesh.agents.server import AgentServer
from atomesh.agents.settings import ServerOptions
from atomesh.agents.spec import AgentOptions, resolve
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.core.context import DEFAULT_TIMEOUT, Context
from atomesh.core.errors import AtomeshError, WrongType

M = TypeVar("M", bound=Message)


async def serve(agents: Agent[Any, Any] | Sequence[Agent[Any, Any]], **options: Unpack[ServerOptions]) -> int:
    """Serves until SIGTERM, SIGINT or a Drain call, then drains; the exit code (see `run_until_signal`).

    sys.exit(asyncio.run(serve(Greeter(), registry="127.0.0.1:7400")))
    """
    server = AgentServer(agents, **options)
    await server.start()
    return await run_until_signal(server)


async def run_until_signal(server: AgentServer) -> int:
    """Waits for SIGTERM, SIGINT or a Drain call, drains and stops a started server.

    0 where it drained, 1 where a second signal forced it to stop at once. Call
    it in the main thread; only there Python delivers signals.
    """
    loop = asyncio.get_running_loop()
    signals = [asyncio.Event(), asyncio.Event()]

    def arrived() -> None:
        signals[signals[0].is_set()].set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, arrived)
    waits = [asyncio.create_task(wait) for wait in (_drain(server, signals[0]), signals[1].wait())]
    waits.append(asyncio.create_task(server.wait_drained()))
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
        for task in waits:
            task.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        forced = signals[1].is_set()
        if forced:
            log.warning("a second signal: stopping at once")
        await server.stop()
    return 1 if forced else 0


async def run_once(
    agent: Agent[In, Out],
    message: In,
    *,
    context: Context | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    **options: Unpack[AgentOptions],
) -> Out:
    """Executes once in this process: started, checked in and out, and closed as if it were served.

    Raises:
        AtomeshError: what a caller over the wire would get.
    """
    spec = resolve(agent, options)
    where = Where(new_instance_id(), lambda: "in-process", SYSTEM_CLOCK, timeout)
    admission = Admission(spec.name, spec.slots, rng=random.Random())
    served = ServedAgent(agent, spec, where, admission, AgentMetrics().bind(admission))
    await served.start()
    try:
        done = await served.run(_LocalCall(message, (context or Context()).with_request_id()))
        return cast(Out, done.output)
    finally:
        await served.close()


class _LocalCall:
    """A call that never left the process."""

    typed = False

    def __init__(self, message: Message, context: Context) -> None:
        self.context = context
        self._message = message

    def read(self, expected: type[M]) -> M:
        """The message itself."""
        if not isinstance(self._message, expected):
            raise WrongType(
                f"the message is of type {self._message.DESCRIPTOR.full_name}; expected {expected.DESCRIPTOR.full_name}"
            )
        return self._message

    def timeout(self) -> float | None:
        """None: the default is what was asked for."""
        return None

    def no_wait(self) -> bool:
        """There is nobody to wait for."""
        return False

    def answer(self, error: AtomeshError) -> None:
        """Whoever is in the same process waits until the work has ended."""


async def _drain(server: AgentServer, asked: asyncio.Event) -> None:
    await asked.wait()
    await server.drain()
