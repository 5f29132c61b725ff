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
from atomesh.core.contract import TYPE_URL_PREFIX, known_class
from atomesh.core.errors import AtomeshError, Code, Origin, Violation
from atomesh.core.times import YEAR_10000, from_duration, to_duration

_M = TypeVar("_M", bound=Message)
DOMAIN = "atomesh"
_BY_AGENT = "raised_by"  # ErrorInfo metadata that tells an author's own reason from ours
_OUTPUT = "output_type"  # ErrorInfo metadata that tells the output of broken work from other details
_MAX_REASON = 63  # characters, google.rpc.ErrorInfo's own limit
_MAX_MESSAGE = 1000
"""Bytes of a message as gRPC sends it, percent-encoded, beside the status that holds it again."""
_MAX_STATUS = 4500
"""Bytes of a status. It travels in a trailer, in base64 where a proxy is old, and
gRPC refuses trailers from 8 KiB on: the caller would see RESOURCE_EXHAUSTED
instead of what happened."""
_MAX_VIOLATIONS = 16
"""Broken rules told of one by one; a person mends the first few and asks again."""
_MAX_WORDS = 200
"""Characters of each of the three texts of one; sixteen of them at their longest are left out together."""
_EXECUTED = {"true": True, "false": False}


def _all_reasons() -> dict[str, type[AtomeshError]]:
    reasons: dict[str, type[AtomeshError]] = {}
    pending: list[type[AtomeshError]] = [AtomeshError]
    while pending:
        error = pending.pop()
        # Those of the tree alone: what other modules add must not depend on who was imported first.
        pending += [kind for kind in error.__subclasses__() if kind.__module__ == errors.__name__]
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
    """The status that carries the error. It never fails: there is nobody left to tell."""
    details: list[Message] = [_info(error)]
    if violations := getattr(error, "violations", ()):
        details.append(_bad_request(violations))
    if error.retry_after is not None:
        details.append(error_details_pb2.RetryInfo(retry_delay=to_duration(max(0.0, error.retry_after))))
    if isinstance(error, errors.InvalidOutput) and error.output is not None:
        details.append(error.output)
    packed = [_packed(detail) for detail in (*details, *error.details)]
    status = status_pb2.Status(code=error.code, message=_one_line(error.message), details=packed)
    return _fitted(status, max(error.max_status_bytes or 0, _MAX_STATUS))


def from_status(status: status_pb2.Status) -> AtomeshError:
    """The error that a status carries; RemoteError, or the code's plain meaning, where it is none of ours."""
    info: error_details_pb2.ErrorInfo | None = None
    violations: tuple[Violation, ...] = ()
    retry_after: float | None = None
    by_agent = False
    others: list[Message] = []
    for packed in status.details:  # ours come first; one more of a kind is somebody's own detail
        if packed.Is(error_details_pb2.BadRequest.DESCRIPTOR) and not violations and not by_agent:
            violations = _violations(packed)
        elif packed.Is(error_details_pb2.RetryInfo.DESCRIPTOR) and retry_after is None:
            delay = _parse(packed, error_details_pb2.RetryInfo()).retry_delay
            retry_after = max(0.0, from_duration(delay))
        elif info is None and (found := _our_info(packed)) is not None:
            info, by_agent = found, found.metadata.get(_BY_AGENT) == "agent"
        else:
            others.append(_known(packed))
    more: dict[str, Any] = {"retry_after": retry_after}
    if info is None:
        return _plain(status, violations, others, more)
    more["origin"] = _origin(info)
    if by_agent:
        retryable = info.metadata.get("retryable") == "true"
        message, reason = _one_line(status.message), _word(info.reason)
        return errors.AgentFailed(message, reason=reason, retryable=retryable, details=others, **more)
    more["executed"] = _EXECUTED.get(info.metadata.get("executed", ""))
    return _ours(status, info, violations, others, more)


def from_code(code: Code, message: str) -> AtomeshError:
    """The error of a server that sent no details."""
    return from_status(status_pb2.Status(code=code, message=message))


def _info(error: AtomeshError) -> error_details_pb2.ErrorInfo:
    origin = error.origin
    output = error.output if isinstance(error, errors.InvalidOutput) else None
    metadata = {
        "agent": origin.agent,
        "endpoint": origin.endpoint,
        "instance_id": origin.instance_id,
        "request_id": origin.request_id,
        "time": "" if origin.time is None else f"{origin.time:.6f}",
        "executed": "" if error.executed is None else str(error.executed).lower(),
        "retryable": "true" if error.retryable else "",
        _BY_AGENT: "agent" if isinstance(error, errors.AgentFailed) else "",
        _OUTPUT: "" if output is None else str(output.DESCRIPTOR.full_name),
    }
    return error_details_pb2.ErrorInfo(
        reason=_word(str(error.reason)),
        domain=DOMAIN,
        metadata={key: _one_line(value) for key, value in metadata.items() if value},
    )


