"""AgentService.Mux for all agents of the process: each stream is of one agent, each call a task.

What a call is given and asked is what Execute gives and asks: its context is
parsed and checked by itself, its deadline is its own, and it counts as an
Execute in the metrics. What is wrong with one call ends that one.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Mapping, Sequence

from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2

from atomesh.agents.calls import CLEAN_UP, Done
from atomesh.agents.doors import Guard, ServicerContext, anybody, other_instance, unknown
from atomesh.agents.failures import log
from atomesh.agents.served import ServedAgent
from atomesh.core.context import Context
from atomesh.core.errors import (
    AgentCrashed,
    AtomeshError,
    CallLoop,
    Conflict,
    DeadlineExceeded,
    Draining,
    InvalidArgument,
    MessageTooLarge,
    NoFreeSlot,
    WrongType,
)
from atomesh.core.rules import WIRE_RULES
from atomesh.core.status import to_status
from atomesh.core.times import YEAR_10000
from atomesh.rpc.channel import MAX_STATUS_BYTES
from atomesh.rpc.metrics import MethodSeries
from atomesh.rpc.mux.client_end import MAX_OUTPUT
from atomesh.rpc.mux.server import EOF, ServedStream, Write, no_frame
from atomesh.rpc.mux.server_end import Execution, ServerEnd
from atomesh.rpc.mux.slots import Claim
from atomesh.v1 import context_pb2, mux_pb2

_AT_A_GLANCE = 128  # a context of so few bytes has no string over its limit


class MuxCall:
    """A call out of a mux, as a served agent sees it."""

    __slots__ = ("_execution", "_runner", "context")

    typed = False

    def __init__(self, context: Context, execution: Execution, runner: _Runner) -> None:
        """The runner answers where the execution goes on."""
        self.context = context
        self._execution = execution
        self._runner = runner

    def read(self, expected: type[Message]) -> Message:
        """The input; its type is the stream's."""
        try:
            return expected.FromString(self._execution.input)
        except DecodeError:
            raise WrongType(
                f"{len(self._execution.input)} bytes that do not parse as {expected.DESCRIPTOR.full_name}; "
                "check the sender's contract"
            ) from None

    def timeout(self) -> float | None:
        """None: the mux watches its deadline."""
        return None

    def no_wait(self) -> bool:
        """Whether it is to be refused where no slot is free; only few are to wait."""
        return not self._execution.waits

    def answer(self, error: AtomeshError) -> None:
        """Answers now, while the execution runs on."""
        self._runner.answer(self._execution, self.context.request_id, error)


