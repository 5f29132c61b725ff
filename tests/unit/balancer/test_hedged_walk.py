"""Two attempts of one call, step by step, in virtual time: the real walk and balancer over scripted endpoints."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from typing import Any, cast

import pytest

from atomesh.balancer.balancer import Balancer
from atomesh.balancer.budget import RetryBudget
from atomesh.balancer.candidate import SubchannelState
from atomesh.balancer.fleet import Fleet
from atomesh.balancer.hedge import Hedging
from atomesh.balancer.metrics import AgentSeries, ClientMetrics
from atomesh.balancer.picks import Pick
from atomesh.balancer.waiting import Call
from atomesh.balancer.walk import Walk
from atomesh.balancer.work import Answer, Work
from atomesh.core import errors
from atomesh.core.context import Context
from atomesh.core.endpoint import Endpoint
from atomesh.core.errors import AtomeshError
from atomesh.core.updates import Position, Reset, WatchEvent
from atomesh.testing import VirtualClock
from atomesh.text.v1.text_pb2 import TextInput
from atomesh.v1 import agent_pb2

A, B, C = "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"
QUICK, SLOW = 0.01, 10.0
BUSY = errors.AgentFailed("not now", retryable=True)
Step = tuple[float, AtomeshError | None]


class Scripted:
    """An endpoint that does one step per attempt: it takes so long, and ends so. The last goes on for ever."""

    def __init__(self, clock: VirtualClock, steps: list[Step]) -> None:
        self.clock, self.steps = clock, steps
        self.begun = self.ended = self.cancelled = 0

    async def execute(self, work: Work, deadline: float, *, grant: object, returns: bool, wait: bool) -> Answer:
        seconds, error = self.steps[min(self.begun, len(self.steps) - 1)]
        self.begun += 1
        try:
            await self.clock.sleep(seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self.ended += 1
        if error is not None:
            raise error
        return Answer(b"", response=agent_pb2.ExecuteResponse())


class Fixed:
    """Two endpoints and no connections: what a walk needs of a fleet."""

    def __init__(self, clock: VirtualClock, scripts: dict[str, list[Step]], idempotent: tuple[bool, ...]) -> None:
        self.agent = "echo"
        self.clock = clock
        self.ends = {address: Scripted(clock, steps) for address, steps in scripts.items()}
        self.balancer = Balancer("echo", rng=random.Random(1))
        declared = dict(zip(scripts, idempotent, strict=False))
        endpoints = tuple(Endpoint("echo", address, slots=4, idempotent=declared[address]) for address in scripts)
        self.balancer.apply(WatchEvent((Reset(endpoints),), Position("s", 1)), 0.0)
        for address in scripts:
            self.balancer.connected(address, SubchannelState.READY, 0.0)
        self.balancer.candidates[A].weight = 2.0  # late binding asks the heavier first
        self.balancer._rebuild(0.0)
        self.latencies = self.balancer.latencies
        self.hedging = Hedging(self.latencies)
        self.metrics = ClientMetrics()
        self.series = AgentSeries(self.metrics, "echo")
        self.budget = RetryBudget()
        self.taken: list[float] = []
        for _ in range(100):
            self.latencies.record(QUICK, 0.0)

    def pick_now(self, call: Call) -> Any:
        return self.balancer.submit(call, self.clock.now())

    def subchannel(self, address: str) -> Scripted:
        return self.ends[address]

    def took(self, pick: Pick, answer: Answer, seconds: float, now: float) -> None:
        self.taken.append(seconds)

    def settle(self) -> None: ...

    @property
    def hedges(self) -> dict[str, float]:
        found = self.metrics.hedges.collect()
        return {s.labels["outcome"]: s.value for metric in found for s in metric.samples}

    @property
    def in_flight(self) -> list[int]:
        return [c.in_flight for c in self.balancer.candidates.values()]


def fleet(clock: VirtualClock, *scripts: list[Step], idempotent: tuple[bool, ...] = (True, True, True)) -> Fixed:
    return Fixed(clock, dict(zip((A, B, C), scripts, strict=False)), idempotent)


async def run(on: Fixed, call: Call | None = None, *, idempotent: bool | None = None) -> Call:
    call = call or Call(on.clock.now() + 60)
    work = Work("echo", Context(), TextInput(content="x"))
    walk = Walk(cast("Fleet", on), call, on.budget, on.metrics, on.clock, random.Random(2))
    await walk.run(work, idempotent, hedge=True)
    return call


async def test_the_second_attempt_begins_at_p95_and_its_answer_is_taken(virtual_clock: VirtualClock) -> None:
    on = fleet(virtual_clock, [(SLOW, None)], [(QUICK, None)])
    call = await run(on)
    assert virtual_clock.now() == pytest.approx(on.latencies.p95 + QUICK)
    assert [(attempt.endpoint, attempt.reason) for attempt in call.attempts] == [(A, "CANCELLED")]
    assert (on.hedges, on.in_flight, on.ends[A].cancelled) == ({"won": 1}, [0, 0], 1)


async def test_a_call_that_is_quick_is_not_hedged(virtual_clock: VirtualClock) -> None:
    on = fleet(virtual_clock, [(QUICK / 2, None)], [(QUICK, None)])
    await run(on)
    assert (on.hedges, on.ends[B].begun) == ({}, 0)


async def test_the_first_answer_is_taken_where_it_comes_first_and_the_hedge_is_cancelled(
    virtual_clock: VirtualClock,
) -> None:
    on = fleet(virtual_clock, [(5 * QUICK, None)], [(SLOW, None)])
    call = await run(on)
    assert virtual_clock.now() == pytest.approx(5 * QUICK)
    assert [(attempt.endpoint, attempt.reason) for attempt in call.attempts] == [(B, "CANCELLED")]
    assert (on.hedges, on.in_flight, on.ends[B].cancelled) == ({"lost": 1}, [0, 0], 1)


async def test_an_agent_with_one_endpoint_is_not_hedged_at_the_same_one(virtual_clock: VirtualClock) -> None:
    on = fleet(virtual_clock, [(SLOW, None)])
    await run(on)
    assert (on.hedges, on.ends[A].begun) == ({}, 1)
    assert on.budget.left(virtual_clock.now()) == 100


async def test_both_endpoints_must_allow_it_where_the_caller_does_not(virtual_clock: VirtualClock) -> None:
    on = fleet(virtual_clock, [(SLOW, None)], [(QUICK, None)], idempotent=(True, False))
    await run(on)
    assert (on.hedges, on.ends[B].begun, on.in_flight) == ({}, 0, [0, 0])
    await run(on, idempotent=True)
    assert on.hedges == {"won": 1}


async def test_one_hedge_per_call_however_many_attempts_it_takes(virtual_clock: VirtualClock) -> None:
    # First, hedge, and the retry elsewhere, which takes 3 s while an endpoint has slots to spare.
    on = fleet(virtual_clock, [(1.0, BUSY)], [(0.5, BUSY), (3.0, None)], [(0.5, BUSY), (3.0, None)])
    with contextlib.suppress(errors.AgentFailed):  # where the retry draws whoever has yet to fail
        await run(on)
    assert sum(end.begun for end in on.ends.values()) == 3
    assert on.hedges == {"lost": 1}


async def test_a_hedge_counts_as_an_execution_of_its_call(virtual_clock: VirtualClock) -> None:
    on = fleet(virtual_clock, [(1.0, BUSY)], [(0.5, BUSY)])
    with pytest.raises(errors.AgentFailed):
        await run(on)
    assert on.ends[A].begun + on.ends[B].begun == 3, "three executions at most, the hedge among them"


async def test_where_both_fail_the_first_attempts_error_decides(virtual_clock: VirtualClock) -> None:
    lost, busy = errors.ConnectionLost("cut"), errors.AgentFailed("b", retryable=True)
    on = fleet(virtual_clock, [(1.0, lost)], [(0.5, busy)])
    with pytest.raises(AtomeshError) as failed:
        await run(on, Call(virtual_clock.now() + 1.001))
    assert failed.value is lost


async def test_who_waits_for_a_slot_goes_before_a_hedge(virtual_clock: VirtualClock) -> None:
    on = fleet(virtual_clock, [(SLOW, None)], [(QUICK, None)])
    now = virtual_clock.now()
    picks = [on.balancer.submit(Call(60.0), now) for _ in range(8)]
    call = Call(60.0)
    assert on.balancer.submit(call, now) is None
    last = picks[-1]
    assert last is not None
    last.done(now)
    assert on.balancer.spare(Call(60.0), now, ()) is None
    on.balancer.withdraw(call)
    spared = on.balancer.spare(Call(60.0), now, ())
    assert spared is not None
    assert spared.candidate is last.candidate


async def test_p95_is_that_of_calls_and_does_not_shrink_by_hedging(virtual_clock: VirtualClock) -> None:
    on = fleet(virtual_clock, [(SLOW, None)], [(QUICK, None)])
    await run(on)
    assert on.taken == [pytest.approx(on.latencies.p95 + QUICK)], "once, from when the first attempt began"


async def test_a_caller_that_goes_away_at_any_step_frees_every_slot_once(virtual_clock: VirtualClock) -> None:
    seen: Counter[tuple[int, int]] = Counter()
    for steps in range(30):
        for after in (0.0, QUICK, 2 * QUICK, 1.0):
            on = fleet(virtual_clock, [(SLOW, None)], [(2.0, None)])
            for _ in range(20):
                on.latencies.record(QUICK, virtual_clock.now())
            call = asyncio.create_task(run(on))
            await virtual_clock.sleep(after)
            for _ in range(steps):
                await virtual_clock.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert on.in_flight == [0, 0]
            assert [end.begun for end in on.ends.values()] == [end.cancelled for end in on.ends.values()]
            seen[on.ends[A].begun, on.ends[B].begun] += 1
    assert seen.keys() == {(1, 0), (1, 1)}, "before the hedge, and after it"


async def test_a_call_whose_deadline_cuts_both_attempts_ends_with_that(virtual_clock: VirtualClock) -> None:
    late = errors.DeadlineExceeded("late")
    on = fleet(virtual_clock, [(1.0, late)], [(1.0, late)])
    with pytest.raises(errors.DeadlineExceeded):
        await run(on)
    assert virtual_clock.now() == pytest.approx(1.0), "the other attempt cannot do better"
    assert (on.hedges, on.in_flight) == ({"lost": 1}, [0, 0])
