"""An execution's span: a SERVER span, the child of the attempt that it came with.

It begins when the call came, so what it waited for a slot is in it, and ends when
the execution has really ended. What was refused for want of a slot has none: the
caller's span of the attempt says so, and a refusal stays cheap where it matters.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from google.rpc import code_pb2

from atomesh.agents.admission import Admission
from atomesh.agents.calls import Call, Done, Where
from atomesh.agents.context import ExecutionContext
from atomesh.agents.spec import AgentSpec
from atomesh.agents.streams import Send
from atomesh.core import tracing
from atomesh.core.errors import Cancelled
from atomesh.core.tracing import Span, SpanKind, Tracer

InSlot: TypeAlias = Callable[[Call, ExecutionContext, dict[type, Any], float, Send | None], Awaitable[Done]]
"""Executes in a slot that the call has, after the seconds that it waited for that, and gives it back."""


class Traced:
    """Executes, with a span around it."""

    def __init__(self, tracer: Tracer, spec: AgentSpec, where: Where, admission: Admission, inner: InSlot) -> None:
        """`inner` is what executes."""
        self._tracer = tracer
        self._name = f"execute {spec.name}"
        self._spec = spec
        self._where = where
        self._admission = admission
        self._inner = inner
        self._constant: dict[tuple[bool, bool], tracing.Attributes] = {}
        """What all executions of a door have in common: whether it is typed, and whether it streams."""

    async def __call__(
        self,
        call: Call,
        context: ExecutionContext,
        provided: dict[type, Any],
        waited: float,
        send: Send | None = None,
    ) -> Done:
        """As what executes does; calls made in it are children of its span."""
        span = self._begin(call, context, waited, send)
        context.context, context.tracer = context.context.traced(span.traceparent), self._tracer
        failure: BaseException | None = None
        span.enter()
        try:
            return await self._inner(call, context, provided, waited, send)
        except BaseException as error:
            failure = _WENT_AWAY if isinstance(error, asyncio.CancelledError) else error
            raise
        finally:
            tracing.end(span, failure, _OK)

    def _begin(self, call: Call, context: ExecutionContext, waited: float, send: Send | None) -> Span:
        door = call.typed, send is not None
        constant = self._constant.get(door)
        if constant is None:
            constant = self._constant[door] = self._about(*door)
        span = self._tracer.begin(self._name, SpanKind.SERVER, context.traceparent, constant, ago=waited)
        if span.recording:
            span.set(
                {
                    tracing.REQUEST_ID: context.request_id,
                    tracing.QUEUE_WAIT: waited,
                    tracing.IN_FLIGHT: self._admission.in_flight,
                }
            )
        return span

    def _about(self, typed: bool, streams: bool) -> tracing.Attributes:
        spec, where = self._spec, self._where
        return {
            tracing.RPC_SYSTEM: "grpc",
            tracing.RPC_SERVICE: spec.typed_service if typed else tracing.AGENT_SERVICE,
            tracing.RPC_METHOD: "ExecuteStream" if streams else "Execute",
            tracing.AGENT: spec.name,
            tracing.VERSION: spec.version,
            tracing.ENDPOINT: where.address(),
            tracing.INSTANCE_ID: where.instance_id,
            tracing.SLOTS: spec.slots,
        }


_WENT_AWAY = Cancelled("the caller went away", executed=True)
_OK: tracing.Attributes = {tracing.RPC_STATUS: int(code_pb2.OK)}
