"""Asks a registry through generated stubs, and notes every question and every answer.

The one module here that does something: all others only read what it noted.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar

import grpc
import grpc.aio
from google.protobuf import duration_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from atomesh.testing.history import messages
from atomesh.testing.history.facts import (
    LEFT,
    LOST,
    OK,
    Call,
    Deregister,
    Discover,
    GetContract,
    Register,
    Renew,
    Update,
    WatchBegan,
    WatchEnded,
    WatchTold,
)
from atomesh.testing.history.recorder import Recorder
from atomesh.testing.history.values import (
    CALL,
    Place,
    Wanted,
)
from atomesh.v1 import agent_pb2, registry_pb2, registry_pb2_grpc

_C = TypeVar("_C", bound=Call)

TIMEOUT = 5.0
"""Seconds for one answer, as the library's own client has it."""

_DETAILS = "grpc-status-details-bin"
_CUT_OFF = ("CANCELLED", "DEADLINE_EXCEEDED", "CONNECTION_LOST")  # reasons that say nothing of what was done
_SAY_NOTHING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)


class Caller:
    """One who asks. It raises nothing for what a registry answers: that is in the fact."""

    def __init__(self, who: str, channel: grpc.aio.Channel, recorder: Recorder, *, timeout: float = TIMEOUT) -> None:
        """The channel is its owner's to close."""
        self.who = who
        self.recorder = recorder
        self._timeout = timeout
        self._stub: Any = registry_pb2_grpc.RegistryServiceStub(channel)

    async def register(
        self, spec: registry_pb2.EndpointSpec, contract: agent_pb2.Contract, contract_hash: str, ttl: float = 0.0
    ) -> tuple[Register, str]:
        """The call, and the real id of the lease that it granted; empty where it granted none.

        The spec is sent with the call's number in its metadata.
        """
        asked = self._asked()
        sent = registry_pb2.EndpointSpec()
        sent.CopyFrom(spec)
        sent.metadata[CALL] = str(asked["number"])
        request = registry_pb2.RegisterRequest(spec=sent, contract=contract)
        if ttl:
            request.ttl.CopyFrom(_duration(ttl))
        call = Register(
            **asked, spec=messages.spec(sent, contract, contract_hash), ttl=ttl, content=messages.content(contract)
        )
        answer, call = await self._ask(call, self._stub.Register, request)
        lease_id: str = answer.lease_id if answer is not None else ""
        if answer is not None:
            granted = answer.ttl.ToNanoseconds() / 1e9
            call = replace(call, lease=self.recorder.granted(lease_id), granted=granted)
        return self._noted(call, answer, lease_id), lease_id

    async def renew(self, leases: Sequence[str], executions: Sequence[int | None] = ()) -> Renew:
        """One batch; `executions` is the load that each tells."""
        told = tuple(executions) or (None,) * len(leases)
        names = tuple(self.recorder.name(lease) for lease in leases)
        request = registry_pb2.RenewRequest()
        for lease, load in zip(leases, told, strict=True):
            renewal = request.renewals.add(lease_id=lease)
            if load is not None:
                renewal.load.executions = load
        call = Renew(**self._asked(), leases=names, executions=told)
        answer, call = await self._ask(call, self._stub.Renew, request)
        if answer is not None:
            statuses = tuple(
                registry_pb2.RenewStatus.Name(each).removeprefix("RENEW_STATUS_") for each in answer.statuses
            )
            call = replace(call, statuses=statuses)
        return self._noted(call, answer)

    async def update(
        self, lease: str, *, state: str = "", slots: int | None = None, labels: dict[str, str] | None = None
    ) -> Update:
        """Changes what is given."""
        request = registry_pb2.UpdateRequest(lease_id=lease, slots=slots)
        if state:
            request.state = messages.state_number(state)
        if labels is not None:
            request.labels.SetInParent()
            request.labels.labels.update(labels)
        given = None if labels is None else messages.pairs(labels)
        call = Update(**self._asked(), lease=self.recorder.name(lease), state=state, slots=slots, labels=given)
        answer, call = await self._ask(call, self._stub.Update, request)
        return self._noted(call, answer)

    async def deregister(self, lease: str) -> Deregister:
        """Says goodbye."""
        call = Deregister(**self._asked(), lease=self.recorder.name(lease))
        answer, call = await self._ask(call, self._stub.Deregister, registry_pb2.DeregisterRequest(lease_id=lease))
        return self._noted(call, answer)

    async def discover(self, wanted: Wanted) -> Discover:
        """The snapshot of a selector."""
        call = Discover(**self._asked(), wanted=wanted)
        request = registry_pb2.DiscoverRequest(selector=messages.selector(wanted))
        answer, call = await self._ask(call, self._stub.Discover, request)
        if answer is not None:
            shown = tuple(messages.shown(each) for each in answer.endpoints)
            call = replace(call, shown=shown, doubting=answer.self_preservation)
        return self._noted(call, answer)

    async def get_contract(self, *, contract_hash: str = "", agent: str = "") -> GetContract:
        """A contract by one or the other."""
        which = {"hash": contract_hash} if contract_hash else {"agent": agent}
        call = GetContract(**self._asked(), hash=contract_hash, agent=agent)
        answer, call = await self._ask(call, self._stub.GetContract, registry_pb2.GetContractRequest(**which))
        if answer is not None:
            types = (answer.contract.input_type, answer.contract.output_type)
            call = replace(call, answered=answer.hash, types=types, content=messages.content(answer.contract))
        return self._noted(call, answer)

    async def watch(self, wanted: Wanted, after: Place | None = None) -> AsyncGenerator[WatchTold, None]:
        """A watch until it breaks; leave it with `aclose`. A message counts as read when it is asked for."""
        request = registry_pb2.WatchRequest(selector=messages.selector(wanted))
        if after is not None:
            request.resume_after.store_id, request.resume_after.revision = after.store, after.revision
        recorder, number, why = self.recorder, self.recorder.number(), "left"
        recorder.note(WatchBegan(number=number, who=self.who, at=recorder.now(), wanted=wanted, after=after))
        stream = self._stub.Watch(request)
        parts: list[Any] = []
        try:
            while (answer := await stream.read()) is not grpc.aio.EOF:
                if answer.WhichOneof("event") == "reset" and answer.reset.more:
                    parts.extend(answer.reset.endpoints)
                    continue
                for each in messages.by_revision(answer):
                    told = self._told(number, each, parts)
                    recorder.note(told)
                    yield told
                parts = []
            why = "ended"
        except grpc.aio.AioRpcError as error:
            why = _outcome(error)
        finally:
            stream.cancel()
            recorder.note(WatchEnded(number=number, at=recorder.now(), why=why))

    def _told(self, number: int, answer: Any, parts: list[Any]) -> WatchTold:
        # One without an event says its position, and nothing else.
        kind: Literal["reset", "changes", "bookmark"] = answer.WhichOneof("event") or "bookmark"
        reset = kind == "reset"
        return WatchTold(
            number=number,
            at=self.recorder.now(),
            kind=kind,
            place=messages.place(answer.position),
            shown=tuple(messages.shown(each) for each in (*parts, *answer.reset.endpoints)),
            reason=messages.reset_reason(answer.reset) if reset else "",
            changes=tuple(messages.change(each) for each in answer.changes.changes),
            secrets=self.recorder.secrets(answer.SerializeToString()),
        )

    def _asked(self) -> dict[str, Any]:
        now = self.recorder.now()
        return {"number": self.recorder.number(), "who": self.who, "began": now, "ended": now, "outcome": LOST}

    async def _ask(self, call: _C, method: Callable[..., Awaitable[Any]], request: Any) -> tuple[Any, _C]:
        """The answer, None where there is none, and the call with how it ended."""
        try:
            answer = await method(request, timeout=self._timeout)
        except grpc.aio.AioRpcError as error:
            return None, replace(call, ended=self.recorder.now(), outcome=_outcome(error))
        except BaseException:
            self.recorder.note(replace(call, ended=self.recorder.now(), outcome=LEFT))
            raise
        return answer, replace(call, ended=self.recorder.now(), outcome=OK)

    def _noted(self, call: _C, answer: Any, granted: str = "") -> _C:
        if answer is not None:
            at = messages.place(answer.position) if hasattr(answer, "position") else None
            secrets = self.recorder.secrets(answer.SerializeToString(), granted)
            call = replace(call, place=at, secrets=secrets)
        self.recorder.note(call)
        return call


def _outcome(error: grpc.aio.AioRpcError) -> str:
    """The registry's own reason where it gave one; LOST where the code says nothing; else the code's name."""
    code: Any = error.code()
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS and isinstance(value, bytes) and (reason := _reason(value)) and reason not in _CUT_OFF:
            return reason
    return LOST if code in _SAY_NOTHING else str(code.name)


def _reason(details: bytes) -> str:
    try:
        status = status_pb2.Status.FromString(details)
    except DecodeError:
        return ""
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Is(info.DESCRIPTOR) and detail.Unpack(info):
            return str(info.reason)
    return ""


def _duration(seconds: float) -> duration_pb2.Duration:
    message = duration_pb2.Duration()
    message.FromNanoseconds(round(seconds * 1e9))
    return message
