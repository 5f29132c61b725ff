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

LONG = 2.0  # seconds that nobody waits for: a test that is not hedged takes them


class Stall:
    """Quick, until it is told to stall; then it holds every call for LONG seconds, and counts what is cancelled."""

    def __init__(self) -> None:
        self.stalls = False
        self.fails: Exception | None = None
        self.runs = 0
        self.cancelled = 0

    async def __call__(self, *_: Any) -> None:
        self.runs += 1
        if self.fails is not None:
            raise self.fails
        try:
            await SYSTEM_CLOCK.sleep(LONG if self.stalls else 0.005)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


class Pair:
    """Two endpoints of one agent, a client that hedges, and what it has seen of them: 60 quick calls."""

    def __init__(self, slow: Stall, quick: Stall, servers: list[AgentServer], client: Client) -> None:
        self.slow, self.quick, self.servers, self.client = slow, quick, servers, client

    @classmethod
    async def started(cls, m: Any, echo: Any, text: Text, *, slots: int = 4, **settings: Any) -> Pair:
        works = [Stall(), Stall()]
        idempotent = settings.pop("idempotent", True)
        servers = [await m.serve(echo(work), slots=slots, idempotent=idempotent) for work in works]
        client = await m.client(**{"policy": "round_robin", "hedge": True, "metrics": ClientMetrics()} | settings)
        asked: set[str] = set()
        for _ in range(60):
            asked.add((await client.execute(ECHO, text(), CallOptions(hedge=False))).info.endpoint)
        assert len(asked) == 2
        works[0].stalls = True
        return cls(works[0], works[1], servers, client)

    @property
    def hedges(self) -> dict[str, float]:
        found = self.client._metrics.hedges.collect()
        return {s.labels["outcome"]: s.value for metric in found for s in metric.samples}

    @property
    def in_flight(self) -> int:
        return sum(c.in_flight for c in self.client._fleets["echo"].balancer.candidates.values())

    async def one_that_stalls(self, call: Callable[[], Any]) -> Any:
        """Calls in turn until one began at the slow endpoint; its reply."""
        for _ in range(2):
            reply = await call()
            if reply.attempts:
                return reply
        raise AssertionError("round robin must ask the slow endpoint at every second call")


async def test_a_call_that_takes_long_is_answered_by_a_second_endpoint(
    mesh: Mesh, echo: Any, text: Text, until: Any
) -> None:
    async with mesh() as m:
        pair = await Pair.started(m, echo, text)
        begun = SYSTEM_CLOCK.now()
        reply = await pair.one_that_stalls(lambda: pair.client.execute(ECHO, text()))
        assert SYSTEM_CLOCK.now() - begun < LONG / 2, "the slow endpoint must not be waited for"
        assert reply.info.endpoint == pair.servers[1].address
        (outrun,) = reply.attempts
        assert (outrun.endpoint, outrun.reason) == (pair.servers[0].address, "CANCELLED")
        assert "other attempt" in outrun.message
        assert pair.hedges == {"won": 1}
        await until(lambda: pair.slow.cancelled == 1)
        assert pair.in_flight == 0, "the one that lost must free its slot"
        assert pair.servers[0].agents["echo"].admission.in_flight == 0


async def test_without_being_asked_for_nothing_is_hedged(mesh: Mesh, echo: Any, text: Text) -> None:
    async with mesh() as m:
        pair = await Pair.started(m, echo, text, hedge=False)
        calls = [asyncio.create_task(pair.client.call(ECHO, text(), timeout=0.5)) for _ in range(2)]
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(each, errors.DeadlineExceeded) for each in done) == 1
        assert pair.hedges == {}


async def test_one_call_may_ask_for_it_and_one_may_do_without(mesh: Mesh, echo: Any, text: Text) -> None:
    async with mesh() as m:
        pair = await Pair.started(m, echo, text, hedge=False)
        await pair.one_that_stalls(lambda: pair.client.execute(ECHO, text(), CallOptions(hedge=True)))
        assert pair.hedges == {"won": 1}
        calls = [pair.client.call(ECHO, text(), timeout=0.5, hedge=False) for _ in range(2)]
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(each, errors.DeadlineExceeded) for each in done) == 1


