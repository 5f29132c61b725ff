"""Deadlines and callers that leave, over real gRPC: what grpcio does of itself, and what it does not."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import grpc.aio
import pytest

from atomesh.agents import Agent, AgentServer, ExecutionContext
from atomesh.agents.admission import QUEUE
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.core.errors import DeadlineExceeded, NoFreeSlot
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

Serving = Callable[..., Any]


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await SYSTEM_CLOCK.sleep(0.01)


def in_flight(server: AgentServer) -> int:
    return server.agents["echo"].admission.in_flight


class Noting:
    """Work that takes for ever and notes how it ended."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.ended = ""

    async def __call__(self, *_: Any) -> None:
        self.begun.set()
        try:
            await SYSTEM_CLOCK.sleep(60)
        except asyncio.CancelledError:
            self.ended = "cancelled"
            raise


async def test_a_caller_is_answered_at_its_deadline_and_the_slot_comes_free(serving: Serving, echo: Any) -> None:
    work = Noting()
    async with serving(echo(work)) as (server, caller):
        begun = SYSTEM_CLOCK.now()
        error = await caller.error(caller.execute(timeout=0.3))
        assert isinstance(error, DeadlineExceeded)
        assert 0.25 < SYSTEM_CLOCK.now() - begun < 2
        await until(lambda: in_flight(server) == 0)
        assert work.ended == "cancelled"
        outcome = {"agent": "echo", "outcome": "deadline"}
        assert server.metrics.get_sample_value("atomesh_agent_executions_total", outcome) == 1


async def test_a_caller_without_a_deadline_gets_the_default_one_with_everything_said(
    serving: Serving, echo: Any
) -> None:
    async with serving(echo(Noting()), default_timeout=0.3) as (server, caller):
        error = await caller.error(caller.execute(timeout=None))
        assert isinstance(error, DeadlineExceeded)
        assert error.executed is True
        assert error.origin.endpoint == server.address
        assert in_flight(server) == 0


async def test_work_that_ignores_its_deadline_holds_its_slot_and_not_its_caller(serving: Serving, echo: Any) -> None:
    let_go = asyncio.Event()

    async def stubborn(*_: Any) -> None:
        try:
            await SYSTEM_CLOCK.sleep(60)
        except asyncio.CancelledError:
            await let_go.wait()

    async with serving(echo(stubborn), default_timeout=0.2) as (server, caller):
        error = await caller.error(caller.execute(timeout=None))
        assert isinstance(error, DeadlineExceeded)
        assert "the work goes on" in error.message
        assert in_flight(server) == 1
        let_go.set()
        await until(lambda: in_flight(server) == 0)


async def test_a_caller_that_cancels_ends_the_work(serving: Serving, echo: Any) -> None:
    work = Noting()
    async with serving(echo(work)) as (server, caller):
        call = asyncio.create_task(caller.execute())
        await work.begun.wait()
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await until(lambda: in_flight(server) == 0)
        assert work.ended == "cancelled"


async def test_a_connection_that_goes_ends_the_work(serving: Serving, echo: Any) -> None:
    work = Noting()
    async with serving(echo(work)) as (server, caller):
        async with grpc.aio.insecure_channel(server.address) as channel:
            call = asyncio.create_task(type(caller)(channel).execute())
            await work.begun.wait()
        await asyncio.gather(call, return_exceptions=True)
        await until(lambda: in_flight(server) == 0)
        assert work.ended == "cancelled"


async def test_a_call_object_that_is_dropped_is_bounded_by_its_deadline(serving: Serving, echo: Any) -> None:
    # grpcio's clients since 1.83 do not cancel a call whose object is dropped
    # (grpc issue 43462): no server can tell. The default deadline ends it.
    work = Noting()
    async with serving(echo(work), default_timeout=0.5) as (server, caller):
        call = caller.stub.Execute(caller.request())
        await work.begun.wait()
        del call
        await until(lambda: in_flight(server) == 0)
        assert work.ended == "cancelled"


async def test_a_sync_agent_keeps_its_slot_after_the_deadline_and_gives_it_back(serving: Serving) -> None:
    let_go = threading.Event()

    class Stuck(Agent[TextInput, TextOutput]):
        name = "echo"
        slots = 1

        def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
            let_go.wait(10)
            return TextOutput()

    async with serving(Stuck()) as (server, caller):
        assert isinstance(await caller.error(caller.execute(timeout=0.2)), DeadlineExceeded)
        await SYSTEM_CLOCK.sleep(0.1)
        assert in_flight(server) == 1, "a thread cannot be stopped: its slot is taken until it returns"
        refused = await caller.error(
            caller.stub.Execute(caller.request(), metadata=(("x-atomesh-no-wait", "1"),), timeout=5)
        )
        assert isinstance(refused, NoFreeSlot)
        let_go.set()
        await until(lambda: in_flight(server) == 0)


async def test_sixteen_slots_of_a_plain_def_really_run_sixteen_at_once(serving: Serving) -> None:
    together = threading.Barrier(16)

    class Parallel(Agent[TextInput, TextOutput]):
        name = "echo"
        slots = 16

        def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
            together.wait(10)
            # gRPC sends a timeout in three digits and rounds it up.
            assert 0 < context.remaining() <= 10.2
            return TextOutput(result=input.content)

    async with serving(Parallel()) as (_, caller):
        assert await asyncio.gather(*(caller.execute(str(n)) for n in range(16))) == [str(n) for n in range(16)]


@pytest.mark.parametrize("by", ["field", "header", ""], ids=["mesh client", "by header", "stock client"])
async def test_no_more_than_slots_run_at_once_whoever_calls(serving: Serving, echo: Any, by: str) -> None:
    now, most = 0, 0

    async def work(*_: Any) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await SYSTEM_CLOCK.sleep(0.02)
        now -= 1

    metadata = (("x-atomesh-no-wait", "1"),) if by == "header" else ()
    async with serving(echo(work), slots=3) as (server, caller):

        async def one() -> str:
            call = caller.stub.Execute(caller.request(no_wait=by == "field"), timeout=10, metadata=metadata)
            if await call.code() is grpc.StatusCode.OK:
                return "ran"
            assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            pushback = dict(await call.trailing_metadata())["grpc-retry-pushback-ms"]
            assert int(pushback) > 0, "gRPC's own retries must be told when"
            return "refused"

        ends = await asyncio.gather(*(one() for _ in range(60)))
        assert most == 3
        assert in_flight(server) == 0
        assert "refused" in ends
        assert ends.count("ran") >= (3 if by else 3 + QUEUE), "who may wait is run"
        if by:
            assert server.agents["echo"].admission.refusals == ends.count("refused") > 60 / 2, (
                "at once, not after a wait"
            )