class MuxDoor:
    """Mux for all agents of the process."""

    def __init__(
        self,
        agents: Mapping[str, ServedAgent],
        series: MethodSeries,
        guard: Guard,
        max_age: float | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """`guard` lets each call's credentials pass.

        `max_age` in seconds is how old a stream becomes before its client is asked for another; None is any age.
        """
        self._guard = guard
        self._agents = agents
        self._series = series
        self._max_age = max_age
        self._rng = rng or random.Random()
        self._streams: dict[ServedStream, ServedAgent] = {}
        self._claims: dict[bytes, Claim] = {}

    async def serve(self, requests: object, context: ServicerContext, write: Write) -> None:
        """Serves one stream."""
        del requests  # read from the context, which is a hop less
        try:
            first = await context.read()
        except Exception as error:  # noqa: BLE001 # gRPC has no type of its own for bytes that do not parse
            raise no_frame(error) from None
        if first is EOF:
            return
        served = self._agent(first)
        name = secrets.token_bytes(16)  # who can guess a mux's id can use its grants
        stream = self._stream(served, first.open, name)
        self._streams[stream] = served
        self._claims[name] = stream.end.claim
        served.series.muxes.inc()
        timer = self._retire_later(stream)
        try:
            stream.receive(first)
            await stream.serve(context.read, write)
        finally:
            if timer is not None:
                timer.cancel()
            del self._streams[stream], self._claims[name]
            served.series.muxes.dec()

    def claim(self, mux_id: bytes) -> Claim | None:
        """What the mux of that id has of its agent's slots; None where there is no such mux."""
        return self._claims.get(mux_id)

    def drain(self, agents: Sequence[str]) -> None:
        """Tells the clients of these agents that they take nothing new."""
        for stream, served in self._streams.items():
            if served.spec.name in agents:
                stream.end.drain()
                stream.wake()

    def finish(self) -> None:
        """Ends all streams as soon as everything is answered."""
        for stream in self._streams:
            stream.finish()

    def _retire_later(self, stream: ServedStream) -> asyncio.TimerHandle | None:
        if self._max_age is None:
            return None

        def retire() -> None:
            stream.end.retire()
            stream.wake()

        return asyncio.get_running_loop().call_later(self._max_age * self._rng.uniform(0.8, 1.0), retire)

    def _agent(self, first: mux_pb2.MuxRequest) -> ServedAgent:
        """The agent that a stream means.

        Raises:
            AtomeshError: there is no such agent, instance or input here; nothing of the stream has run.
        """
        if not first.HasField("open"):
            raise InvalidArgument("the first frame of a mux has no `open`; send it there")
        opening = first.open
        name = opening.agent or (next(iter(self._agents)) if len(self._agents) == 1 else "")
        served = self._agents.get(name)
        if served is None:
            raise unknown(opening.agent, self._agents)
        if opening.instance_id and opening.instance_id != served.where.instance_id:
            raise served.with_origin(other_instance(served, opening.instance_id), "")
        expected = served.spec.contract.input_type
        if opening.input_type and opening.input_type != expected:
            raise served.with_origin(WrongType(f"{name} takes {expected}, not {opening.input_type:.200}"), "")
        return served

    def _stream(self, served: ServedAgent, opening: mux_pb2.MuxOpen, name: bytes) -> ServedStream:
        where = served.where
        hello = mux_pb2.MuxHello(
            slots=served.spec.slots,
            weight=served.spec.weight,
            instance_id=where.instance_id,
            agent_version=served.spec.version,
            endpoint=where.address(),
            mux_id=name,
            output_type=served.spec.contract.output_type,
        )
        end = ServerEnd(served.admission, opening, hello, where.default_timeout)
        if served.admission.draining:
            end.drain()
        stream = ServedStream(end, served.admission, where.clock)
        stream.runner = _Runner(served, stream, self._series, self._guard, opening.max_status_bytes)
        return stream


class _Runner:
    """Runs the calls of one stream, each in a task of its own."""

    def __init__(
        self, served: ServedAgent, stream: ServedStream, series: MethodSeries, guard: Guard, max_status: int
    ) -> None:
        self._guard = None if guard is anybody else guard
        self._served = served
        self._stream = stream
        self._end = stream.end
        self._series = series
        self._max_status = min(max_status, MAX_STATUS_BYTES)  # or its frame would be too large to send
        self._now = served.where.clock.now
        self._wall = served.where.clock.wall
        self._create_task = asyncio.get_running_loop().create_task

    def start(self, execution: Execution) -> None:
        """Runs it."""
        self._series.unary_began()
        execution.task = self._create_task(self._run(execution))

    def cancel(self, execution: Execution) -> None:
        """Ends it, unless it has not begun, and then it sees for itself."""
        if execution.begun:
            execution.task.cancel()

    def late(self, execution: Execution) -> None:
        """Ends it, and answers for it where it goes on all the same."""
        self.cancel(execution)
        asyncio.get_running_loop().call_later(CLEAN_UP, self._answer_late, execution)

    def refuse(self, execution: Execution, why: str) -> None:
        """Tells the caller why it did not run."""
        name = self._served.spec.name
        refusal: AtomeshError
        if why == "returns":
            refusal = CallLoop(f"{name}: the call came back to it and would wait for itself; all slots are taken")
        elif why == "drain":
            refusal = Draining(f"{name} is draining here; call another endpoint")
        elif why == "stalled":
            refusal = NoFreeSlot(f"{name}: the rest of the input did not come within 250 ms; send it again")
        elif why == "size":
            refusal = MessageTooLarge(f"{name}: the input is not what its call said, or over 4 MiB", executed=False)
        else:
            refusal = Conflict(f"{name}: call {execution.id} has not ended and began again; use every id once")
        self._served.series.refused(refusal)
        self._series.unary_began()
        self._series.unary_ended(refusal.code, 0.0)
        self._end.refuse(execution, self._status(refusal, ""))
        self._stream.wake()

    async def _run(self, execution: Execution) -> None:
        """One call; its slot is given back in any case."""
        begun, code, request_id, made_up = self._now(), code_pb2.CANCELLED, "", ""
        execution.begun = True
        try:
            context = self._context(execution)
            request_id = context.request_id
            if not request_id:
                context = context.with_request_id()
                request_id = made_up = context.request_id
            call = MuxCall(context, execution, self)
            done = await self._served.run_in_slot(call, execution.deadline, wait=execution.waits)
            code = code_pb2.OK
            self._reply(execution, done, made_up)
        except AtomeshError as error:
            code = error.code
            self.answer(execution, request_id, error)
        except asyncio.CancelledError:
            if not execution.cancelled:
                raise  # the process ends; nobody has said that the caller went away
        except Exception as error:  # noqa: BLE001 # the last line before the wire: logged there in full
            code = code_pb2.INTERNAL
            log.exception("a call of %s failed unexpectedly", self._served.spec.name)
            self.answer(execution, request_id, AgentCrashed(f"{type(error).__name__}; the server's log has the reason"))
        finally:
            self._end.left(execution)
            self._series.unary_ended(code, self._now() - begun)
            self._stream.wake()

    def _context(self, execution: Execution) -> Context:
        """The call's context, checked; where it is none the slot is given back."""
        raw, served = execution.context, self._served
        try:
            if execution.cancelled:
                raise asyncio.CancelledError
            if execution.deadline <= self._now():
                raise DeadlineExceeded(f"{served.spec.name}: out of time before it began", executed=False)
            if self._guard is not None:
                self._guard((("authorization", execution.authorization),) if execution.authorization else ())
            if not raw:
                return self._plain(execution)
            proto = context_pb2.Context.FromString(raw)
            large = len(raw) > _AT_A_GLANCE or proto.metadata or proto.via
            if large and (violations := WIRE_RULES.check(proto)):
                raise InvalidArgument("invalid context: " + "; ".join(map(str, violations)), violations=violations)
            context = Context.from_proto(proto)
            served.check_depth(context)
            return context
        except DecodeError:
            if not execution.waits:
                served.give_back()
            raise InvalidArgument(f"{len(raw)} bytes that do not parse as atomesh.v1.Context") from None
        except BaseException:
            if not execution.waits:
                served.give_back()
            raise

    def _plain(self, execution: Execution) -> Context:
        """The context of a call that has a request id, a key and a timestamp at most, as most have."""
        context = Context(_text("request_id", execution.request_id))
        if execution.key:
            context.idempotency_key = _text("idempotency_key", execution.key)
        if execution.timestamp_us:
            context.timestamp = min(execution.timestamp_us / 1e6, float(YEAR_10000 - 1))
        return context

    def _reply(self, execution: Execution, done: Done, made_up: str) -> None:
        output = done.output.SerializeToString()
        if len(output) > MAX_OUTPUT:
            what = f"the output is {len(output)} bytes, larger than max ({MAX_OUTPUT}); send less, or in chunks"
            raise MessageTooLarge(what, executed=True)
        reply = self._end.reply(execution, output, self._now())
        if reply is None:
            return
        reply.started_us = int((self._wall() - done.took) * 1e6)
        if done.waited:
            reply.queue_us = int(done.waited * 1e6)
        reply.execution_us = int(done.took * 1e6)
        if made_up:
            reply.request_id = made_up
        if done.notes:
            reply.notes.update(done.notes)

    def answer(self, execution: Execution, request_id: str, error: AtomeshError) -> None:
        """Ends a call with an error."""
        error.max_status_bytes = self._max_status
        self._end.fail(execution, self._status(error, request_id))
        self._stream.wake()

    def _answer_late(self, execution: Execution) -> None:
        if execution.id in self._end.running:
            name = self._served.spec.name
            error = DeadlineExceeded(f"{name}: the deadline passed, and the work goes on", executed=True)
            self.answer(execution, "", error)

    def _status(self, error: AtomeshError, request_id: str) -> bytes:
        serialized: bytes = to_status(self._served.with_origin(error, request_id)).SerializeToString()
        return serialized


def _text(field: str, raw: bytes) -> str:
    """A field of a context that came by itself.

    Raises:
        InvalidArgument: it is too long, or no UTF-8.
    """
    if len(raw) > _AT_A_GLANCE:
        raise InvalidArgument(f"invalid context: {field} has {len(raw)} bytes; at most {_AT_A_GLANCE}")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise InvalidArgument(f"invalid context: {field} is not UTF-8") from None
