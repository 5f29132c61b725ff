"""Who asks, on which way, and until when: what travels with a call by itself.

An agent's author does nothing for it: the server sets the current scope for
the time of an execution, and every `Client.call` made in it is a child of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from atomesh.core.errors import InvalidArgument
from atomesh.core.times import from_timestamp, set_timestamp
from atomesh.core.tracing import Tracer
from atomesh.v1 import context_pb2

DEFAULT_TIMEOUT = 30.0
"""Seconds that a call may take where nobody says. Half of it cuts off slow
agents that work; twice of it lets a person wait a minute for nothing."""

MAX_HOPS = 32
"""Agents deep. Half would still do for every plan we know; twice only delays
the end of an endless one."""

_SHORT = 128  # bytes of a request id and of a key, as context.proto says
_NOTHING: Mapping[str, str] = MappingProxyType({})
_names = random.Random()  # seeded by the system; processes are spawned, never forked with it


@dataclass(slots=True, unsafe_hash=True)  # not frozen, which would triple the price of making one
class Context:
    """What travels with a call; a value, never changed once made. `atomesh/v1/context.proto` says what each field is."""

    request_id: str = ""
    user_id: str = ""
    session_id: str = ""
    metadata: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    traceparent: str = ""
    idempotency_key: str = ""
    timestamp: float | None = None
    via: tuple[str, ...] = ()

    @classmethod
    def begun(cls, wall: float) -> Context:
        """The context of a request that begins here and now."""
        return cls(new_request_id(), "", "", _NOTHING, "", "", wall, ())

    @classmethod
    def from_proto(cls, proto: context_pb2.Context) -> Context:
        """The context that a message carries."""
        return cls(
            proto.request_id,
            proto.user_id,
            proto.session_id,
            dict(metadata) if (metadata := proto.metadata) else _NOTHING,
            proto.traceparent,
            proto.idempotency_key,
            from_timestamp(proto.timestamp) if proto.HasField("timestamp") else None,
            tuple(via) if (via := proto.via) else (),
        )

    def to_proto(self) -> context_pb2.Context:
        """The message that carries it.

        Raises:
            InvalidArgument: a field is no text, or holds a lone surrogate, which is no UTF-8.
        """
        proto = context_pb2.Context()
        self.write(proto)
        return proto

    def write(self, proto: context_pb2.Context) -> None:
        """Fills an empty message in place, which costs a third of making one and copying it into another.

        Raises:
            InvalidArgument: as `to_proto`.
        """
        try:
            proto.request_id = self.request_id
            if self.user_id:
                proto.user_id = self.user_id
            if self.session_id:
                proto.session_id = self.session_id
            if self.traceparent:
                proto.traceparent = self.traceparent
            if self.idempotency_key:
                proto.idempotency_key = self.idempotency_key
            if self.via:
                proto.via.extend(self.via)
            if self.metadata:
                proto.metadata.update(self.metadata)
            if self.timestamp is not None:
                set_timestamp(proto.timestamp, self.timestamp)
        except (TypeError, ValueError):
            raise InvalidArgument(self._unsendable()) from None

    @property
    def is_plain(self) -> bool:
        """Whether it has a request id, and perhaps a key and a timestamp, that can be sent, and no more: as most do."""
        key = self.idempotency_key
        return not (self.user_id or self.session_id or self.metadata or self.traceparent or self.via) and (
            _is_short(self.request_id) and (not key or _is_short(key))
        )

    def _unsendable(self) -> str:
        """Which field cannot be sent, in words; protobuf does not say."""
        fields: dict[str, Iterable[object]] = {
            "request_id": (self.request_id,),
            "user_id": (self.user_id,),
            "session_id": (self.session_id,),
            "traceparent": (self.traceparent,),
            "idempotency_key": (self.idempotency_key,),
            "via": self.via,
            "metadata": (*self.metadata, *self.metadata.values()),
        }
        for name, values in fields.items():
            for value in values:
                if not isinstance(value, str):
                    return f"context {name} holds {value!r:.80}, which is no text; make it a str"
                if any("\ud800" <= letter <= "\udfff" for letter in value):
                    return (
                        f"context {name} holds a lone surrogate, which is no UTF-8, in {value!r:.80}; decode it rightly"
                    )
        return "the context has a field that cannot be sent"

    def with_key(self, idempotency_key: str) -> Context:
        """The same with another idempotency key; for each call of a run, at a third of the price of `replace`.

        One that cannot be sent by itself goes as its SHA-256: pieces of work may have names of any length.
        """
        if not _is_short(idempotency_key):
            idempotency_key = hashlib.sha256(idempotency_key.encode("utf-8", "surrogatepass")).hexdigest()
        return Context(
            self.request_id,
            self.user_id,
            self.session_id,
            self.metadata,
            self.traceparent,
            idempotency_key,
            self.timestamp,
            self.via,
        )

    def traced(self, traceparent: str) -> Context:
        """The same as a child of another span."""
        return Context(
            self.request_id,
            self.user_id,
            self.session_id,
            self.metadata,
            traceparent,
            self.idempotency_key,
            self.timestamp,
            self.via,
        )

    def with_request_id(self) -> Context:
        """Itself where it has a request id, else the same with a new one."""
        return self if self.request_id else replace(self, request_id=new_request_id())


@dataclass(slots=True)  # not frozen, which would double the price of making one
class Scope:
    """An execution in progress: its context, its deadline (monotonic seconds) and its agent."""

    context: Context
    deadline: float
    agent: str = ""
    tracer: Tracer | None = field(default=None, kw_only=True, repr=False, compare=False)
    """Begins the spans of calls made in it, where its execution is traced and the client has no tracer of its own."""

    def child(self) -> Context:
        """The context of a call made from inside this execution.

        Without its idempotency key: that names this piece of work, and two
        calls made for it are two others.
        """
        if not self.agent:
            return self.context
        return replace(self.context, via=(*self.context.via, self.agent), idempotency_key="")


SCOPE: ContextVar[Scope | None] = ContextVar("atomesh_scope", default=None)
"""The execution that this code runs in. Read it with `current_scope`, set it with
`enter`; the path of every call does both by hand, at a third of the price."""


def current_scope() -> Scope | None:
    """The execution that this code runs in; None outside of one."""
    return SCOPE.get()


def current_tracer() -> Tracer | None:
    """The tracer of the execution that this code runs in; None outside of one that is traced."""
    scope = SCOPE.get()
    return None if scope is None else scope.tracer


@contextlib.contextmanager
def enter(scope: Scope) -> Iterator[None]:
    """Makes a scope the current one, for this task and what it starts."""
    token = SCOPE.set(scope)
    try:
        yield
    finally:
        SCOPE.reset(token)


def _is_short(text: object) -> bool:
    """Whether it can be sent by itself, without a Context around it."""
    return isinstance(text, str) and text.isascii() and len(text) <= _SHORT


def new_request_id() -> str:
    """128 random bits in hex: a name and no secret, so that it needs no system call."""
    return f"{_names.getrandbits(128):032x}"
