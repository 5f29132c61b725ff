"""One call's spans: the call from its beginning to its end, and in it one for each attempt.

The call is INTERNAL and its attempts are CLIENT spans: OpenTelemetry has a SERVER
span be the child of the CLIENT span that its request was, and a call is several
requests, one, or none. So service maps and latencies of dependencies count
attempts, each with its endpoint.
"""

from __future__ import annotations

import functools

from google.rpc import code_pb2

from atomesh.balancer.retry import Next
from atomesh.balancer.waiting import Call
from atomesh.balancer.work import Work
from atomesh.core import tracing
from atomesh.core.context import Context
from atomesh.core.endpoint import Endpoint
from atomesh.core.errors import AtomeshError
from atomesh.core.names import split_address
from atomesh.core.tracing import Attributes, Span, SpanKind, Tracer

CAUSES = {Next.ELSEWHERE: "elsewhere", Next.WAIT: "waited", Next.AGAIN: "retry"}
"""Why an attempt is made that is not the first: the one before was refused, unexecuted,
and another endpoint may have a slot, or one has it now; or it may have run."""
FIRST, HEDGE = "first", "hedge"


class CallTrace:
    """The spans of one call."""

    __slots__ = ("_after", "_cause", "_made", "_method", "_span", "_waited", "context")

    def __init__(self, tracer: Tracer, agent: str, context: Context, method: str = "Execute") -> None:
        """Begins the call's own; `method` is that of AgentService which attempts call."""
        about = {tracing.AGENT: agent, tracing.REQUEST_ID: context.request_id}
        self._span = tracer.begin(f"call {agent}", SpanKind.INTERNAL, context.traceparent, about)
        self.context = context.traced(self._span.traceparent)
        """What travels with the call."""
        self._method = method
        self._cause, self._after = FIRST, ""
        self._made = 0
        self._waited = 0.0

    def attempt(self, endpoint: Endpoint, call: Call, work: Work, *, hedge: bool = False) -> tuple[Span, Work]:
        """Begins an attempt: its span, and the work as that one's child."""
        self._made += 1
        if not self._span.recording:
            return self._span, work
        about: dict[str, str | int | float | bool] = {
            **_place(endpoint.address, self._method),
            tracing.AGENT: endpoint.agent,
            tracing.REQUEST_ID: work.context.request_id,
            tracing.ATTEMPT: self._made,
            tracing.CAUSE: HEDGE if hedge else self._cause,
            tracing.QUEUE_WAIT: call.queue_wait - self._waited,
        }
        if self._after and not hedge:
            about[tracing.AFTER] = self._after
        self._waited = call.queue_wait
        span = self._span.child(f"attempt {endpoint.agent}", SpanKind.CLIENT, about)
        return span, work.traced(span.traceparent)

    def follows(self, error: AtomeshError, following: Next) -> None:
        """Another attempt will be made, after one that ended so."""
        self._cause, self._after = CAUSES[following], error.reason

    def end(self, failure: AtomeshError | None, call: Call) -> None:
        """The call has ended."""
        self._span.set({tracing.ATTEMPTS: self._made, tracing.QUEUE_WAIT: call.queue_wait})
        tracing.end(self._span, failure)


def end_attempt(span: Span, failure: AtomeshError | None) -> None:
    """The attempt has ended. A call that is not recorded has no spans of attempts, and ends its own itself."""
    if span.recording:
        tracing.end(span, failure, _OK)


_OK: Attributes = {tracing.RPC_STATUS: int(code_pb2.OK)}


@functools.lru_cache(maxsize=1024)  # as many endpoints as a client has at most
def _place(address: str, method: str) -> Attributes:
    host, port = split_address(address)
    return {
        tracing.RPC_SYSTEM: "grpc",
        tracing.RPC_SERVICE: tracing.AGENT_SERVICE,
        tracing.RPC_METHOD: method,
        tracing.SERVER_ADDRESS: host,
        tracing.SERVER_PORT: port,
        tracing.ENDPOINT: address,
    }
