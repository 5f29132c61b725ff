"""Spans, as the mesh makes them: a seam between what happens to a call and whoever records it.

A tracer is a value, handed to whoever begins spans, as metrics are; None is no
tracing, and costs one look. What joins spans into one trace is the W3C
traceparent of a `Context`, which travels with a call whether or not anybody
records anything. `rpc.tracing` has the tracer that is OpenTelemetry's.

Attributes are names, numbers and reasons. Nothing of an input or an output is
ever one, nor an error's message, which may quote them.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Protocol, TypeAlias

from atomesh.core.errors import AtomeshError

Attributes: TypeAlias = Mapping[str, str | int | float | bool]

AGENT_SERVICE = "atomesh.v1.AgentService"

# OpenTelemetry's semantic conventions, of RPCs, servers and errors.
RPC_SYSTEM = "rpc.system"
RPC_SERVICE = "rpc.service"
RPC_METHOD = "rpc.method"
RPC_STATUS = "rpc.grpc.status_code"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
ERROR_TYPE = "error.type"

# The mesh's own; docs/tracing.md says what each is.
AFTER = "atomesh.after"
AGENT = "atomesh.agent"
ATTEMPT = "atomesh.attempt"
ATTEMPTS = "atomesh.attempts"
CAUSE = "atomesh.cause"
ENDPOINT = "atomesh.endpoint"
EXECUTED = "atomesh.executed"
IN_FLIGHT = "atomesh.in_flight"
INSTANCE_ID = "atomesh.instance_id"
ITEMS = "atomesh.items"
PIPELINE = "atomesh.pipeline"
QUEUE_WAIT = "atomesh.queue_wait"
REASON = "atomesh.reason"
REQUEST_ID = "atomesh.request_id"
RUN_ID = "atomesh.run_id"
SLOTS = "atomesh.slots"
STAGE = "atomesh.stage"
STATUS = "atomesh.status"
VERSION = "atomesh.version"


class SpanKind(Enum):
    """What a span is between processes, in OpenTelemetry's words."""

    INTERNAL = "internal"
    """Inside one process."""
    CLIENT = "client"
    """What leaves it, and waits for an answer."""
    SERVER = "server"
    """What came in, until it is answered."""


class Span(Protocol):
    """Something that has begun and will end, once."""

    @property
    def traceparent(self) -> str:
        """What makes a span in another process, or a context here, a child of this one."""
        ...

    @property
    def recording(self) -> bool:
        """Whether anybody will see it; where not, nothing need be found out for it."""
        ...

    def child(self, name: str, kind: SpanKind, attributes: Attributes) -> Span:
        """One that begins inside it, in this process."""
        ...

    def set(self, attributes: Attributes) -> None:
        """Adds to what is known of it."""
        ...

    def enter(self) -> None:
        """Makes it the current one for the code that runs in this task, until it ends there."""
        ...

    def end(self, reason: str = "") -> None:
        """It has ended, well where there is no reason."""
        ...


class Tracer(Protocol):
    """Begins spans."""

    def begin(self, name: str, kind: SpanKind, traceparent: str, attributes: Attributes, *, ago: float = 0.0) -> Span:
        """A child of what the traceparent names, begun `ago` seconds before now.

        What is no traceparent is none, and begins a trace of its own, as W3C
        Trace Context says.
        """
        ...


_LONGEST = 63  # of a reason, as google.rpc.ErrorInfo says


_NOTHING: Attributes = MappingProxyType({})


def end(span: Span, failure: BaseException | None, ok: Attributes = _NOTHING) -> None:
    """Ends it with what came of it; `ok` is known where that is good."""
    if not span.recording:
        span.end()
    elif failure is None:
        span.set(ok)
        span.end()
    else:
        span.set(_failed(failure))
        span.end(_reason(failure))


def _failed(failure: BaseException) -> Attributes:
    known: dict[str, str | int | float | bool] = {REASON: _reason(failure), ERROR_TYPE: _reason(failure)}
    if isinstance(failure, AtomeshError):
        known[RPC_STATUS] = int(failure.code)
        if failure.executed is not None:
            known[EXECUTED] = failure.executed
    return known


def _reason(failure: BaseException) -> str:
    # A stranger's status may give a text of any length for a reason.
    return failure.reason[:_LONGEST] if isinstance(failure, AtomeshError) else type(failure).__name__
