"""The client for scripts that are not async: one thin wrapper, one thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from google.protobuf.message import Message

from atomesh.balancer.client import CallOptions, Client, Reply
from atomesh.core.contract import Contract
from atomesh.core.errors import Cancelled

In = TypeVar("In", bound=Message)
Out = TypeVar("Out", bound=Message)
T = TypeVar("T")


class BlockingClient:
    """A Client on an event loop of its own, in a thread of its own. Safe to share between threads.

    with BlockingClient("127.0.0.1:7400") as mesh:
        output = mesh.call("text-processor", TextInput(...))
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        """Takes what Client takes."""
        self._closing = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="atomesh-client", daemon=True)
        self._thread.start()
        try:
            self._client = self._run(_make(args, settings))
        except BaseException:
            self._stop()
            raise

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
        return self._run(self._client.call(target, input, **options))

    def execute(
        self,
        target: str | Contract[Any, Out],
        input: Message,
        options: CallOptions = CallOptions(),  # noqa: B008 # frozen
    ) -> Reply[Out]:
        """As Client.execute."""
        return self._run(self._client.execute(target, input, options))

    def close(self) -> None:
        """Closes the client and ends the thread; calls of other threads fail. Twice is fine."""
        with self._closing:
            if not self._loop.is_closed():
                try:
                    self._run(self._end())
                finally:
                    self._stop()

    async def _end(self) -> None:
        await self._client.close()
        # Whoever waits in another thread is to be told before the loop ends.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop.is_closed():
            work.close()
            raise Cancelled("the client is closed", executed=False)
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C in the calling thread ends the call as well
            raise

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _make(args: tuple[Any, ...], settings: dict[str, Any]) -> Client:
    """On the loop's own thread: channels belong to the loop that made them."""
    return Client(*args, **settings)
