"""The attempts at one stream: the last of them goes on until the stream ends."""

from __future__ import annotations

import random

from google.protobuf.message import Message
from google.rpc import code_pb2

from atomesh.balancer.budget import RetryBudget
from atomesh.balancer.fleet import Fleet
from atomesh.balancer.metrics import ClientMetrics
from atomesh.balancer.picks import Pick
from atomesh.balancer.stream_call import StreamCall
from atomesh.balancer.tracing import end_attempt
from atomesh.balancer.waiting import Call
from atomesh.balancer.walk import Walk
from atomesh.balancer.work import Work
from atomesh.core import errors
from atomesh.core.clock import Clock
from atomesh.core.contract import TYPE_URL_PREFIX
from atomesh.core.endpoint import Endpoint
from atomesh.core.errors import AtomeshError
from atomesh.core.tracing import Span
from atomesh.v1 import agent_pb2


class StreamWalk(Walk):
    """One stream's way to the endpoint that gives it."""

    __slots__ = ()

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
        super().__init__(fleet, call, budget, metrics, clock, rng)
        self._grpc = metrics.execute_stream

    async def open(self, work: Work, idempotent: bool | None) -> tuple[StreamAttempt, agent_pb2.ExecuteStreamResponse]:
        """The attempt that goes well, and the first part that came of it.

        Raises:
            AtomeshError: the last attempt's, when nothing more is to be tried.
        """
        while True:
            pick = self._fleet.pick_now(self.call) or await self._fleet.wait(self.call)
            attempt = StreamAttempt(self, pick)
            try:
                return attempt, await attempt.begin(work)
            except AtomeshError as error:
                twice = pick.endpoint.idempotent if idempotent is None else idempotent
                await self._after(error, pick, twice)

    async def chunk_class(self, endpoint: Endpoint) -> type[Message] | None:
        """The class of an endpoint's chunks; None where its contract has none."""
        return await self._fleet.chunk_class(self.call.deadline, endpoint)


class StreamAttempt:
    """One try: its pick is done when it has ended, whichever way."""

    def __init__(self, walk: StreamWalk, pick: Pick) -> None:
        """Counts it."""
        self.pick = pick
        self._walk = walk
        self._fleet = walk._fleet
        self._now = walk._clock.now
        self._begun = self._now()
        self._rpc: StreamCall | None = None
        self._span: Span | None = None
        self._ended = False
        self._series = walk._grpc
        self._series.started.inc()
        self._series.sent.inc()

    async def begin(self, work: Work) -> agent_pb2.ExecuteStreamResponse:
        """Sends the call; the first part of what comes.

        Raises:
            AtomeshError: it was refused or failed, and this attempt has ended.
        """
        address, call = self.pick.endpoint.address, self._walk.call
        try:
            if (trace := self._walk.trace) is not None:
                self._span, work = trace.attempt(self.pick.endpoint, call, work)
            grant, self.pick.grant = self.pick.grant, None
            self._rpc = self._fleet.subchannel(address).open_stream(work, call.deadline, grant=grant)
            return await self._part()
        except errors.UnknownAgent as error:
            moved = errors.WrongInstance(f"{address} does not serve {self._fleet.agent} any more: {error.message}")
            self.end(moved)
            raise moved from None
        except errors.RemoteError as error:
            if error.code == code_pb2.UNIMPLEMENTED and not error.origin.agent:
                return await self._without_chunks(work)
            self.end(error)
            raise
        except BaseException as error:
            self._end_with(error)
            raise

    async def read(self) -> agent_pb2.ExecuteStreamResponse:
        """The next part.

        Raises:
            AtomeshError: the call failed, and this attempt has ended.
        """
        try:
            return await self._part()
        except BaseException as error:
            self._end_with(error)
            raise

    async def finish(self, response: agent_pb2.ExecuteResponse) -> None:
        """Ends it well. The endpoint's word that all was said is waited for: who hangs up before it has cancelled."""
        try:
            if self._rpc is not None:
                await self._rpc.drain()
        finally:
            self.end(None, response.info.load.in_flight)

    def end(self, failure: AtomeshError | None, running: int | None = None) -> None:
        """Ends it; `running` is what the endpoint says it still executes. Twice is fine."""
        if self._ended:
            return
        self._ended = True
        if self._rpc is not None:
            self._rpc.close()
        ended, address = self._now(), self.pick.endpoint.address
        if failure is None:
            self._fleet.series.attempt(address, "OK")
        else:
            self._walk._note(address, failure, ended - self._begun)
        self._series.handled(code_pb2.OK if failure is None else failure.code, ended - self._begun)
        if self._span is not None:
            end_attempt(self._span, failure)
        self.pick.done(ended, failure, running)
        self._fleet.settle()

    def _end_with(self, error: BaseException) -> None:
        self.end(error if isinstance(error, AtomeshError) else errors.Cancelled("the caller went away"))

    async def _part(self) -> agent_pb2.ExecuteStreamResponse:
        assert self._rpc is not None, "a part is asked for once the call was sent"
        part = await self._rpc.read()
        if part is None or part.WhichOneof("part") is None:
            raise errors.InvalidOutput(f"{self._fleet.agent} ended a stream without its output")
        self._series.received.inc()
        return part

    async def _without_chunks(self, work: Work) -> agent_pb2.ExecuteStreamResponse:
        """What an endpoint gives that has no ExecuteStream, an agent in another language perhaps: the output alone."""
        endpoint, call = self.pick.endpoint, self._walk.call
        try:
            assert self._rpc is not None, "somebody has said that there is no ExecuteStream"
            self._rpc.close()
            self._rpc = None
            subchannel = self._fleet.subchannel(endpoint.address)
            answer = await subchannel.execute(work, call.deadline, grant=None, returns=call.returns)
        except BaseException as error:
            self._end_with(error)
            raise
        part = agent_pb2.ExecuteStreamResponse()
        part.response.info.CopyFrom(answer.info(self._fleet.agent))
        part.response.output.type_url = TYPE_URL_PREFIX + answer.type_name
        part.response.output.value = answer.output
        return part
