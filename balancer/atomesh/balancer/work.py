"""What is to be executed and what came of it, in whichever form the transport has it.

A call is made once and may be sent several times, over muxes and over unary
Execute; each form is made when it is first asked for, and kept.
"""

from __future__ import annotations

import copy

from google.protobuf.message import Message

from atomesh.core import errors
from atomesh.core.context import Context
from atomesh.core.contract import TYPE_URL_PREFIX
from atomesh.core.times import YEAR_10000
from atomesh.rpc.channel import MAX_MESSAGE_BYTES, MAX_STATUS_BYTES
from atomesh.v1 import agent_pb2, context_pb2, mux_pb2

_MAX_CONTEXT = 512 * 1024
"""Bytes of a context. Its own limits (context.proto) come to 300 KiB; what is more
would make a frame of the mux too large for gRPC, and end all calls in it."""
_ROOM = 64 * 1024  # what surrounds an input: context, names and framing


class Work:
    """One call's input and context."""

    __slots__ = (
        "_context",
        "_plain",
        "_request",
        "agent",
        "context",
        "input",
        "key",
        "request_id",
        "timestamp_us",
        "type_name",
    )

    def __init__(self, agent: str, context: Context, input: Message) -> None:
        """Serializes the input.

        Raises:
            InvalidArgument: the context cannot be sent.
            MessageTooLarge: nor can the input.
        """
        self.agent = agent
        self.context = context
        self.input: bytes = input.SerializeToString()
        self.type_name: str = input.DESCRIPTOR.full_name
        wall = context.timestamp
        self.timestamp_us = int(wall * 1e6) if wall is not None and 0 < wall < YEAR_10000 else 0
        self._context = context_pb2.Context()
        self._request: agent_pb2.ExecuteRequest | None = None
        self._plain = context.is_plain
        if self._plain:
            self.request_id = context.request_id.encode()
            self.key = context.idempotency_key.encode() if context.idempotency_key else b""
        else:
            self._write_context()
        if len(self.input) > MAX_MESSAGE_BYTES - _ROOM:
            raise errors.MessageTooLarge(
                f"the input is {len(self.input)} bytes; at most {MAX_MESSAGE_BYTES - _ROOM} can be sent",
                executed=False,
            )

    def traced(self, traceparent: str) -> Work:
        """The same as a child of another span. The input is not serialized again."""
        other = copy.copy(self)
        other.context = self.context.traced(traceparent)
        other._context, other._request, other._plain = context_pb2.Context(), None, False
        other._write_context()
        return other

    @property
    def rest(self) -> bytes:
        """The serialized context where it has more than a request id, a key and a timestamp; else empty."""
        return b"" if self._plain else self._context.SerializeToString()

    def _write_context(self) -> None:
        self.context.write(self._context)
        self.request_id = self.key = b""
        if (size := self._context.ByteSize()) > _MAX_CONTEXT:
            raise errors.InvalidArgument(f"the context is {size} bytes; at most {_MAX_CONTEXT} can be sent")

    @property
    def request(self) -> agent_pb2.ExecuteRequest:
        """What a unary Execute takes."""
        if self._request is None:
            if self._plain:
                self.context.write(self._context)
            # A mesh client holds its calls itself: an endpoint that is full should say so at once.
            self._request = agent_pb2.ExecuteRequest(
                agent=self.agent, context=self._context, no_wait=True, max_status_bytes=MAX_STATUS_BYTES
            )
            self._request.input.type_url = TYPE_URL_PREFIX + self.type_name
            self._request.input.value = self.input
        return self._request


class Answer:
    """What an execution gave, however it came."""

    __slots__ = ("_hello", "_reply", "_request_id", "output", "response")

    def __init__(
        self,
        output: bytes,
        response: agent_pb2.ExecuteResponse | None = None,
        reply: mux_pb2.MuxReply | None = None,
        hello: mux_pb2.MuxHello | None = None,
        request_id: str = "",
    ) -> None:
        """`response` of a unary call, or `reply` and `hello` of a mux."""
        self.output = output
        self.response = response
        self._reply = reply
        self._hello = hello
        self._request_id = request_id

    @property
    def type_name(self) -> str:
        """Full name of the output's type, as the endpoint says."""
        if self.response is not None:
            return self.response.output.type_url.rpartition("/")[2]
        assert self._hello is not None, "nothing is answered before a hello"
        return self._hello.output_type

    @property
    def endpoint(self) -> str:
        """Who ran it, host:port, as the endpoint says."""
        if self.response is not None:
            return self.response.info.endpoint
        assert self._hello is not None, "nothing is answered before a hello"
        return self._hello.endpoint

    @property
    def running(self) -> int | None:
        """Executions in flight there when it answered; None where a mux tells that by itself."""
        return None if self.response is None else self.response.info.load.in_flight

    @property
    def seconds(self) -> float:
        """How long the agent ran."""
        if self.response is None:
            assert self._reply is not None, "an answer came one way or the other"
            return float(self._reply.execution_us) / 1e6
        took = self.response.info.execution_time
        return float(took.seconds + took.nanos / 1e9)

    @property
    def waited(self) -> float:
        """Seconds that the call waited at the endpoint for a slot."""
        if self.response is None:
            assert self._reply is not None, "an answer came one way or the other"
            return float(self._reply.queue_us) / 1e6
        waited = self.response.info.queue_time
        return float(waited.seconds + waited.nanos / 1e9)

    def info(self, agent: str) -> agent_pb2.ExecutionInfo:
        """Where and how long it ran."""
        if self.response is not None:
            return self.response.info
        reply, hello = self._reply, self._hello
        assert reply is not None, "an answer came one way or the other"
        assert hello is not None, "nothing is answered before a hello"
        info = agent_pb2.ExecutionInfo(
            agent=agent,
            version=hello.agent_version,
            instance_id=hello.instance_id,
            endpoint=hello.endpoint,
            request_id=reply.request_id or self._request_id,
        )
        info.started_at.FromMicroseconds(reply.started_us)
        info.load.slots = hello.slots
        if reply.queue_us:
            info.queue_time.FromMicroseconds(reply.queue_us)
        info.execution_time.FromMicroseconds(reply.execution_us)
        if reply.notes:
            info.notes.update(reply.notes)
        return info