@pytest.mark.parametrize("said", [False, None])
async def test_a_call_that_may_not_run_twice_is_never_hedged(
    mesh: Mesh, echo: Any, text: Text, said: bool | None
) -> None:
    async with mesh() as m:
        pair = await Pair.started(m, echo, text, idempotent=said is False)
        ran = pair.slow.runs + pair.quick.runs
        calls = [pair.client.call(ECHO, text(), timeout=0.5, idempotent=said) for _ in range(2)]
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(each, errors.DeadlineExceeded) for each in done) == 1
        assert pair.hedges == {}
        assert pair.slow.runs + pair.quick.runs == ran + 2, "each runs once"


async def test_without_a_spare_slot_elsewhere_a_call_just_waits_for_its_first_attempt(
    mesh: Mesh, echo: Any, text: Text
) -> None:
    async with mesh() as m:
        pair = await Pair.started(m, echo, text, slots=1)
        pair.quick.stalls = True
        calls = [pair.client.call(ECHO, text(), timeout=0.5) for _ in range(2)]
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(each, errors.DeadlineExceeded) for each in done)
        assert pair.hedges == {}


async def test_without_spare_budget_nothing_is_hedged(mesh: Mesh, echo: Any, text: Text) -> None:
    async with mesh() as m:
        pair = await Pair.started(m, echo, text)
        while pair.client._budget.withdraw(SYSTEM_CLOCK.now()):
            pass
        calls = [pair.client.call(ECHO, text(), timeout=0.5) for _ in range(2)]
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(each, errors.DeadlineExceeded) for each in done) == 1
        assert pair.hedges == {}


async def test_a_hedge_that_fails_leaves_the_first_attempt_its_time(mesh: Mesh, echo: Any, text: Text) -> None:
    async with mesh() as m:
        pair = await Pair.started(m, echo, text)
        pair.quick.fails = AgentFailed("not now", reason="BUSY", retryable=True)
        first = asyncio.create_task(pair.client.execute(ECHO, text(), CallOptions(timeout=LONG * 2)))
        second = asyncio.create_task(pair.client.execute(ECHO, text(), CallOptions(timeout=LONG * 2)))
        replies = await asyncio.gather(first, second)
        slow = pair.servers[0].address
        assert all(reply.info.endpoint == slow for reply in replies), "the first attempt's answer is as good as any"
        assert pair.hedges.get("won", 0) == 0
        assert pair.in_flight == 0


async def test_an_error_that_any_endpoint_would_give_is_not_waited_out(
    mesh: Mesh, echo: Any, text: Text, until: Any
) -> None:
    async with mesh() as m:
        pair = await Pair.started(m, echo, text)
        pair.quick.fails = AgentFailed("never", reason="NEVER")
        begun = SYSTEM_CLOCK.now()
        done = await asyncio.gather(*(pair.client.call(ECHO, text()) for _ in range(2)), return_exceptions=True)
        assert [getattr(each, "reason", None) for each in done] == ["NEVER", "NEVER"]
        assert SYSTEM_CLOCK.now() - begun < LONG / 2
        assert pair.hedges == {"lost": 1}
        await until(lambda: pair.slow.cancelled == 1)
        assert pair.in_flight == 0


async def test_a_caller_that_goes_away_takes_both_attempts_along(mesh: Mesh, echo: Any, text: Text, until: Any) -> None:
    async with mesh() as m:
        pair = await Pair.started(m, echo, text)
        pair.quick.stalls = True
        call = asyncio.create_task(pair.client.call(ECHO, text()))
        await until(lambda: pair.in_flight == 2)
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
        pair.quick.stalls = True
        for moment in range(30):  # p95 is at about 6 ms, so that some are hedged and some not yet
            call = asyncio.create_task(pair.client.call(ECHO, text()))
            await SYSTEM_CLOCK.sleep(moment / 2_000)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            assert pair.in_flight == 0, f"cancelled after {moment / 2} ms"
        pair.quick.stalls = pair.slow.stalls = False
        assert 0 < pair.hedges["lost"] < 30
        await until(lambda: all(server.agents["echo"].admission.in_flight == 0 for server in pair.servers))
        assert (await pair.client.call(ECHO, text())).result == "hello"
