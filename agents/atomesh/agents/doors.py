"""The two gRPC doors of an agent: Execute with an Any, and its contract's own service."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from atomesh.agents.calls import Done
from atomesh.agents.served import ServedAgent
from atomesh.agents.streams import Send
from atomesh.core import headers
from atomesh.core.context import Context
from atomesh.core.contract import TYPE_URL_PREFIX, pack_into, unpack
from atomesh.core.errors import AtomeshError, InvalidArgument, UnknownAgent, WrongInstance, WrongType
from atomesh.rpc import server as rpc_server
from atomesh.rpc.endings import answer_now
from atomesh.rpc.mux.slots import Claim
from atomesh.rpc.server import Server
from atomesh.v1 import agent_pb2

ServicerContext: TypeAlias = grpc.aio.ServicerContext[Any, Any]
_NANOS = 1_000_000_000
_AT_A_GLANCE = 64  # the smallest limit on a string of ExecuteRequest; those in its Context are twice that or more


Guard: TypeAlias = Callable[[Iterable[tuple[str, str | bytes]] | None], None]
"""Lets a call's headers pass, or raises Unauthenticated."""


def anybody(metadata: Iterable[tuple[str, str | bytes]] | None) -> None:
    """The guard of an endpoint that asks for nothing."""


class _GrpcCall:
    """What both doors know of a call from gRPC."""

    __slots__ = ("_answering", "_grpc", "context")

    typed = False
    context: Context
    _grpc: ServicerContext

    def timeout(self) -> float | None:
        """What is left of the caller's `grpc-timeout`."""
        return self._grpc.time_remaining()

    def no_wait(self) -> bool:
        """Whether the header says so."""
        return any(key == headers.NO_WAIT for key, _ in self._grpc.invocation_metadata() or ())

    def answer(self, error: AtomeshError) -> None:
        """Answers from a task of its own, since the handler's is busy."""
        self._answering = asyncio.create_task(answer_now(self._grpc, error))  # kept, or it might be collected


class AnyCall(_GrpcCall):
    """A call through AgentService.Execute."""

    __slots__ = ("_request",)

    def __init__(self, request: agent_pb2.ExecuteRequest, grpc_context: ServicerContext) -> None:
        """The context is the request's, with a request id made up where it has none."""
        context = Context.from_proto(request.context)
        self.context = context if context.request_id else context.with_request_id()
        self._grpc = grpc_context
        self._request = request

    def no_wait(self) -> bool:
        """Whether the request says so, or the header."""
        return self._request.no_wait or super().no_wait()

    def read(self, expected: type[Message]) -> Message:
        """The input, by the name in its type URL."""
        return unpack(self._request.input, expected)


class TypedCall(_GrpcCall):
    """A call through the service that the contract's own file declares; its context is in the headers."""

    __slots__ = ("_payload",)

    typed = True

    def __init__(self, payload: bytes, context: Context, grpc_context: ServicerContext) -> None:
        """The payload is parsed once it has a slot."""
        self.context = context
        self._grpc = grpc_context
        self._payload = payload

    def read(self, expected: type[Message]) -> Message:
        """The input."""
        try:
            return expected.FromString(self._payload)
        except DecodeError:
            raise WrongType(
                f"{len(self._payload)} bytes that do not parse as {expected.DESCRIPTOR.full_name}; "
                "check the sender's contract"
            ) from None


class ExecuteDoor:
    """AgentService.Execute for all agents of the process."""

    def __init__(self, agents: Mapping[str, ServedAgent], guard: Guard = anybody) -> None:
        """By name; `guard` lets a call's headers pass."""
        self._guard = guard
        self._answers = {name: _Answer(served) for name, served in agents.items()}
        if len(agents) == 1:
            self._answers[""] = next(iter(self._answers.values()))

    async def execute(
        self,
        request: agent_pb2.ExecuteRequest,
        grpc_context: ServicerContext,
        send: Send | None = None,
        claim: Claim | None = None,
    ) -> agent_pb2.ExecuteResponse:
        """Runs an agent once; `send` takes its chunks, `claim` is of a mux that has a grant for it."""
        call = AnyCall(request, grpc_context)
        try:
            answer = self._answers.get(request.agent)
            if answer is None:
                raise unknown(request.agent, self._answers)
            if self._guard is not anybody:  # reading headers costs as much as the context does
                self._guard(grpc_context.invocation_metadata())
            served = answer.served
            if request.instance_id and request.instance_id != served.where.instance_id:
                raise served.with_origin(other_instance(served, request.instance_id), call.context.request_id)
            done = await served.run(call, send, claim)
        except AtomeshError as error:
            error.max_status_bytes = request.max_status_bytes
            grpc_context.set_trailing_metadata((headers.header(headers.REQUEST_ID, call.context.request_id),))
            raise
        return answer.of(call.context.request_id, done)


