"""A call whose output comes in chunks: `async with mesh.stream(...) as stream: async for chunk in stream`.

It waits, is picked for and is tried elsewhere like any call, until the first
chunk has come: what a caller has seen cannot be taken back, so from then on an
error is final. Nothing is read ahead. A caller that reads slowly holds its agent
back, one that leaves the `async with` ends the work, and either way the slot
counts as taken here until the stream has ended.
"""

from __future__ import annotations

from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

from google.protobuf.message import Message

from atomesh.balancer.metrics import reason_of
from atomesh.balancer.policies import check_policy
from atomesh.balancer.stream_walk import StreamAttempt, StreamWalk
from atomesh.balancer.tracing import CallTrace
from atomesh.balancer.waiting import Call
from atomesh.balancer.work import Work
from atomesh.core import errors
from atomesh.core.context import current_tracer
from atomesh.core.contract import Contract, unpack
from atomesh.core.errors import AtomeshError, Attempt
from atomesh.v1 import agent_pb2

if TYPE_CHECKING:
    from google.protobuf.any_pb2 import Any as AnyMessage

    from atomesh.balancer.client import CallOptions, Client

Chunk_co = TypeVar("Chunk_co", bound=Message, covariant=True)
Out_co = TypeVar("Out_co", bound=Message, covariant=True)


class Stream(Generic[Chunk_co, Out_co]):
    """One call's chunks, and its output once they have come. It is its own iterator, for one task."""

    def __init__(self, client: Client, target: str | Contract[Any, Any], input: Message, options: CallOptions) -> None:
        """Nothing is sent before the first chunk is asked for."""
        self._plan = _Plan(client, target, input, options)
        self._attempt: StreamAttempt | None = None
        self._entered = False
        self._output: Any = None
        self._info: agent_pb2.ExecutionInfo | None = None
        self._error: AtomeshError | None = None
        self.chunks = 0
        """Chunks that have come."""

    async def __aenter__(self) -> Self:
        """Finds the agent, and all that is needed to read what it will send.

        Raises:
            AtomeshError: there is none, its registry is away, or the input is of another type.
        """
        self._entered = True
        try:
            await self._plan.prepare()
        except BaseException as error:
            self._fail(error)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the call where it has not ended."""
        await self.aclose()

    def __aiter__(self) -> Self:
        """Itself."""
        return self

    async def __anext__(self) -> Chunk_co:
        """The next chunk.

        Raises:
            AtomeshError: the call failed; after chunks it is not tried again.
        """
        if self._error is not None:
            raise self._error
        if self._info is not None:
            raise StopAsyncIteration
        if not self._entered:
            raise errors.InvalidArgument("the stream is not open; write `async with mesh.stream(...) as stream:`")
        try:
            chunk = await self._next()
        except BaseException as error:
            self._fail(error)
            raise
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    async def result(self) -> Out_co:
        """The output; chunks that nobody has asked for are dropped.

        Raises:
            AtomeshError: the call failed.
        """
        async for _ in self:
            continue
        return self.output

    @property
    def output(self) -> Out_co:
        """The output, once the stream has been read to its end."""
        self._check_ended()
        return cast(Out_co, self._output)

    @property
    def info(self) -> agent_pb2.ExecutionInfo:
        """Where and how long it ran; there as soon as the output is."""
        return self._check_ended()

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The attempts that failed; mostly none."""
        return tuple(self._plan.call.attempts) if self._entered else ()

    @property
    def queue_wait(self) -> float:
        """Seconds that the call waited in this client for a slot."""
        return self._plan.call.queue_wait if self._entered else 0.0

    async def aclose(self) -> None:
        """Ends the call where it has not ended; the agent hears so at once. Twice is fine."""
        if self._entered and self._info is None and self._error is None:
            self._fail(errors.Cancelled("the stream was closed before its end"))

    async def _next(self) -> Chunk_co | None:
        """The next chunk; None where the output has come instead."""
        plan = self._plan
        if self._attempt is None:
            self._attempt, part = await plan.walk.open(plan.work, plan.options.idempotent)
        else:
            part = await self._attempt.read()
        while part.WhichOneof("part") == "chunk":
            # Only an endpoint of a newer contract has chunks where none were expected.
            kind = plan.chunk or await plan.walk.chunk_class(self._attempt.pick.endpoint)
            if kind is not None:
                chunk = _read(plan.agent, part.chunk, kind)
                self.chunks += 1
                return cast(Chunk_co, chunk)
            part = await self._attempt.read()
        output = _read(plan.agent, part.response.output, plan.output)
        await self._attempt.finish(part.response)
        self._output, self._info = output, part.response.info
        plan.end(None)
        return None

    def _check_ended(self) -> agent_pb2.ExecutionInfo:
        if self._error is not None:
            raise self._error
        if self._info is None:
            raise errors.InvalidArgument("the stream has not ended; read it to its end, or `await stream.result()`")
        return self._info

    def _fail(self, failure: BaseException) -> None:
        """Ends the call for good, with what is raised or with its caller's leaving."""
        error = failure if isinstance(failure, AtomeshError) else errors.Cancelled("the caller went away")
        if self._attempt is not None:
            self._attempt.end(error)
        if self.chunks:
            error.message = f"{error.message} (after {self.chunks} chunk{'s' if self.chunks > 1 else ''})"
            error.executed = True
        self._error = error
        self._plan.explain(error)
        self._plan.end(error)


