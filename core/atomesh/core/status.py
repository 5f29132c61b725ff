"""Errors to google.rpc.Status and back: the one table, both ways.

ErrorInfo (domain `atomesh`) carries the reason and, as metadata, where and
when it arose and whether the work was executed. BadRequest carries violations,
RetryInfo when to come again, and what else an error has (an author's details,
the output of broken work) follows as messages of their own.
"""

from __future__ import annotations

from typing import Any, TypeVar

from google.protobuf import any_pb2, struct_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from atomesh.core import errors
from atomesh.core.contract import known_class, pack
from atomesh.core.errors import AtomeshError, Code, Origin, Violation

_M = TypeVar("_M", bound=Message)
DOMAIN = "atomesh"
_BY_AGENT = "raised_by"  # ErrorInfo metadata that tells an author's own reason from ours
_MAX_MESSAGE = 1000
"""Bytes of a message as gRPC sends it, percent-encoded, beside the status that holds it again."""
_MAX_STATUS = 4500
"""Bytes of a status. It travels in a trailer, in base64 where a proxy is old, and
gRPC refuses trailers from 8 KiB on: the caller would see RESOURCE_EXHAUSTED
instead of what happened."""
_MAX_VIOLATIONS = 16
"""Broken rules told of one by one; a person mends the first few and asks again."""
_EXECUTED = {"true": True, "false": False}


def _all_reasons() -> dict[str, type[AtomeshError]]:
    reasons: dict[str, type[AtomeshError]] = {}
    pending: list[type[AtomeshError]] = [AtomeshError]
    while pending:
        error = pending.pop()
        pending += error.__subclasses__()
        if error is not errors.RemoteError and error is not AtomeshError:
            reasons[str(error.reason)] = error
    return reasons


_REASONS = _all_reasons()
_PLAIN: dict[Code, type[AtomeshError]] = {
    code_pb2.INVALID_ARGUMENT: errors.InvalidArgument,
    code_pb2.UNAUTHENTICATED: errors.Unauthenticated,
    code_pb2.PERMISSION_DENIED: errors.PermissionDenied,
    code_pb2.NOT_FOUND: errors.NotFound,
    code_pb2.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    code_pb2.CANCELLED: errors.Cancelled,
    code_pb2.UNAVAILABLE: errors.ConnectionLost,
}
"""What a code means where no ErrorInfo of ours came with it."""


def to_status(error: AtomeshError) -> status_pb2.Status:
    """The status that carries the error."""
    origin = error.origin
    metadata = {
        "agent": origin.agent,
        "endpoint": origin.endpoint,
        "instance_id": origin.instance_id,
        "request_id": origin.request_id,
        "time": "" if origin.time is None else f"{origin.time:.6f}",
        "executed": "" if error.executed is None else str(error.executed).lower(),
        "retryable": "true" if error.retryable else "",
        _BY_AGENT: "agent" if isinstance(error, errors.AgentFailed) else "",
    }
    info = error_details_pb2.ErrorInfo(
        reason=str(error.reason), domain=DOMAIN, metadata={key: value for key, value in metadata.items() if value}
    )
    details: list[Message] = [info]
    if violations := getattr(error, "violations", ()):
        details.append(_bad_request(violations))
    if error.retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(error.retry_after * 1e9))
        details.append(retry)
    if isinstance(error, errors.InvalidOutput) and error.output is not None:
        details.append(error.output)
    message = _one_line(error.message)
    return _fitted(
        status_pb2.Status(code=error.code, message=message, details=[pack(d) for d in (*details, *error.details)])
    )


def from_status(status: status_pb2.Status) -> AtomeshError:
    """The error that a status carries; RemoteError, or the code's plain meaning, where it is none of ours."""
    info = error_details_pb2.ErrorInfo()
    violations: tuple[Violation, ...] = ()
    retry_after: float | None = None
    others: list[Message] = []
    for packed in status.details:
        if packed.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            violations = _violations(packed)
        elif packed.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            delay = _parse(packed, error_details_pb2.RetryInfo()).retry_delay
            retry_after = delay.seconds + delay.nanos / 1e9
        elif packed.Is(error_details_pb2.ErrorInfo.DESCRIPTOR) and not info.reason:
            info = _parse(packed, error_details_pb2.ErrorInfo())
        else:
            others.append(_known(packed))
    if info.domain != DOMAIN:
        return _plain(status, retry_after, others)
    origin = _origin(info)
    if info.metadata.get(_BY_AGENT) == "agent":
        retryable = info.metadata.get("retryable") == "true"
        return errors.AgentFailed(
            status.message,
            reason=info.reason,
            retryable=retryable,
            details=others,
            origin=origin,
            retry_after=retry_after,
        )
    more: dict[str, Any] = {"origin": origin, "retry_after": retry_after}
    more["executed"] = _EXECUTED.get(info.metadata.get("executed", ""))
    return _ours(_REASONS.get(info.reason), status, info, violations, others, more)


