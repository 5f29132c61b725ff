"""What can go wrong, in one tree with one root.

AtomeshError
├── InvalidArgument          a request is wrong in itself (`violations`)
│   ├── InvalidInput         the input breaks its contract's rules
│   └── WrongType            the input is not of the contract's type
├── Unauthenticated          no token, or not this one
├── PermissionDenied         known, but not allowed
├── NotFound                 no such agent, lease or contract
│   ├── UnknownAgent
│   └── UnknownLease         it expired, or never was: register again
├── Conflict                 right in itself, wrong now
│   ├── IncompatibleContract the agent's live endpoints speak another one
│   ├── Superseded           a newer instance has the address
│   └── CallTooDeep          too many agents deep
├── Refused                  not executed: anybody may try elsewhere
│   ├── NoFreeSlot           every slot is taken and so is every place to wait
│   ├── Draining             the endpoint takes nothing new
│   ├── WrongInstance        another instance than the one meant
│   ├── CallLoop             it waits for itself: back at an agent that is full
│   ├── QueueFull            this client holds as many calls as it may
│   ├── Shed                 it would not have made its deadline
│   ├── NoEndpoint           nobody to send it to
│   ├── CircuitOpen          every endpoint has failed of late, and the call does not wait
│   └── RegistryUnavailable  the registry cannot be reached or cannot commit
├── DeadlineExceeded         out of time (`executed` says how far it came)
├── Cancelled                the caller went away
├── ConnectionLost           cut off: it may have been executed
├── MessageTooLarge          larger than the limit, in either direction
├── AgentFailed              the agent's own error, raised by its author
├── InvalidOutput            the agent broke its contract (`output` has the work)
├── AgentCrashed             the agent raised what it did not mean to
└── RemoteError              a server's error that is none of these

The message is one line: what, which, the limit, what to do next. Everything
else is data. `status.py` carries all of it over the wire and back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from google.protobuf import struct_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2

from atomesh.core.structs import from_struct, to_struct

Code: TypeAlias = int  # a value of google.rpc.Code, which are gRPC's status codes


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an error arose."""

    agent: str = ""
    endpoint: str = ""
    instance_id: str = ""
    request_id: str = ""
    time: float | None = None
    """Unix seconds by the clock of where it arose."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule of a contract: the field's path, what is wrong, the rule's id."""

    field: str
    message: str
    rule: str = ""

    def __str__(self) -> str:
        """`field: message`, the field left out where the rule is the whole message's."""
        return f"{self.field}: {self.message}" if self.field else self.message


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a call: where, how it ended, after how many seconds."""

    endpoint: str
    reason: str
    seconds: float
    executed: bool | None
    message: str = ""

    def __str__(self) -> str:
        """One entry of the list in the final error."""
        return f"{self.endpoint} {self.reason} after {self.seconds * 1000:.0f} ms"


class AtomeshError(Exception):
    """The root. `code` is gRPC's, `reason` the machine-readable word in ErrorInfo."""

    code: Code = code_pb2.UNKNOWN
    reason: str = "UNKNOWN"
    executed: bool | None = None
    """False: certainly not executed. True: it was. None: nobody knows."""
    retryable: bool = False
    """Whether the one who raised it thinks that another try may go well."""

    def __init__(
        self,
        message: str = "",
        *,
        origin: Origin | None = None,
        executed: bool | None = None,
        retry_after: float | None = None,
        details: Sequence[Message] = (),
    ) -> None:
        """`retry_after` is in seconds; None where the server does not say."""
        super().__init__(message or type(self).reason)
        self.message = message or type(self).reason
        self.origin = origin or Origin()
        if executed is not None:
            self.executed = executed
        self.retry_after = retry_after
        self.details = tuple(details)
        self.attempts: tuple[Attempt, ...] = ()
        self.max_status_bytes: int | None = None
        """What its status may take on the wire; None is what every gRPC client takes."""

    def __str__(self) -> str:
        """The message, and where more than one endpoint was tried, each of them."""
        if len(self.attempts) < 2:
            return self.message
        return f"{self.message} (tried {'; '.join(map(str, self.attempts))})"


class InvalidArgument(AtomeshError):
    """A request is wrong in itself; the same one will be wrong again."""

    code = code_pb2.INVALID_ARGUMENT
    reason = "INVALID_ARGUMENT"
    executed = False
    _what = "invalid request"

    def __init__(self, message: str = "", *, violations: Sequence[Violation] = (), **more: Any) -> None:
        """The message lists the violations where none is given."""
        super().__init__(message or _listed(self._what, violations), **more)
        self.violations = tuple(violations)


class InvalidInput(InvalidArgument):
    """The input breaks rules of its contract."""

    reason = "INVALID_INPUT"
    _what = "invalid input"


class WrongType(InvalidArgument):
    """The input is not of the type that the contract names."""

    reason = "WRONG_TYPE"


class Unauthenticated(AtomeshError):
    """No credentials, or wrong ones."""

    code = code_pb2.UNAUTHENTICATED
    reason = "UNAUTHENTICATED"
    executed = False


class PermissionDenied(AtomeshError):
    """Known, but not allowed to."""

    code = code_pb2.PERMISSION_DENIED
    reason = "PERMISSION_DENIED"
    executed = False


class NotFound(AtomeshError):
    """No such thing."""

    code = code_pb2.NOT_FOUND
    reason = "NOT_FOUND"
    executed = False


class UnknownAgent(NotFound):
    """No such agent."""

    reason = "UNKNOWN_AGENT"


class UnknownLease(NotFound):
    """The lease expired or never was: register again."""

    reason = "UNKNOWN_LEASE"


class Conflict(AtomeshError):
    """Right in itself, but not as things stand."""

    code = code_pb2.FAILED_PRECONDITION
    reason = "FAILED_PRECONDITION"
    executed = False


