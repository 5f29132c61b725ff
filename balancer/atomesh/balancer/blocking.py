"""The client for scripts that are not async: one thin wrapper, one thread for all of them."""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, Unpack, overload

from google.protobuf.message import Message

from atomesh.balancer.client import CallOptions, Client, Reply, StreamOptions
from atomesh.balancer.stream import Stream
from atomesh.core.contract import Contract, StreamContract
from atomesh.core.errors import Attempt
from atomesh.v1 import agent_pb2

In = TypeVar("In", bound=Message)
Chunk = TypeVar("Chunk", bound=Message)
Out = TypeVar("Out", bound=Message)
T = TypeVar("T")


class BlockingClient:
    """A Client whose event loop runs in a thread of its own. Safe to share between threads.

    with BlockingClient("127.0.0.1:7400") as mesh:
        output = mesh.call("text-processor", TextInput(...))
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        """Takes what Client takes."""
        self._client = _run(_make(args, settings))

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes."""
        self.close()

    @overload
    def call(self, target: Contract[In, Out], input: In, **options: Any) -> Out: ...  # as Client.call

    @overload
    def call(self, target: str, input: Message, **options: Any) -> Any: ...

    def call(self, target: str | Contract[Any, Any], input: Message, **options: Any) -> Any:
        """As Client.call."""
        return _run(self._client.call(target, input, **options))

    def execute(
        self,
        target: str | Contract[Any, Out],
        input: Message,
        options: CallOptions = CallOptions(),  # noqa: B008 # frozen
    ) -> Reply[Out]:
        """As Client.execute."""
        return _run(self._client.execute(target, input, options))

    @overload
    def stream(
        self, target: StreamContract[In, Chunk, Out], input: In, **options: Unpack[StreamOptions]
    ) -> BlockingStream[Chunk, Out]: ...

    @overload
    def stream(
        self, target: Contract[In, Out], input: In, **options: Unpack[StreamOptions]
    ) -> BlockingStream[Any, Out]: ...

    @overload
    def stream(self, target: str, input: Message, **options: Unpack[StreamOptions]) -> BlockingStream[Any, Any]: ...

    def stream(
        self, target: str | Contract[Any, Any], input: Message, **options: Unpack[StreamOptions]
    ) -> BlockingStream[Any, Any]:
        """As Client.stream: `with mesh.stream(...) as stream: for chunk in stream`."""
        return BlockingStream(self._client, target, input, options)

    def close(self) -> None:
        """Closes the client; calls of other threads fail. Twice is fine."""
        _run(self._client.close())


class BlockingStream(Generic[Chunk, Out]):
    """A Stream whose chunks are waited for by the thread that asks for them."""

    def __init__(
        self, client: Client, target: str | Contract[Any, Any], input: Message, options: StreamOptions
    ) -> None:
        """Nothing is sent before the first chunk is asked for."""
        self._stream: Stream[Chunk, Out] = client.stream(target, input, **options)

    def __enter__(self) -> Self:
        """As Stream's."""
        _run(self._stream.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the call where it has not ended."""
        self.close()

    def __iter__(self) -> Self:
        """Itself."""
        return self

    def __next__(self) -> Chunk:
        """The next chunk."""
        chunk = _run(_next(self._stream))
        if chunk is None:
            raise StopIteration
        return chunk

    def result(self) -> Out:
        """The output; chunks that nobody has asked for are dropped."""
        return _run(self._stream.result())

    @property
    def output(self) -> Out:
        """The output, once the stream has been read to its end."""
        return self._stream.output

    @property
    def info(self) -> agent_pb2.ExecutionInfo:
        """Where and how long it ran."""
        return self._stream.info

    @property
    def chunks(self) -> int:
        """Chunks that have come."""
        return self._stream.chunks

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The attempts that failed; mostly none."""
        return self._stream.attempts

    @property
    def queue_wait(self) -> float:
        """Seconds that the call waited in this client for a slot."""
        return self._stream.queue_wait

    def close(self) -> None:
        """Ends the call where it has not ended. Twice is fine."""
        _run(self._stream.aclose())


class _Loop:
    """The event loop of all blocking clients of the process, in a thread that lives as long as the process.

    One and not one each: grpc.aio hands what arrives for a loop that was closed
    to whichever loop looks next, which fails there (grpc issue 25364).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def get(self) -> asyncio.AbstractEventLoop:
        """The loop, which runs."""
        with self._lock:
            if self._loop is None:
                self._loop = loop = asyncio.new_event_loop()
                thread = threading.Thread(target=loop.run_forever, name="atomesh-client", daemon=True)
                thread.start()
                atexit.register(self._stop, loop, thread)
            return self._loop

    @staticmethod
    def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


_LOOP = _Loop()


def _run(work: Coroutine[Any, Any, T]) -> T:
    future = asyncio.run_coroutine_threadsafe(work, _LOOP.get())
    try:
        return future.result()
    except BaseException:
        future.cancel()  # Ctrl-C in the calling thread ends the call as well
        raise


async def _next(stream: Stream[Chunk, Any]) -> Chunk | None:
    """The next chunk; None at the end."""
    return await anext(stream, None)


async def _make(args: tuple[Any, ...], settings: dict[str, Any]) -> Client:
    """On the loop's own thread: channels belong to the loop that made them."""
    return Client(*args, **settings)
