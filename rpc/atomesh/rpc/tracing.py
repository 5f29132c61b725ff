"""The mesh's spans as OpenTelemetry's (the extra `tracing`).

tracer = OtelTracer(provider)                     # a TracerProvider of one's own
async with open_otlp("http://127.0.0.1:4317", service="desk") as tracer:
    async with Client(tracer=tracer) as mesh: ...

Nothing here is global: not the provider, unless its caller hands that in. What
OpenTelemetry calls the current span is honoured both ways: a call that is told of
no other trace is its child, and an execution is the current span of the author's code.
"""

from __future__ import annotations

import re
from contextvars import Token
from importlib import metadata

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context as OtelContext
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from atomesh.core.clock import SYSTEM_CLOCK, Clock
from atomesh.core.tracing import Attributes, Span, SpanKind

_KINDS = {
    SpanKind.INTERNAL: trace.SpanKind.INTERNAL,
    SpanKind.CLIENT: trace.SpanKind.CLIENT,
    SpanKind.SERVER: trace.SpanKind.SERVER,
}
_USUAL = re.compile("00-([0-9a-f]{32})-([0-9a-f]{16})-0([0-3])")
"""A traceparent of today's version and flags. Read here, it costs a third of what
the propagator asks, which sees to all others: those to come, and those that are none."""
_ENTERED = otel_context.create_key("atomesh-entered")
"""Where the current context has the execution that it is in: whatever span the
author has begun in there, a call is a child of that one."""
_NOTHING = OtelContext()
_PROPAGATOR = TraceContextTextMapPropagator()


class OtelTracer:
    """Begins spans with a provider of OpenTelemetry's, which samples, keeps and exports them."""

    def __init__(self, provider: trace.TracerProvider, *, clock: Clock = SYSTEM_CLOCK) -> None:
        """The provider stays its caller's, to be shut down after whatever the tracer was handed to."""
        self._tracer = provider.get_tracer("atomesh", metadata.version("atomesh"))
        self._clock = clock

    def begin(self, name: str, kind: SpanKind, traceparent: str, attributes: Attributes, *, ago: float = 0.0) -> Span:
        """See core.tracing.Tracer."""
        return self._begin(name, kind, _parent(kind, traceparent), attributes, ago)

    def _begin(self, name: str, kind: SpanKind, parent: OtelContext, attributes: Attributes, ago: float = 0.0) -> Span:
        begun, wall = self._clock.now() - ago, self._clock.wall() - ago
        start = int(wall * 1e9)
        span = self._tracer.start_span(name, parent, _KINDS[kind], attributes, start_time=start)
        # A clock that jumps moves spans and does not stretch them: the end is counted from the start.
        return _OtelSpan(self, span, start, begun) if span.is_recording() else _Unsampled(span)


class _OtelSpan:
    """One that is recorded."""

    __slots__ = ("_begun", "_entered", "_span", "_start", "_tracer", "traceparent")

    recording = True

    def __init__(self, tracer: OtelTracer, span: trace.Span, start: int, begun: float) -> None:
        self._tracer = tracer
        self._span = span
        self._start = start
        self._begun = begun
        self._entered: Token[OtelContext] | None = None
        self.traceparent = _traceparent(span)

    def child(self, name: str, kind: SpanKind, attributes: Attributes) -> Span:
        return self._tracer._begin(name, kind, trace.set_span_in_context(self._span, _NOTHING), attributes)

    def set(self, attributes: Attributes) -> None:
        self._span.set_attributes(attributes)

    def enter(self) -> None:
        self._entered = _enter(self._span, self.traceparent)

    def end(self, reason: str = "") -> None:
        if reason:
            self._span.set_status(trace.StatusCode.ERROR, reason)
        self._span.end(self._start + int((self._tracer._clock.now() - self._begun) * 1e9))
        if self._entered is not None:
            otel_context.detach(self._entered)


class _Unsampled:
    """One that nobody sees. It says so to all that come of it, which are then not seen either."""

    __slots__ = ("_entered", "_span", "traceparent")

    recording = False

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self._entered: Token[OtelContext] | None = None
        self.traceparent = _traceparent(span)

    def child(self, name: str, kind: SpanKind, attributes: Attributes) -> Span:
        del name, kind, attributes
        return self

    def set(self, attributes: Attributes) -> None:
        """Nobody would see it."""

    def enter(self) -> None:
        # Or the author's own instrumentation would begin a trace for each execution.
        self._entered = _enter(self._span, self.traceparent)

    def end(self, reason: str = "") -> None:
        del reason
        entered, self._entered = self._entered, None
        if entered is not None:
            otel_context.detach(entered)


def _enter(span: trace.Span, traceparent: str) -> Token[OtelContext]:
    return otel_context.attach(otel_context.set_value(_ENTERED, traceparent, trace.set_span_in_context(span)))


def _parent(kind: SpanKind, traceparent: str) -> OtelContext:
    """The context whose span is the parent."""
    if kind is not SpanKind.SERVER:  # what comes from elsewhere has nothing to do with what is under way here
        current = otel_context.get_current()
        if not traceparent or traceparent == current.get(_ENTERED):
            return current
    if not traceparent:
        return _NOTHING
    usual = _USUAL.fullmatch(traceparent)
    if usual is None:
        return _PROPAGATOR.extract({"traceparent": traceparent}, _NOTHING)
    trace_id, span_id, flags = usual.groups()
    named = SpanContext(int(trace_id, 16), int(span_id, 16), True, TraceFlags(int(flags)))
    return trace.set_span_in_context(NonRecordingSpan(named), _NOTHING)


def _traceparent(span: trace.Span) -> str:
    own = span.get_span_context()
    return f"00-{own.trace_id:032x}-{own.span_id:016x}-{own.trace_flags:02x}"
