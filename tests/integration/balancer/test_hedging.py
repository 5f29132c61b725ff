"""A second attempt beside a slow first one: over real gRPC, with a real slow endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from atomesh.agents import AgentFailed, AgentServer
from atomesh.balancer import CallOptions, Client, ClientMetrics
from atomesh.core import Contract, errors
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

Mesh = Callable[..., Any]
Text = Callable[..., TextInput]
ECHO = Contract("echo", TextInput, TextOutput)


class Stall:
    """Quick, until it is told to stall; then it holds every call until it is let go, and counts what is cancelled."""

    def __init__(self) -> None:
        self.stalls = False
        self.fails: Exception | None = None
        self.let_go = asyncio.Event()
        self.runs = 0
        self.cancelled = 0

    async def __call__(self, *_: Any) -> None:
        self.runs += 1
        if self.fails is not None:
            raise self.fails
        if not self.stalls:
            await SYSTEM_CLOCK.sleep(0.005)
            return
        try:
            await self.let_go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


class Pair:
    """Two endpoints of one agent, a client that hedges, and what it has seen of them: 60 quick calls.

    Nothing here rests on how quick those were: what is slow never ends by
    itself, and a call's first attempt is where the test says. (A call that
    began at the quick endpoint could be hedged as well, on a busy machine.)
    """

    def __init__(self, slow: Stall, quick: Stall, servers: list[AgentServer], client: Client, input: TextInput) -> None:
        self.slow, self.quick, self.servers, self.client, self.input = slow, quick, servers, client, input

    @classmethod
    async def started(cls, m: Any, echo: Any, text: Text, *, slots: int = 4, **settings: Any) -> Pair:
        works = [Stall(), Stall()]
        idempotent = settings.pop("idempotent", True)
        servers = [await m.serve(echo(work), slots=slots, idempotent=idempotent) for work in works]
        client = await m.client(**{"policy": "round_robin", "hedge": True, "metrics": ClientMetrics()} | settings)
        pair = cls(works[0], works[1], servers, client, text())
        asked = {await pair.asked() for _ in range(60)}
        assert len(asked) == 2
        return pair

    @property
    def hedges(self) -> dict[str, float]:
        found = self.client._metrics.hedges.collect()
        return {s.labels["outcome"]: s.value for metric in found for s in metric.samples}

    @property
    def in_flight(self) -> int:
        return sum(c.in_flight for c in self.client._fleets["echo"].balancer.candidates.values())

    @property
    def p95(self) -> float:
        return self.client._fleets["echo"].balancer.latencies.p95

    async def asked(self) -> str:
        """The endpoint that answered a call which is not hedged."""
        return (await self.client.execute(ECHO, self.input, CallOptions(hedge=False))).info.endpoint

    async def call_at_slow(self, **options: Any) -> asyncio.Task[Any]:
        """A call about to begin, and stall, at the slow endpoint: round robin's next after the quick one."""
        self.slow.stalls = False
        while await self.asked() != self.servers[1].address:
            pass
        self.slow.stalls = True
        return asyncio.create_task(self.client.execute(ECHO, self.input, CallOptions(**options)))

    async def is_not_hedged(self, call: asyncio.Task[Any]) -> None:
        """The call waits for its first attempt, long after a second one would have begun."""
        hedges, ran = self.hedges, self.quick.runs
        await SYSTEM_CLOCK.sleep(max(0.2, 5 * self.p95))
        assert not call.done()
        assert self.quick.runs == ran, "nothing may begin elsewhere"
        self.slow.let_go.set()
        assert (await call).info.endpoint == self.servers[0].address
        self.slow.let_go.clear()
        assert self.hedges == hedges


async def test_a_call_that_takes_long_is_answered_by_a_second_endpoint(
    mesh: Mesh, echo: Any, text: Text, until: Any
) -> None:
    async with mesh() as m:
        pair = await Pair.started(m, echo, text)
        reply = await (await pair.call_at_slow())
        assert reply.info.endpoint == pair.servers[1].address, "the slow endpoint must not be waited for"
        (outrun,) = reply.attempts
        assert (outrun.endpoint, outrun.reason) == (pair.servers[0].address, "CANCELLED")
        assert "other attempt" in outrun.message
        assert pair.hedges == {"won": 1}
        await until(lambda: pair.slow.cancelled == 1)
        assert pair.in_flight == 0, "the one that lost must free its slot"
        await until(lambda: pair.servers[0].agents["echo"].admission.in_flight == 0)


async def test_without_being_asked_for_nothing_is_hedged(mesh: Mesh, echo: Any, text: Text) -> None:
    async with mesh() as m:
        pair = await Pair.started(m, echo, text, hedge=False)
        await pair.is_not_hedged(await pair.call_at_slow())
        assert pair.hedges == {}


async def test_one_call_may_ask_for_it_and_one_may_do_without(mesh: Mesh, echo: Any, text: Text) -> None:
    async with mesh() as m:
        pair = await Pair.started(m, echo, text, hedge=False)
        await (await pair.call_at_slow(hedge=True))
        assert pair.hedges == {"won": 1}
        await pair.is_not_hedged(await pair.call_at_slow())
    async with mesh() as m:
        pair = await Pair.started(m, echo, text)
        await pair.is_not_hedged(await pair.call_at_slow(hedge=False))


