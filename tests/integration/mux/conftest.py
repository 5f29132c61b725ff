"""Muxes over real gRPC with one end written by hand, from the proto alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import status_pb2

from atomesh.agents import Agent, AgentServer, ExecutionContext
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.core.errors import AtomeshError
from atomesh.core.status import from_status
from atomesh.rpc.channel import from_rpc_error
from atomesh.text.v1.text_pb2 import TextInput, TextOutput
from atomesh.v1 import agent_pb2, agent_pb2_grpc, mux_pb2
from atomesh.v1.mux_pb2 import MuxCall, MuxOpen, MuxRequest, MuxResponse

ALL = (mux_pb2.MUX_FEATURE_PARTS, mux_pb2.MUX_FEATURE_GRANTS, mux_pb2.MUX_FEATURE_RETIRE)


class Echo(Agent[TextInput, TextOutput]):
    """Answers with the content; a content that says so holds its slot, or answers at length."""

    name = "echo"

    def __init__(self) -> None:
        self.begun = asyncio.Semaphore(0)
        self.let_go = asyncio.Event()
        self.cancelled = 0
        self.seen: list[ExecutionContext] = []

    async def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
        self.seen.append(context)
        what, _, size = input.content.partition(" ")
        if what == "hold":
            self.begun.release()
            try:
                await self.let_go.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if what == "long":
            return TextOutput(result="o" * int(size))
        if what == "sleep":
            await SYSTEM_CLOCK.sleep(float(size))
        return TextOutput(result=input.content)


def input_of(content: str) -> bytes:
    return TextInput(content=content, operation="sentiment").SerializeToString()


class Stranger:
    """A stream whose frames are written by hand. Reads are a task's: to cancel one would cancel the RPC."""

    def __init__(self, rpc: Any) -> None:
        self.rpc = rpc
        self.all = MuxResponse()
        """Everything that has come, in one."""
        self.grants = 0
        self.frames = 0
        self._reading: asyncio.Task[AtomeshError | None] | None = None
        self._came = asyncio.Event()

    async def send(self, frame: MuxRequest | None = None, **fields: Any) -> None:
        await self.rpc.write(frame if frame is not None else MuxRequest(**fields))

    async def open(self, features: Any = ALL, *, deaf: bool = False, **fields: Any) -> None:
        """Sends the first frame and waits for its answer; `deaf` reads nothing after it."""
        await self.send(open=MuxOpen(version=1, features=features, **fields))
        if deaf:
            self._take(await self.rpc.read())
        else:
            await self.until(lambda: self.all.HasField("hello"))

    async def call(self, id: int, content: str = "hello", **fields: Any) -> None:
        await self.send(calls=[MuxCall(id=id, input=input_of(content), **fields)])

    def read(self) -> asyncio.Task[AtomeshError | None]:
        """Reads from now on."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._read(), name="a stranger reads")
        return self._reading

    async def until(self, condition: Callable[[], object], seconds: float = 5.0) -> None:
        """Returns once what was read makes it true."""
        reading = self.read()
        async with asyncio.timeout(seconds):
            while not condition():
                assert not reading.done(), f"the stream ended before that: {reading.result()!r}"
                self._came.clear()
                await self._came.wait()

    async def ending(self, seconds: float = 5.0) -> AtomeshError | None:
        """How the stream ends: well, or with an error."""
        async with asyncio.timeout(seconds):
            return await self.read()

    async def close(self) -> None:
        """Closes our side and reads to the end."""
        with contextlib.suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
            await self.rpc.done_writing()
        await self.ending()

    async def cut(self) -> None:
        """Cancels the RPC."""
        self.rpc.cancel()
        if self._reading is not None:
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> AtomeshError | None:
        try:
            while (frame := await self.rpc.read()) is not grpc.aio.EOF:
                self._take(frame)
        except grpc.aio.AioRpcError as raw:
            return from_rpc_error(raw)
        finally:
            self._came.set()
        return None

    def _take(self, frame: MuxResponse) -> None:
        self.frames += 1
        self.grants += frame.grants
        frame.ClearField("grants")
        self.all.MergeFrom(frame)
        self._came.set()

    def reply(self, id: int) -> Any:
        """The reply to a call; None while there is none."""
        found = [reply for reply in self.all.replies if reply.id == id]
        assert len(found) <= 1, "a call ends once"
        return found[0] if found else None

    def result(self, id: int) -> str:
        reply = self.reply(id)
        assert not reply.status, self.error(id)
        return TextOutput.FromString(reply.output).result

    def error(self, id: int) -> AtomeshError:
        return from_status(status_pb2.Status.FromString(self.reply(id).status))


class Served:
    """An endpoint, and strangers to it."""

    def __init__(self, server: AgentServer, agent: Echo, stack: contextlib.AsyncExitStack) -> None:
        self.server, self.agent, self._stack = server, agent, stack
        self.address = server.address
        self.admission = server.agents["echo"].admission

    async def stranger(self, *, opened: bool = True, **fields: Any) -> Stranger:
        """A stream on a connection of its own."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        channel = await self._stack.enter_async_context(grpc.aio.insecure_channel(self.address, options=options))
        stub: Any = agent_pb2_grpc.AgentServiceStub(channel)
        stranger = Stranger(stub.Mux())
        self._stack.push_async_callback(stranger.cut)
        if opened:
            await stranger.open(**fields)
        return stranger

    async def drain(self, agent: str) -> None:
        """Begins to drain one agent of the process."""
        channel = await self._stack.enter_async_context(grpc.aio.insecure_channel(self.address))
        stub: Any = agent_pb2_grpc.AgentServiceStub(channel)
        await stub.Drain(agent_pb2.DrainRequest(agent=agent), timeout=5)

    async def raw(self) -> Any:
        """A stream of bytes, whatever they are."""
        channel = await self._stack.enter_async_context(grpc.aio.insecure_channel(self.address))
        method: Any = channel.stream_stream(
            "/atomesh.v1.AgentService/Mux", response_deserializer=MuxResponse.FromString
        )
        rpc = method()
        self._stack.callback(rpc.cancel)
        return rpc


@contextlib.asynccontextmanager
async def serve_echo(names: Sequence[str] = ("echo",), **options: Any) -> AsyncIterator[Served]:
    async with contextlib.AsyncExitStack() as stack:
        agents = [type("Echo", (Echo,), {"name": name})() for name in names]
        server = await stack.enter_async_context(AgentServer(agents, **options))
        yield Served(server, agents[0], stack)


@pytest.fixture
def serving() -> Callable[..., contextlib.AbstractAsyncContextManager[Served]]:
    """`async with serving(slots=1) as here:`."""
    return serve_echo


@pytest.fixture
def text() -> Callable[..., TextInput]:
    return lambda content="hello": TextInput(content=content, operation="sentiment")


@pytest.fixture
def until() -> Callable[..., Awaitable[None]]:
    """`await until(condition)`: returns once it holds, fails where it does not in time."""

    async def wait(condition: Callable[[], bool], seconds: float = 5.0) -> None:
        give_up = SYSTEM_CLOCK.now() + seconds
        while not condition():
            assert SYSTEM_CLOCK.now() < give_up, f"it did not come about within {seconds:g} s"
            await SYSTEM_CLOCK.sleep(0.002)

    return wait
