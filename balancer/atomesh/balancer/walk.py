"""One call's way: pick, attempt, and what follows when an attempt fails."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection

from google.rpc import code_pb2

from atomesh.balancer.budget import RetryBudget
from atomesh.balancer.fleet import Fleet
from atomesh.balancer.hedge import goes_on, pay
from atomesh.balancer.metrics import ClientMetrics, reason_of
from atomesh.balancer.picks import Grant, Pick
from atomesh.balancer.retry import RETRY_BACKOFF, History, Next, decide
from atomesh.balancer.tracing import CallTrace, end_attempt
from atomesh.balancer.waiting import Call
from atomesh.balancer.work import Answer, Work
from atomesh.core import errors
from atomesh.core.clock import Clock
from atomesh.core.errors import AtomeshError, Attempt
from atomesh.core.tracing import Span

WENT_AWAY = errors.Cancelled("the caller went away")
_OUTRUN = errors.Cancelled("the call's other attempt settled it")


class Walk:
    """The attempts of one call; the call keeps those that failed."""

    __slots__ = (
        "_broken",
        "_broken_last",
        "_budget",
        "_clock",
        "_executed",
        "_fleet",
        "_grpc",
        "_hedged",
        "_refused",
        "_rng",
        "_settled",
        "call",
        "trace",
    )

    def __init__(
        self,
        fleet: Fleet,
        call: Call,
        budget: RetryBudget,
        metrics: ClientMetrics,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        """None yet."""
        self.call = call
        self.trace: CallTrace | None = None
        """Its spans, where it is traced."""
        self._fleet = fleet
        self._budget = budget
        self._grpc = metrics.execute
        self._clock = clock
        self._rng = rng
        self._refused = 0
        self._executed = 0
        self._hedged = False
        self._broken = 0
        """Refusals for want of a slot that had been granted, and the last of them."""
        self._broken_last: AtomeshError | None = None
        self._settled = False
        """The call has its answer, or an error that no other attempt would mend."""

    async def run(self, work: Work, idempotent: bool | None, *, hedge: bool = False) -> Answer:
        """The answer; with `hedge`, of a second attempt where the first takes long.

        Raises:
            AtomeshError: the last attempt's, when nothing more is to be tried.
        """
        while True:
            pick = self._fleet.pick_now(self.call) or await self._fleet.wait(self.call)
            twice = pick.endpoint.idempotent if idempotent is None else idempotent
            try:
                if not hedge or (after := self._hedge_after(twice)) is None:
                    return await self._attempt(pick, work)
                return await self._hedge(pick, work, after, idempotent)
            except AtomeshError as error:
                await self._after(error, pick, twice)

    async def _attempt(self, pick: Pick, work: Work, since: float | None = None) -> Answer:
        """One attempt; a hedge's latency counts from `since`, when the first attempt began.

        That one took as long at least, and more than p95, which so stays what it is
        without hedging. Counted by themselves, winners would make it shorter and shorter.
        """
        now, address, series = self._clock.now, pick.endpoint.address, self._grpc
        begun = now()
        series.unary_began()
        span: Span | None = None
        failure: AtomeshError | None = WENT_AWAY  # unless it ends otherwise
        answer: Answer | None = None
        grant: Grant | None = None
        try:
            subchannel = self._fleet.subchannel(address)
            grant, pick.grant = pick.grant, None
            call = self.call
            if self.trace is not None:
                span, work = self.trace.attempt(pick.endpoint, call, work, hedge=since is not None)
            answer = await subchannel.execute(work, call.deadline, grant=grant, returns=call.returns, wait=pick.waits)
            failure = None
            self._settled = True
            return answer
        except asyncio.CancelledError:
            failure = _OUTRUN if self._settled else WENT_AWAY
            raise
        except errors.UnknownAgent as error:
            failure = errors.WrongInstance(f"{address} does not serve {self._fleet.agent} any more: {error.message}")
            raise failure from None
        except AtomeshError as error:
            failure = error
            if grant is not None and isinstance(error, errors.NoFreeSlot):
                self._broken, self._broken_last = self._broken + 1, error
            self._settled = self._settled or not goes_on(error)
            raise
        finally:
            ended = now()
            if failure is None and answer is not None:
                self._fleet.took(pick, answer, ended - (begun if since is None else since), ended)
                series.unary_ended(code_pb2.OK, ended - begun)
                self._fleet.series.attempt(address, "OK")
            elif failure is not None:
                series.unary_ended(failure.code, ended - begun)
                self._note(address, failure, ended - begun)
            if span is not None:
                end_attempt(span, failure)
            pick.done(ended, failure, answer.running if answer is not None else None)
            self._fleet.settle()

    def _hedge_after(self, twice: bool) -> float | None:
        if self._hedged:
            return None
        return self._fleet.hedging.after(twice=twice, now=self._clock.now(), deadline=self.call.deadline)

    async def _hedge(self, pick: Pick, work: Work, after: float, idempotent: bool | None) -> Answer:
        """The first good answer of two attempts, the second begun `after` seconds.

        Raises:
            AtomeshError: one that settles the call, or where both failed the first attempt's.
        """
        begun = self._clock.now()
        first = asyncio.create_task(self._attempt(pick, work), name=f"attempt {pick.endpoint.address}")
        tasks = [first]
        winner: asyncio.Task[Answer] | None = None
        try:
            await asyncio.wait(tasks, timeout=after)
            if first.done():  # 19 times in 20
                return first.result()
            if (other := self._spare(pick, idempotent)) is not None:
                second = self._attempt(other, work, begun)
                tasks.append(asyncio.create_task(second, name=f"hedge {other.endpoint.address}"))
            winner = await _first_good(tasks)
            return winner.result()
        finally:
            if len(tasks) > 1 or not first.done():
                for task in tasks:  # each has begun, and frees its slot by itself
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            if len(tasks) > 1:
                self._fleet.series.hedge(won=winner is tasks[1] and winner.exception() is None)

    def _spare(self, first: Pick, idempotent: bool | None) -> Pick | None:
        """Where the second attempt goes; None where it is not to be."""
        now = self._clock.now()
        other = self._fleet.balancer.spare(self.call, now, (*self.call.tried, first.candidate))
        if other is None:
            return None
        if (idempotent or other.endpoint.idempotent) and pay(self._budget, now):
            self._hedged = True
            self._executed += 1
            return other
        other.done(now, errors.Cancelled(executed=False))
        return None

    def _note(self, address: str, failure: AtomeshError, seconds: float) -> None:
        self._fleet.series.attempt(address, reason_of(failure))
        attempt = Attempt(address, str(failure.reason), seconds, failure.executed, failure.message)
        self.call.attempts.append(attempt)

    async def _after(self, error: AtomeshError, pick: Pick, idempotent: bool) -> None:
        """Returns when another attempt is to be made; raises the error where not."""
        if error.executed is False and isinstance(error, errors.Refused):
            self._refused += 1
        else:
            self._executed += 1
        history = History(self._executed, self._refused, len(self._fleet.balancer.candidates), idempotent)
        now = self._clock.now()
        decision = decide(error, history, self._budget, now, self._rng)
        if decision.next is Next.FAIL or now + decision.delay >= self.call.deadline:
            raise error
        if self.trace is not None:
            self.trace.follows(error, decision.next)
        if decision.next is Next.ELSEWHERE:
            self.call.tried = (*self.call.tried, pick.candidate)
        elif decision.next is Next.WAIT:
            self.call.tried, self._refused = (), 0
        else:
            self._fleet.series.retry(reason_of(error))
            # Elsewhere if there is an elsewhere: the one that failed is asked last.
            alone = len(self._fleet.balancer.candidates) == 1
            self.call.tried = () if alone else (pick.candidate,)
            await self._clock.sleep(decision.delay)
        if error is self._broken_last:
            # It had lapsed, or the endpoint does not mean what it says: then this would go round and round.
            delay = RETRY_BACKOFF.delay(self._broken, self._rng)
            await self._clock.sleep(min(delay, self.call.deadline - now))


async def _first_good(tasks: Collection[asyncio.Task[Answer]]) -> asyncio.Task[Answer]:
    """The first that has an answer, or an error that settles the call; where all failed otherwise, the first of all."""
    pending = set(tasks)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task in done:
                error = task.exception()
                if error is None or not (isinstance(error, AtomeshError) and goes_on(error)):
                    return task
    return next(iter(tasks))