@pytest.mark.parametrize("said", [False, None])
async def test_a_call_that_may_not_run_twice_is_never_hedged(
    mesh: Mesh, echo: Any, text: Text, said: bool | None
) -> None:
    async with mesh() as m:
        pair = await Pair.started(m, echo, text, idempotent=said is False)
        call = await pair.call_at_slow(idempotent=said)
        ran = pair.slow.runs + pair.quick.runs
        await pair.is_not_hedged(call)
        assert pair.hedges == {}
        assert pair.slow.runs + pair.quick.runs == ran + 1, "it runs once"


async def test_without_a_spare_slot_elsewhere_a_call_just_waits_for_its_first_attempt(
    mesh: Mesh, echo: Any, text: Text, until: Any
) -> None:
    async with mesh() as m:
        pair = await Pair.started(m, echo, text, slots=1)
        pair.quick.stalls = True
        pair.slow.stalls = True
        others = [asyncio.create_task(pair.client.execute(ECHO, text(), CallOptions(hedge=False))) for _ in range(2)]
        await until(lambda: pair.in_flight == 2)
        pair.slow.let_go.set()
        done, (busy,) = await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
        pair.slow.let_go.clear()
        assert len(done) == 1
        call = asyncio.create_task(pair.client.execute(ECHO, text()))
        await until(lambda: pair.in_flight == 2)
        await pair.is_not_hedged(call)
        assert pair.hedges == {}
        pair.quick.let_go.set()
        await busy


async def test_without_spare_budget_nothing_is_hedged(mesh: Mesh, echo: Any, text: Text) -> None:
    async with mesh() as m:
        pair = await Pair.started(m, echo, text)
        call = await pair.call_at_slow()
        while pair.client._budget.withdraw(SYSTEM_CLOCK.now()):
            pass
        await pair.is_not_hedged(call)
        assert pair.hedges == {}


async def test_a_hedge_that_fails_leaves_the_first_attempt_its_time(
    mesh: Mesh, echo: Any, text: Text, until: Any
) -> None:
    async with mesh() as m:
        pair = await Pair.started(m, echo, text)
        call = await pair.call_at_slow()
        pair.quick.fails = AgentFailed("not now", reason="BUSY", retryable=True)
        ran = pair.quick.runs
        await until(lambda: pair.quick.runs == ran + 1 and pair.in_flight == 1)
        assert not call.done()
        pair.slow.let_go.set()
        reply = await call
        assert reply.info.endpoint == pair.servers[0].address, "the first attempt's answer is as good as any"
        assert pair.hedges == {"lost": 1}
        assert pair.in_flight == 0


async def test_an_error_that_any_endpoint_would_give_is_not_waited_out(
    mesh: Mesh, echo: Any, text: Text, until: Any
) -> None:
    async with mesh() as m:
        pair = await Pair.started(m, echo, text)
        call = await pair.call_at_slow()
        pair.quick.fails = AgentFailed("never", reason="NEVER")
        with pytest.raises(errors.AgentFailed) as failed:
            await call
        assert failed.value.reason == "NEVER"
        assert pair.hedges == {"lost": 1}
        await until(lambda: pair.slow.cancelled == 1)
        assert pair.in_flight == 0


async def test_a_caller_that_goes_away_takes_both_attempts_along(mesh: Mesh, echo: Any, text: Text, until: Any) -> None:
    async with mesh() as m:
        pair = await Pair.started(m, echo, text)
        call = await pair.call_at_slow()
        pair.quick.stalls = True
        # In flight is what was sent; only what has begun can tell that it was cancelled.
        ran = pair.quick.runs
        await until(lambda: pair.in_flight == 2 and pair.quick.runs == ran + 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert pair.in_flight == 0, "both slots are free at once, each once"
        assert pair.hedges == {"lost": 1}
        await until(lambda: pair.slow.cancelled == pair.quick.cancelled == 1)


async def test_a_caller_that_goes_away_at_any_moment_leaks_no_slot(
    mesh: Mesh, echo: Any, text: Text, until: Any
) -> None:
    async with mesh() as m:
        pair = await Pair.started(m, echo, text)
        pair.quick.stalls = pair.slow.stalls = True
        for moment in range(30):  # none of the first is hedged, all of the last, and in between it depends
            call = asyncio.create_task(pair.client.call(ECHO, text()))
            await SYSTEM_CLOCK.sleep(moment / 15 * pair.p95)
            if moment == 29:
                await until(lambda: pair.in_flight == 2)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            assert pair.in_flight == 0, f"cancelled after {moment / 15:.2f} times p95"
        pair.quick.stalls = pair.slow.stalls = False
        assert 0 < pair.hedges["lost"] < 30
        await until(lambda: all(server.agents["echo"].admission.in_flight == 0 for server in pair.servers))
        assert (await pair.client.call(ECHO, text())).result == "hello"
