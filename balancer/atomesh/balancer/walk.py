"""One call's way: pick, attempt, and what follows when an attempt fails."""

from __future__ import annotations

import random

from google.rpc import code_pb2

from atomesh.balancer.balancer import Pick
from atomesh.balancer.budget import RetryBudget
from atomesh.balancer.fleet import Fleet
from atomesh.balancer.metrics import ClientMetrics, reason_of
from atomesh.balancer.retry import History, Next, decide
from atomesh.balancer.waiting import Call
from atomesh.balancer.work import Answer, Work
from atomesh.core import errors
from atomesh.core.clock import Clock
from atomesh.core.errors import AtomeshError, Attempt

_WENT_AWAY = errors.Cancelled("the caller went away")


class Walk:
    """The attempts of one call; the call keeps those that failed."""

    __slots__ = ("_budget", "_clock", "_executed", "_fleet", "_grpc", "_refused", "_rng", "call")

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
        self._fleet = fleet
        self._budget = budget
        self._grpc = metrics.execute
        self._clock = clock
        self._rng = rng
        self._refused = 0
        self._executed = 0

    async def run(self, work: Work, idempotent: bool | None) -> Answer:
        """The answer.

        Raises:
            AtomeshError: the last attempt's, when nothing more is to be tried.
        """
        while True:
            pick = self._fleet.pick_now(self.call) or await self._fleet.wait(self.call)
            try:
                return await self._attempt(pick, work)
            except AtomeshError as error:
                twice = pick.endpoint.idempotent if idempotent is None else idempotent
                await self._after(error, pick, twice)

    async def _attempt(self, pick: Pick, work: Work) -> Answer:
        now, address, series = self._clock.now, pick.endpoint.address, self._grpc
        begun = now()
        series.unary_began()
        failure: AtomeshError | None = _WENT_AWAY  # unless it ends otherwise
        running: int | None = None
        try:
            subchannel = self._fleet.subchannel(address)
            grant, pick.grant = pick.grant, None
            call = self.call
            answer = await subchannel.execute(work, call.deadline, grant=grant, returns=call.returns)
            failure, running = None, answer.running
            return answer
        except errors.UnknownAgent as error:
            failure = errors.WrongInstance(f"{address} does not serve {self._fleet.agent} any more: {error.message}")
            raise failure from None
        except AtomeshError as error:
            failure = error
            raise
        finally:
            ended = now()
            if failure is None:
                series.unary_ended(code_pb2.OK, ended - begun)
                self._fleet.series.attempt(address, "OK")
            else:
                series.unary_ended(failure.code, ended - begun)
                self._note(address, failure, ended - begun)
            pick.done(ended, failure, running)
            self._fleet.settle()

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