def from_code(code: Code, message: str) -> AtomeshError:
    """The error of a server that sent no details."""
    return from_status(status_pb2.Status(code=code, message=message))


def _ours(
    kind: type[AtomeshError] | None,
    status: status_pb2.Status,
    info: error_details_pb2.ErrorInfo,
    violations: tuple[Violation, ...],
    others: list[Message],
    more: dict[str, Any],
) -> AtomeshError:
    if kind is None:
        return errors.RemoteError(status.message, code=status.code, reason=info.reason, details=others, **more)
    if issubclass(kind, errors.InvalidOutput):
        output = others[0] if others else None
        return kind(status.message, output=output, violations=violations, details=others[1:], **more)
    if issubclass(kind, errors.InvalidInput):
        return kind(status.message, violations=violations, details=others, **more)
    return kind(status.message, details=others, **more)


def _plain(status: status_pb2.Status, retry_after: float | None, others: list[Message]) -> AtomeshError:
    """A stranger's error. Its UNAVAILABLE may have been executed: a refused and a cut connection look the same."""
    message = _one_line(status.message)
    if status.code == code_pb2.RESOURCE_EXHAUSTED and "larger than max" in message:
        return errors.MessageTooLarge(f"{message}; the limit is the receiver's", details=others)
    if kind := _PLAIN.get(status.code):
        error = kind(message, retry_after=retry_after, details=others)
        error.executed = None if status.code not in (code_pb2.UNAUTHENTICATED, code_pb2.PERMISSION_DENIED) else False
        return error
    return errors.RemoteError(message, code=status.code, retry_after=retry_after, details=others)


def _origin(info: error_details_pb2.ErrorInfo) -> Origin:
    get = info.metadata.get
    try:
        time = float(get("time", ""))
    except ValueError:
        time = None
    return Origin(get("agent", ""), get("endpoint", ""), get("instance_id", ""), get("request_id", ""), time)


def _bad_request(violations: tuple[Violation, ...]) -> error_details_pb2.BadRequest:
    request = error_details_pb2.BadRequest()
    for violation in violations[:_MAX_VIOLATIONS]:
        request.field_violations.add(field=violation.field, description=violation.message, reason=violation.rule)
    return request


def _violations(packed: any_pb2.Any) -> tuple[Violation, ...]:
    request = _parse(packed, error_details_pb2.BadRequest())
    return tuple(Violation(v.field, v.description, v.reason) for v in request.field_violations)


def _parse(packed: any_pb2.Any, into: _M) -> _M:
    try:
        into.ParseFromString(packed.value)
    except DecodeError:
        into.Clear()  # a detail that does not parse tells nothing; the status itself still stands
    return into


def _known(packed: any_pb2.Any) -> Message:
    """The detail as its own type where this process knows it, else as it came."""
    if packed.Is(struct_pb2.Struct.DESCRIPTOR):
        return _parse(packed, struct_pb2.Struct())
    kind = known_class(packed.type_url.rpartition("/")[2])
    return packed if kind is None else _parse(packed, kind())


def _fitted(status: status_pb2.Status) -> status_pb2.Status:
    """The status without its largest details, as many as have to go; ErrorInfo, the first, stays."""
    while status.ByteSize() > _MAX_STATUS and len(status.details) > 1:
        largest = max(range(1, len(status.details)), key=lambda place: status.details[place].ByteSize())
        name = status.details[largest].type_url.rpartition("/")[2]
        status.message = _one_line(f"{status.message} ({name} left out: {status.details[largest].ByteSize()} bytes)")
        del status.details[largest]
    return status


def _one_line(text: str) -> str:
    """Folds control characters away and cuts: a message is one line in a log, on a terminal and in a trailer."""
    folded = " ".join("".join(c if c.isprintable() else " " for c in text[:_MAX_MESSAGE]).split())
    room = _MAX_MESSAGE
    for place, letter in enumerate(folded):
        room -= 1 if " " <= letter <= "~" and letter != "%" else 3 * len(letter.encode("utf-8", "replace"))
        if room < 0:
            return folded[: max(0, place - 9)] + "…"
    return folded if len(text) <= _MAX_MESSAGE else folded[:-1] + "…"