def _our_info(packed: any_pb2.Any) -> error_details_pb2.ErrorInfo | None:
    """The ErrorInfo in a detail, where it is one of ours."""
    if not packed.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
        return None
    info = _parse(packed, error_details_pb2.ErrorInfo())
    return info if info.domain == DOMAIN else None


def _ours(
    status: status_pb2.Status,
    info: error_details_pb2.ErrorInfo,
    violations: tuple[Violation, ...],
    others: list[Message],
    more: dict[str, Any],
) -> AtomeshError:
    kind, message = _REASONS.get(info.reason), _one_line(status.message)
    if kind is None:
        code = status.code or code_pb2.UNKNOWN
        return errors.RemoteError(message, code=code, reason=_word(info.reason), details=others, **more)
    if issubclass(kind, errors.InvalidOutput):
        names = [_name(detail) for detail in others]
        work = info.metadata.get(_OUTPUT)
        output = others.pop(names.index(work)) if work in names else None
        return kind(message, output=output, violations=violations, details=others, **more)
    if issubclass(kind, errors.InvalidArgument):
        return kind(message, violations=violations, details=others, **more)
    return kind(message, details=others, **more)


def _plain(
    status: status_pb2.Status, violations: tuple[Violation, ...], others: list[Message], more: dict[str, Any]
) -> AtomeshError:
    """A stranger's error. Its UNAVAILABLE may have been executed: a refused and a cut connection look the same."""
    message = _one_line(status.message)
    if status.code == code_pb2.RESOURCE_EXHAUSTED and "larger than max" in message:
        hint = "send less, or in parts: gRPC takes 4 MiB where nobody says otherwise"
        return errors.MessageTooLarge(f"{message}; {hint}", details=others)
    kind = _PLAIN.get(status.code)
    if kind is None:
        return errors.RemoteError(message, code=status.code or code_pb2.UNKNOWN, details=others, **more)
    if issubclass(kind, errors.InvalidArgument):
        more = {**more, "violations": violations}
    error = kind(message, details=others, **more)
    error.executed = False if status.code in (code_pb2.UNAUTHENTICATED, code_pb2.PERMISSION_DENIED) else None
    return error


def _origin(info: error_details_pb2.ErrorInfo) -> Origin:
    told = {key: _one_line(value) for key, value in info.metadata.items()}
    get = told.get
    return Origin(
        get("agent", ""), get("endpoint", ""), get("instance_id", ""), get("request_id", ""), _time(get("time", ""))
    )


def _time(text: str) -> float | None:
    """Unix seconds within the years that a clock can show; None for anything else, such as `nan`."""
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if 0 <= seconds < YEAR_10000 else None


def _bad_request(violations: tuple[Violation, ...]) -> error_details_pb2.BadRequest:
    request = error_details_pb2.BadRequest()
    for broken in violations[:_MAX_VIOLATIONS]:
        field, message, rule = (_one_line(text)[:_MAX_WORDS] for text in (broken.field, broken.message, broken.rule))
        request.field_violations.add(field=field, description=message, reason=rule)
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


def _packed(detail: Message) -> any_pb2.Any:
    """The detail in an Any, one that came in an Any of an unknown type as it came."""
    if isinstance(detail, any_pb2.Any):
        return detail
    name = str(detail.DESCRIPTOR.full_name)
    return any_pb2.Any(type_url=TYPE_URL_PREFIX + name, value=detail.SerializePartialToString())


def _name(detail: Message) -> str:
    if isinstance(detail, any_pb2.Any):
        return detail.type_url.rpartition("/")[2]
    return str(detail.DESCRIPTOR.full_name)


def _known(packed: any_pb2.Any) -> Message:
    """The detail as its own type where this process knows it, else as it came."""
    kind = struct_pb2.Struct if packed.Is(struct_pb2.Struct.DESCRIPTOR) else known_class(_name(packed))
    try:
        return packed if kind is None else kind.FromString(packed.value)
    except DecodeError:
        return packed


def _word(reason: str) -> str:
    """A reason as ErrorInfo takes it: one line, 63 characters."""
    return _one_line(reason)[:_MAX_REASON]


def _fitted(status: status_pb2.Status, limit: int) -> status_pb2.Status:
    """The status without its largest details, as many as have to go; ErrorInfo, the first, stays."""
    while status.ByteSize() > limit and len(status.details) > 1:
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
