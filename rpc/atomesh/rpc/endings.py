"""How a call ends with an error: its status, its trailers, and whether headers go before them."""

from __future__ import annotations

import contextlib
from typing import Any, TypeAlias

import grpc
import grpc.aio

from atomesh.core.errors import AtomeshError, Refused
from atomesh.core.status import to_status
from atomesh.core.times import from_duration, to_duration
from atomesh.rpc.channel import DETAILS_KEY, PUSHBACK_KEY

_Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
_STATUS_CODES: dict[int, grpc.StatusCode] = {int(code.value[0]): code for code in grpc.StatusCode}


async def end_with(context: _Context, error: AtomeshError) -> int:
    """Makes the call end with the error, from its handler; the error's code.

    Set, not aborted: grpc.aio's stop is not graceful for aborted calls (37239).
    But what may be tried again has to arrive as trailers alone: before a code
    that is set grpc.aio sends headers and an empty message, and a stock client
    that has seen headers does not retry (gRFC A6, "committed").
    """
    if isinstance(error, Refused) or error.retryable:
        await answer_now(context, error)
        return error.code
    code, message, trailers = _ending(context, error)
    context.set_code(code)
    context.set_details(message)
    context.set_trailing_metadata(trailers)
    return error.code


async def answer_now(context: _Context, error: AtomeshError) -> None:
    """Ends a call with the error, also from outside of its handler, which may run on; its answer goes nowhere then."""
    code, message, trailers = _ending(context, error)
    with contextlib.suppress(grpc.aio.AbortError):  # how abort ends where it is the handler that calls it
        await context.abort(code, message, trailers)


def _ending(context: _Context, error: AtomeshError) -> tuple[grpc.StatusCode, str, tuple[tuple[str, str | bytes], ...]]:
    status = to_status(error)
    # What the method has set already, such as x-request-id, stays.
    trailers = [*(context.trailing_metadata() or ()), (DETAILS_KEY, status.SerializeToString())]
    if error.retry_after is not None:
        trailers.append((PUSHBACK_KEY, str(_pushback(error.retry_after))))
    return _STATUS_CODES.get(error.code, grpc.StatusCode.UNKNOWN), status.message, tuple(trailers)


def _pushback(seconds: float) -> int:
    """Milliseconds, as gRPC reads them (gRFC A6): 1 to 2**31 - 1."""
    return min(max(1, round(from_duration(to_duration(seconds)) * 1000)), 2**31 - 1)