class StreamDoor:
    """AgentService.ExecuteStream for all agents of the process: Execute, with chunks before its answer."""

    def __init__(
        self, agents: Mapping[str, ServedAgent], claim: Callable[[bytes], Claim | None], guard: Guard = anybody
    ) -> None:
        """By name; `claim` finds that of a mux by its id, `guard` lets a call's headers pass."""
        self._agents = agents
        self._claim = claim
        self._door = ExecuteDoor(agents, guard)

    async def execute(
        self,
        request: agent_pb2.ExecuteStreamRequest,
        grpc_context: ServicerContext,
        write: Callable[[agent_pb2.ExecuteStreamResponse], Awaitable[None]],
    ) -> None:
        """Runs an agent once. What has no chunks answers with none."""

        async def send(chunk: Message) -> None:
            part = agent_pb2.ExecuteStreamResponse()
            pack_into(part.chunk, chunk)
            await write(part)

        claim = self._claim(request.grant) if request.grant else None
        if claim is not None:
            claim.running += 1
        try:
            response = await self._door.execute(request.request, grpc_context, send, claim)
        finally:
            if claim is not None:
                claim.running -= 1
        with self._agents[response.info.agent].delivering():
            await write(agent_pb2.ExecuteStreamResponse(response=response))


def check_request(request: Message) -> None:
    """Lets a request of AgentService pass; one that nobody could object to at a glance.

    Every string of a context of 128 bytes is within its limit. What is larger,
    or has lists and maps, is looked at rule by rule, which costs ten times as
    much. Raises InvalidArgument naming the fields.
    """
    if (
        isinstance(request, agent_pb2.ExecuteRequest)
        and len(request.agent) <= _AT_A_GLANCE
        and len(request.instance_id) <= _AT_A_GLANCE
        and request.HasField("input")
        and (context := request.context).ByteSize() <= 2 * _AT_A_GLANCE
        and not (context.metadata or context.via)
    ):
        return
    rpc_server.check_request(request)


class _Answer:
    """Makes an agent's answers. What is the same in all of them is serialized once."""

    def __init__(self, served: ServedAgent) -> None:
        self.served = served
        self._constant = b""

    def of(self, request_id: str, done: Done) -> agent_pb2.ExecuteResponse:
        """The answer."""
        served = self.served
        response = agent_pb2.ExecuteResponse.FromString(self._constant or self._constant_part())
        response.output.value = done.output.SerializeToString()
        info = response.info
        info.request_id = request_id
        started = served.where.clock.wall() - done.took
        info.started_at.seconds = seconds = int(started)
        info.started_at.nanos = int((started - seconds) * _NANOS)
        if done.waited:
            _set(info.queue_time, done.waited)
        _set(info.execution_time, done.took)
        if done.notes:
            info.notes.update(done.notes)
        admission, load = served.admission, info.load
        load.slots = admission.slots
        if admission.in_flight:
            load.in_flight = admission.in_flight
            load.queued = admission.queued
        return response

    def _constant_part(self) -> bytes:
        served = self.served
        response = agent_pb2.ExecuteResponse(
            info=agent_pb2.ExecutionInfo(
                agent=served.spec.name,
                version=served.spec.version,
                instance_id=served.where.instance_id,
                endpoint=served.where.address(),
            )
        )
        response.output.type_url = TYPE_URL_PREFIX + served.spec.contract.output_type
        self._constant = response.SerializeToString()
        return self._constant


class TypedDoor:
    """One service of a contract's own, for all agents of the process that have that contract."""

    def __init__(self, service: str, agents: Mapping[str, ServedAgent], guard: Guard = anybody) -> None:
        """By name; `guard` lets a call's headers pass."""
        self._guard = guard
        self._service = service
        self._agents = agents

    def add_to(self, server: Server) -> None:
        """Adds the service. The input arrives as bytes, so that what does not parse is refused in our own words."""
        output = next(iter(self._agents.values())).spec.contract.output
        handler: Any = grpc.unary_unary_rpc_method_handler(self.execute, None, output.SerializeToString)
        server.add_registered_method_handlers(self._service, {"Execute": handler})

    async def execute(self, payload: bytes, grpc_context: ServicerContext) -> Message:
        """Runs the agent that the call means, once."""
        metadata = grpc_context.invocation_metadata() or ()
        context = headers.decode(metadata).with_request_id()
        grpc_context.set_trailing_metadata((headers.header(headers.REQUEST_ID, context.request_id),))
        self._guard(metadata)
        served = self._pick(headers.lookup(metadata, headers.AGENT))
        return (await served.run(TypedCall(payload, context, grpc_context))).output

    def _pick(self, name: str) -> ServedAgent:
        if not name and len(self._agents) == 1:
            return next(iter(self._agents.values()))
        if not name:
            raise InvalidArgument(
                f"{' and '.join(sorted(self._agents))} are served here as {self._service}; "
                f"name one in the header {headers.AGENT}"
            )
        if name not in self._agents:
            raise unknown(name, self._agents)
        return self._agents[name]


def unknown(name: str, agents: Iterable[str]) -> AtomeshError:
    """The refusal of a call for an agent that is not here, or for none where there are several."""
    here = ", ".join(sorted(known for known in agents if known))
    if not name:
        return InvalidArgument(f"the call names no agent, and there are several here; name one of {here}")
    return UnknownAgent(f"no agent {name!r:.80} here; there is {here}")


def other_instance(served: ServedAgent, meant: str) -> WrongInstance:
    """The refusal of a call for an instance that is not this one."""
    return WrongInstance(
        f"{served.spec.name} at {served.where.address()} is instance {served.where.instance_id}, "
        f"not {meant!r:.80}; look again where that one is"
    )


def _set(duration: Any, seconds: float) -> None:
    """Sets a google.protobuf.Duration in place."""
    whole = int(seconds)
    duration.seconds = whole
    duration.nanos = int((seconds - whole) * _NANOS)