class IncompatibleContract(Conflict):
    """The agent's live endpoints speak a contract that this one breaks."""

    reason = "INCOMPATIBLE_CONTRACT"


class Superseded(Conflict):
    """A newer instance has taken the address."""

    reason = "SUPERSEDED"


class CallTooDeep(Conflict):
    """The call has passed through more agents than any sane plan needs."""

    reason = "CALL_TOO_DEEP"


class Refused(AtomeshError):
    """Certainly not executed; another endpoint may take it."""

    code = code_pb2.UNAVAILABLE
    reason = "REFUSED"
    executed = False


class NoFreeSlot(Refused):
    """Every slot of the endpoint is taken: load, not failure."""

    code = code_pb2.RESOURCE_EXHAUSTED
    reason = "NO_FREE_SLOT"


class Draining(Refused):
    """The endpoint finishes what runs and takes nothing new."""

    reason = "DRAINING"


class WrongInstance(Refused):
    """Another instance serves at the address than the one that was meant."""

    reason = "WRONG_INSTANCE"


class CallLoop(Refused):
    """The call came back to an agent that it already holds a slot of, and all are taken."""

    code = code_pb2.RESOURCE_EXHAUSTED
    reason = "CALL_LOOP"


class QueueFull(Refused):
    """The client holds as many waiting calls as it may."""

    code = code_pb2.RESOURCE_EXHAUSTED
    reason = "QUEUE_FULL"


class Shed(Refused):
    """Other calls would have had their turn for so long that it could not make its deadline."""

    code = code_pb2.RESOURCE_EXHAUSTED
    reason = "SHED"


class NoEndpoint(Refused):
    """There is nobody to send the call to."""

    reason = "NO_ENDPOINT"


class CircuitOpen(Refused):
    """Every endpoint of the agent is left alone for its failures, and the call fails fast.

    `retry_after` is in how many seconds the first of them is tried again.
    """

    reason = "CIRCUIT_OPEN"


class RegistryUnavailable(Refused):
    """The registry cannot be reached, or cannot commit."""

    reason = "REGISTRY_UNAVAILABLE"


class DeadlineExceeded(AtomeshError):
    """Out of time."""

    code = code_pb2.DEADLINE_EXCEEDED
    reason = "DEADLINE_EXCEEDED"


class Cancelled(AtomeshError):
    """The caller went away."""

    code = code_pb2.CANCELLED
    reason = "CANCELLED"


class ConnectionLost(AtomeshError):
    """The connection ended under the call; it may have been executed."""

    code = code_pb2.UNAVAILABLE
    reason = "CONNECTION_LOST"


class MessageTooLarge(AtomeshError):
    """A message is larger than one side takes."""

    code = code_pb2.RESOURCE_EXHAUSTED
    reason = "MESSAGE_TOO_LARGE"


class AgentFailed(AtomeshError):
    """Raised by an agent's author: the work cannot be done, and this is why.

    It arrives at the caller as it was raised, with the agent, endpoint, request
    id and time in `origin`.

        raise AgentFailed("no such ticket", reason="NO_TICKET", details={"ticket": 7})
    """

    reason = "AGENT_FAILED"
    executed = True

    def __init__(
        self,
        message: str,
        *,
        reason: str = "AGENT_FAILED",
        retryable: bool = False,
        details: Mapping[str, Any] | Sequence[Message] = (),
        origin: Origin | None = None,
        retry_after: float | None = None,
    ) -> None:
        """`details` is a JSON-like mapping, or protobuf messages of your own.

        What JSON has no word for is sent as its `str`: raising must not fail.
        `reason` is at most 63 of A-Z, 0-9 and _. `retryable` says that another
        try may go well; it is taken only where the call may run twice.
        """
        messages = [to_struct(details)] if isinstance(details, Mapping) else list(details)
        super().__init__(message, origin=origin, retry_after=retry_after, details=messages)
        self.reason = reason or type(self).reason
        self.retryable = retryable
        self.code = code_pb2.ABORTED if retryable else code_pb2.FAILED_PRECONDITION

    @property
    def data(self) -> dict[str, Any]:
        """The details as a mapping; empty where they are none."""
        for detail in self.details:
            if isinstance(detail, struct_pb2.Struct):
                return from_struct(detail)
        return {}


class InvalidOutput(AtomeshError):
    """The agent answered, and the answer breaks its contract. `output` is the paid work."""

    code = code_pb2.INTERNAL
    reason = "INVALID_OUTPUT"
    executed = True

    def __init__(
        self, message: str = "", *, output: Message | None = None, violations: Sequence[Violation] = (), **more: Any
    ) -> None:
        """The message lists the violations where none is given."""
        super().__init__(message or _listed("invalid output", violations), **more)
        self.output = output
        self.violations = tuple(violations)


class AgentCrashed(AtomeshError):
    """The agent raised what it did not mean to; its log has the trace under the request id."""

    code = code_pb2.INTERNAL
    reason = "AGENT_CRASHED"
    executed = True


class RemoteError(AtomeshError):
    """A server's error that is none of ours."""

    def __init__(self, message: str = "", *, code: Code = code_pb2.UNKNOWN, reason: str = "", **more: Any) -> None:
        """`reason` defaults to the name of the code."""
        super().__init__(message, **more)
        self.code = code
        self.reason = reason or code_name(code)


def code_name(code: Code) -> str:
    """`NOT_FOUND` of 5; the number itself where it has no name."""
    return code_pb2.Code.Name(code) if code in code_pb2.Code.values() else str(code)


def _listed(what: str, violations: Sequence[Violation]) -> str:
    return f"{what}: {'; '.join(map(str, violations))}" if violations else what
