"""The mesh's spans as OpenTelemetry's (the extra `tracing`).

tracer = OtelTracer(provider)                     # a TracerProvider of one's own
async with open_otlp("http://127.0.0.1:4317", service="desk") as tracer:
    async with Client(tracer=tracer) as mesh: ...

Nothing here is global: not the provider, unless its caller hands that in. What
OpenTelemetry calls the current span is honoured both ways: a call that is told of
no other trace is its child, and an execution is the current span of the author's code.
"""

from __future__ import annotations

import logging
import random
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

log = logging.getLogger(__name__)

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

    def __init__(
        self,
        provider: trace.TracerProvider,
        *,
        ratio: float | None = None,
        clock: Clock = SYSTEM_CLOCK,
        rng: random.Random | None = None,
    ) -> None:
        """The provider stays its caller's, to be shut down after whatever the tracer was handed to.

        With a `ratio`, 0 to 1, that share of the traces that begin here is sampled, and of
        others those that were where they began; the provider sees no other span, which costs
        a tenth of asking its sampler. None asks it for each.
        """
        self._tracer = provider.get_tracer("atomesh", metadata.version("atomesh"))
        self._ratio = ratio
        self._clock = clock
        self._rng = rng or random.Random()

    def begin(self, name: str, kind: SpanKind, traceparent: str, attributes: Attributes, *, ago: float = 0.0) -> Span:
        """See core.tracing.Tracer."""
        parent = _parent(kind, traceparent)
        if self._ratio is not None and (unsampled := self._unsampled(parent, self._ratio)) is not None:
            return _Unsampled(unsampled)
        return self._begin(name, kind, parent, attributes, ago)

    def _unsampled(self, parent: OtelContext, ratio: float) -> SpanContext | None:
        """What stands for a span that is not sampled, its parent or a root; None where it is."""
        above = trace.get_current_span(parent).get_span_context()
        if above.is_valid:
            return None if above.trace_flags & TraceFlags.SAMPLED else above
        if self._rng.random() < ratio:
            return None
        ids = self._rng.getrandbits(192) | 1 << 64 | 1  # neither of the two is 0
        return SpanContext(ids >> 64, ids & 0xFFFF_FFFF_FFFF_FFFF, False)

    def _begin(self, name: str, kind: SpanKind, parent: OtelContext, attributes: Attributes, ago: float = 0.0) -> Span:
        begun, wall = self._clock.now() - ago, self._clock.wall() - ago
        start = int(wall * 1e9)
        try:
            span = self._tracer.start_span(name, parent, _KINDS[kind], attributes, start_time=start)
        except Exception:  # a sampler or a processor of the provider's owner: no reason to fail a call
            log.exception("the span %s was not begun", name)
            return _Unsampled(trace.get_current_span(parent).get_span_context())
        # A clock that jumps moves spans and does not stretch them: the end is counted from the start.
        return _OtelSpan(self, span, start, begun) if span.is_recording() else _Unsampled(span.get_span_context())


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
        self.traceparent = _traceparent(span.get_span_context())

    def child(self, name: str, kind: SpanKind, attributes: Attributes) -> Span:
        return self._tracer._begin(name, kind, trace.set_span_in_context(self._span, _NOTHING), attributes)

    def set(self, attributes: Attributes) -> None:
        self._span.set_attributes(attributes)

    def enter(self) -> None:
        self._entered = _enter(self._span, self.traceparent)

    def end(self, reason: str = "") -> None:
        if self._entered is not None:
            otel_context.detach(self._entered)
        if reason:
            self._span.set_status(trace.StatusCode.ERROR, reason)
        try:
            self._span.end(self._start + int((self._tracer._clock.now() - self._begun) * 1e9))
        except Exception:  # as above
            log.exception("a span was not ended")


class _Unsampled:
    """One that nobody sees. It says so to all that come of it, which are then not seen either."""

    __slots__ = ("_entered", "_own", "traceparent")

    recording = False

    def __init__(self, own: SpanContext) -> None:
        self._own = own
        self._entered: Token[OtelContext] | None = None
        self.traceparent = _traceparent(own)

    def child(self, name: str, kind: SpanKind, attributes: Attributes) -> Span:
        del name, kind, attributes
        return self

    def set(self, attributes: Attributes) -> None:
        """Nobody would see it."""

    def enter(self) -> None:
        # Or the author's own instrumentation would begin a trace for each execution.
        self._entered = _enter(NonRecordingSpan(self._own), self.traceparent)

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


def _traceparent(own: SpanContext) -> str:
    """Empty for what stands for none: a provider that is switched off, outside of any trace."""
    if not own.is_valid:
        return ""
    return f"00-{own.trace_id:032x}-{own.span_id:016x}-{own.trace_flags:02x}"
