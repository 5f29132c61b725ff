"""One agent as it is served: a call's way to a slot, through the agent and back.

Nearly every call finds a free slot, and then no task, timer or queue entry is
made for it: the execution runs in the task that gRPC has made for the call.
gRPC cancels that task at the caller's deadline and when the caller goes away.
Where the caller gives no deadline, `default_timeout` is one, with a timer.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
from collections.abc import Iterator
from functools import partial
from typing import Any

from google.protobuf.message import Message

from atomesh.agents._threads import DaemonThreads
from atomesh.agents.admission import Admission, Asking, Waiter
from atomesh.agents.agent import Agent, StreamingAgent, is_async
from atomesh.agents.calls import Alarm, Call, Done, Where
from atomesh.agents.context import ExecutionContext
from atomesh.agents.failures import fields, log, log_failure, outcome_of, translate
from atomesh.agents.metrics import AgentSeries, Outcome
from atomesh.agents.providers import Providers, told
from atomesh.agents.spec import AgentSpec
from atomesh.agents.streams import Send, Streaming
from atomesh.agents.tracing import InSlot, Traced
from atomesh.core.context import MAX_HOPS, SCOPE, Context
from atomesh.core.errors import (
    AgentCrashed,
    AtomeshError,
    Conflict,
    ConnectionLost,
    DeadlineExceeded,
    Draining,
    InvalidInput,
    InvalidOutput,
    Origin,
)
from atomesh.core.rules import rules_for
from atomesh.core.tracing import Tracer
from atomesh.rpc.mux.slots import Claim

_CLOCKS_DIFFER = 0.01
"""Seconds by which gRPC's timer may be before ours. Less takes some deadlines
for callers that left; more takes callers that left for deadlines."""


class ServedAgent:
    """Runs one agent's executions in its slots."""

    def __init__(
        self,
        agent: Agent[Any, Any],
        spec: AgentSpec,
        where: Where,
        admission: Admission,
        series: AgentSeries,
        tracer: Tracer | None = None,
    ) -> None:
        """Nothing is started before `start`."""
        self.spec = spec
        self.where = where
        self.admission = admission
        self.series = series
        self.cut = ""
        """Why the endpoint itself has ended what ran; empty while it has not."""
        self._agent = agent
        self._input: type[Message] = spec.contract.input
        self._output: type[Message] = spec.contract.output
        self._rules = rules_for(spec.contract.descriptor.hash)
        self._now = where.clock.now
        self._providers = Providers(spec.name, spec.providers)
        self._provides = bool(self._providers)
        self._threads = None if is_async(agent) else DaemonThreads(spec.name, spec.slots)
        self._streaming = Streaming(agent, spec) if isinstance(agent, StreamingAgent) else None
        self._in_slot: InSlot = self._execute
        if tracer is not None:
            self._in_slot = Traced(tracer, spec, where, admission, self._execute)
        self._delivering = 0
        self._running: set[asyncio.Task[Any]] = set()
        self._idle: asyncio.Event | None = None

    async def start(self) -> None:
        """Starts the providers, then the agent.

        Raises:
            Conflict: one of them failed; it says which and why.
        """
        await self._providers.start()
        try:
            await self._agent.start()
        except Exception as error:
            await self._providers.close()
            raise Conflict(f"agent {self.spec.name} did not start: {told(error)}") from error

    async def close(self) -> None:
        """Closes the agent, then its providers, then its threads; those that still run end with the process."""
        try:
            await self._agent.close()
        except Exception:  # noqa: BLE001 # the author's code; what is left must close all the same
            log.exception("agent %s did not close", self.spec.name)
        await self._providers.close()
        if self._threads is not None:
            self._threads.shutdown()

    def cancel_running(self, why: str) -> int:
        """Ends what still runs; how many that were. A thread runs on, but its caller is answered."""
        self.cut = why
        for task in self._running:
            task.cancel()
        return len(self._running)

    async def idle(self) -> None:
        """Returns once no slot is taken, and every output has left."""
        while self.admission.in_flight or self._delivering:
            self._idle = asyncio.Event()
            await self._idle.wait()

    @contextlib.contextmanager
    def delivering(self) -> Iterator[None]:
        """Holds up `idle` while an output is sent behind chunks that its caller has yet to read."""
        self._delivering += 1
        try:
            yield
        finally:
            self._delivering -= 1
            self._freed()

    async def run(self, call: Call, send: Send | None = None, claim: Claim | None = None) -> Done:
        """Executes once; `send` takes the chunks of an agent that has some, `claim` is of a mux that has a grant for it.

        Raises:
            AtomeshError: it was refused or failed; the origin says where.
        """
        now = self._now()
        task = asyncio.current_task()
        assert task is not None, "a call runs in a task"
        alarm = None
        if (timeout := call.timeout()) is None:
            timeout = self.where.default_timeout
            alarm = Alarm(timeout, task, partial(self._answer_late, call))
        provided: dict[type, Any] = {}
        context = ExecutionContext(
            call.context, now + timeout, self.spec.name, self.where.instance_id, provided, self._now
        )
        self._running.add(task)
        try:
            waited = 0.0
            granted = claim is not None and timeout > 0 and self._use_grant(call.context, claim, now)
            if not granted and (timeout <= 0 or call.context.via or not self.admission.try_enter()):
                waited = await self._enter(call, context, now)
            return await self._in_slot(call, context, provided, waited, send)
        except AtomeshError as error:
            raise self.with_origin(error, context.request_id) from None
        finally:
            self._running.discard(task)
            if alarm is not None:
                alarm.cancel()

    async def run_in_slot(self, call: Call, deadline: float, *, wait: bool = False) -> Done:
        """Executes once in a slot that the call has already, or waits for; it is given back.

        Whoever calls watches the deadline.

        Raises:
            AtomeshError: it failed; the origin says where.
        """
        task = asyncio.current_task()
        assert task is not None, "a call runs in a task"
        provided: dict[type, Any] = {}
        context = ExecutionContext(call.context, deadline, self.spec.name, self.where.instance_id, provided, self._now)
        self._running.add(task)
        try:
            waited = 0.0
            if wait and not self.admission.try_enter():
                waited = await self._enter(call, context, self._now())
            return await self._in_slot(call, context, provided, waited, None)
        except AtomeshError as error:
            raise self.with_origin(error, context.request_id) from None
        finally:
            self._running.discard(task)

    def check_depth(self, context: Context) -> None:
        """Raises CallTooDeep for a call that has passed through more agents than any sane plan needs."""
        if len(context.via) > MAX_HOPS:
            refusal = self.admission.refuse_too_deep(context.via)
            self.series.refused(refusal)
            raise refusal

    def _use_grant(self, context: Context, claim: Claim, now: float) -> bool:
        """Whether a grant of the mux has a slot for the call."""
        self.check_depth(context)
        return self.admission.enter(claim, True, now)

    def give_back(self) -> None:
        """Gives back a slot in which nothing was executed."""
        self.admission.leave(None, self._now())
        self._freed()

    def _answer_late(self, call: Call) -> None:
        """Answers for an execution that goes on after its deadline although it was cancelled."""
        error = DeadlineExceeded(f"{self.spec.name}: the deadline passed, and the work goes on", executed=True)
        call.answer(self.with_origin(error, call.context.request_id))

    def with_origin(self, error: AtomeshError, request_id: str) -> AtomeshError:
        """The error, saying that it arose here where it does not say where it did."""
        if not error.origin.agent:
            where = self.where
            error.origin = Origin(self.spec.name, where.address(), where.instance_id, request_id, where.clock.wall())
        return error

    async def _enter(self, call: Call, context: ExecutionContext, now: float) -> float:
        """Takes a slot, after the seconds that it returns."""
        decision = self.admission.ask(Asking(context.deadline, context.via, call.no_wait()), now)
        if decision is None:
            return 0.0
        waited = await self._wait(decision, context) if isinstance(decision, Waiter) else decision
        if isinstance(waited, AtomeshError):
            self.series.refused(waited)
            raise waited
        return waited

    async def _wait(self, waiter: Waiter, context: ExecutionContext) -> float | AtomeshError:
        """The seconds after which it was granted a slot, or why it was not."""
        loop = asyncio.get_running_loop()
        called: asyncio.Future[None] = loop.create_future()
        waiter.wake = partial(_settle, called)
        timer = loop.call_later(max(0.0, waiter.until - self._now()), waiter.wake)
        try:
            await called
        except asyncio.CancelledError:
            self.admission.withdraw(waiter, self._now())
            self._freed()
            if (refusal := self._why_cancelled(context, executed=False)) is None:
                raise
            return refusal
        finally:
            timer.cancel()
            waited = self._now() - waiter.since
            self.series.waits.observe(waited)
        return self.admission.give_up(waiter, self._now()) or waited

    async def _execute(
        self,
        call: Call,
        context: ExecutionContext,
        provided: dict[type, Any],
        waited: float,
        send: Send | None = None,
    ) -> Done:
        """Executes in a slot, and gives it back when that has really ended."""
        started = self._now()
        message = self._take(call, context)
        outcome, thread = Outcome.CRASHED, None
        outside = SCOPE.set(context)
        try:
            if self._provides:
                await self._providers.fill(provided, context)
            if self._streaming is not None:
                output = await self._streaming.run(message, context, send)
            elif self._threads is None:
                output = await self._agent.execute(message, context)
            else:
                thread = self._on_thread(self._threads, message, context)
                output = await asyncio.shield(thread)
            if not isinstance(output, self._output):
                raise self._wrong_type(output)
            if violations := self._rules.check(output):
                raise InvalidOutput(output=output, violations=violations)
            outcome = Outcome.OK
        except asyncio.CancelledError:
            failure = self._why_cancelled(context, executed=True)
            outcome = Outcome.CANCELLED if failure is None else outcome_of(failure)
            log_failure(context, failure, None)
            if failure is None:
                raise
            raise failure from None
        except Exception as error:  # noqa: BLE001 # the author's code may raise anything; logged in full
            failure = translate(error, context)
            outcome = outcome_of(failure)
            log_failure(context, failure, error)
            raise failure from None
        finally:
            SCOPE.reset(outside)
            ended = self._now()
            took = ended - started
            if thread is None or thread.done():
                self._leave(outcome, took, ended)
            else:
                thread.add_done_callback(partial(self._thread_ended, context, outcome, started))
        return Done(output, waited, took, context.notes)

    def _take(self, call: Call, context: ExecutionContext) -> Message:
        """The input, checked; where it is none, the slot is given back and nothing was executed."""
        try:
            message = call.read(self._input)
            if violations := self._rules.check(message):
                raise InvalidInput(violations=violations)
        except Exception as error:  # noqa: BLE001 # a rule of the contract may fail in any way; logged
            self.give_back()
            refusal = error if isinstance(error, AtomeshError) else translate(error, context)
            refusal.executed = False
            self.series.refused(refusal)
            log_failure(context, refusal, error)
            raise refusal from None
        return message

    def _wrong_type(self, output: object) -> AgentCrashed:
        """What became of a call whose execution returned something else than its contract says."""
        hint = "; declare it async def" if inspect.iscoroutine(output) else ""
        if inspect.iscoroutine(output):
            output.close()
        return AgentCrashed(
            f"{self.spec.name} returned {type(output).__name__}, its contract says {self._output.__name__}{hint}"
        )

    def _on_thread(self, threads: DaemonThreads, message: Message, context: ExecutionContext) -> asyncio.Future[Any]:
        here = contextvars.copy_context()
        return asyncio.get_running_loop().run_in_executor(threads, here.run, self._agent.execute, message, context)

    def _thread_ended(
        self, context: ExecutionContext, outcome: Outcome, started: float, thread: asyncio.Future[Any]
    ) -> None:
        """Gives back the slot of a thread whose caller has been answered long since."""
        ended = self._now()
        took = ended - started
        log.info("%s: its thread has returned after %.3f s", context.agent, took, extra=fields(context))
        self._leave(outcome, took, ended)

    def _leave(self, outcome: Outcome, took: float, now: float) -> None:
        self.series.ended(outcome, took)
        self.admission.leave(took, now, failed=outcome is not Outcome.OK)
        self._freed()

    def _freed(self) -> None:
        """A slot was given back: somebody may wait for none to be taken."""
        if self._idle is not None and not (self.admission.in_flight or self._delivering):
            self._idle.set()

    def _why_cancelled(self, context: ExecutionContext, *, executed: bool) -> AtomeshError | None:
        """What to answer a call whose task was cancelled; None where nobody is left to be answered."""
        task = asyncio.current_task()
        if task is None or not task.cancelling():
            return AgentCrashed(f"{context.agent} awaited something that had been cancelled")
        agent = context.agent
        error: AtomeshError | None = None
        if self.cut:
            error = (
                ConnectionLost(f"{agent}: {self.cut}", executed=True) if executed else Draining(f"{agent}: {self.cut}")
            )
        elif context.remaining() <= _CLOCKS_DIFFER:
            error = DeadlineExceeded(f"{agent}: the deadline passed", executed=executed)
        if error is not None:
            task.uncancel()
        return error


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