class _Plan:
    """A call before it is sent: what it needs of its client, and what is counted when it ends."""

    call: Call
    work: Work
    walk: StreamWalk
    output: type[Message]
    chunk: type[Message] | None = None
    trace: CallTrace | None = None

    def __init__(self, client: Client, target: str | Contract[Any, Any], input: Message, options: CallOptions) -> None:
        self.agent = target if isinstance(target, str) else target.agent
        self.options = options
        self._client = client
        self._target = target
        self._input = input
        self._request_id = ""
        self._series = client._others
        self._begun = client._clock.now()
        self._ended = False

    async def prepare(self) -> None:
        """Meets the agent. Its deadline counts from here."""
        client, target, policy = self._client, self._target, self.options.policy
        self._begun = begun = client._clock.now()
        deadline, context = client._scope(self.options, begun)
        self._request_id = context.request_id
        self.call = call = Call(deadline, check_policy(policy) if policy else client._policy, context.session_id)
        call.returns = self.agent in context.via
        call.fail_fast = self.options.fail_fast
        if (tracer := client._tracer or current_tracer()) is not None:
            self.trace = CallTrace(tracer, self.agent, context, "ExecuteStream")
            context = self.trace.context
        fleet = await client._all_fleets.meet(self.agent, self.options.version, deadline)
        self._series = fleet.series
        client._check_type(fleet, self._input)
        # Known before anything is sent: work whose outcome cannot be read should not be done.
        if isinstance(target, str):
            self.output = await fleet.output_class(deadline)
        else:
            self.output, self.chunk = target.output, target.chunk
        self.chunk = self.chunk or await fleet.chunk_class(deadline)
        self.work = Work(self.agent, context, self._input)
        client._budget.deposit()
        self.walk = StreamWalk(fleet, call, client._budget, client._metrics, client._clock, client._rng)
        self.walk.trace = self.trace

    def explain(self, error: AtomeshError) -> None:
        """Puts into the error where the call was tried, and its names."""
        if hasattr(self, "call"):
            error.attempts = tuple(self.call.attempts)
        origin = error.origin
        request_id = origin.request_id or self._request_id
        error.origin = replace(origin, agent=origin.agent or self.agent, request_id=request_id)

    def end(self, failure: AtomeshError | None) -> None:
        """Counts the call, once."""
        if self._ended:
            return
        self._ended = True
        reason = "OK" if failure is None else reason_of(failure)
        self._series.call(reason, self._client._clock.now() - self._begun)
        if not hasattr(self, "call"):
            return
        if self.call.queue_wait:
            self._series.queue_seconds.observe(self.call.queue_wait)
        if self.trace is not None:
            self.trace.end(failure, self.call)


def _read(agent: str, packed: AnyMessage, expected: type[Message]) -> Message:
    try:
        return unpack(packed, expected)
    except errors.WrongType as error:
        message = f"{agent} answered with what its contract does not name: {error.message}"
        raise errors.InvalidOutput(message) from None
