"""The client for scripts that are not async: one thin wrapper, one thread for all of them."""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from google.protobuf.message import Message

from atomesh.balancer.client import CallOptions, Client, Reply
from atomesh.core.contract import Contract

In = TypeVar("In", bound=Message)
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

    def close(self) -> None:
        """Closes the client; calls of other threads fail. Twice is fine."""
        _run(self._client.close())


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


async def _make(args: tuple[Any, ...], settings: dict[str, Any]) -> Client:
    """On the loop's own thread: channels belong to the loop that made them."""
    return Client(*args, **settings)
