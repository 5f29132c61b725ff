"""The shell around ClientEnds: keeps a mux to one endpoint open, opens it again, rotates it.

A stream that is asked to retire goes on until its calls have ended, while its
successor takes the new ones. One that breaks fails what was sent on it, hands
back what was not, and is opened again with a backoff of seconds at most. Where
an endpoint, or a proxy before it, offers no mux, `offered` turns False, and
whoever calls does so by unary Execute until a stream comes about after all.

An RPC is never cancelled here as long as its peer lives: grpc.aio leaks what is
cancelled (grpc issue 43360). A stream is ended by closing our side of it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from atomesh.core.backoff import Backoff
from atomesh.core.clock import Clock
from atomesh.core.errors import AtomeshError, ConnectionLost
from atomesh.rpc.mux.client_end import ClientEnd
from atomesh.rpc.mux.client_stream import ClientStream, Listener
from atomesh.rpc.tasks import Tasks
from atomesh.v1 import mux_pb2

log = logging.getLogger(__name__)

REOPEN = Backoff(base=0.05, cap=2.0)
"""Between streams that never came about. Half of the cap asks a thousand times an
hour for what is not there; twice of it leaves a fleet on unary calls for long
after an upgrade."""

HELLO_SECONDS = 1.0
"""An endpoint that has not said hello by then, and answers otherwise, is called by
unary Execute until it does. Half would do so on a busy machine; twice holds up first calls."""

_FAILURES = 2  # streams in a row that end at once: a proxy that cannot carry them
_LIVED_SECONDS = 0.5  # and this is not at once any more
_CLOSE_SECONDS = 1.0  # for an endpoint to end its side of a stream that we have ended


class MuxClient:
    """Keeps a mux to one endpoint open."""

    def __init__(
        self,
        address: str,
        open_rpc: Callable[[], Any],
        opening: Callable[[], mux_pb2.MuxOpen],
        listener: Listener,
        clock: Clock,
        rng: random.Random | None = None,
    ) -> None:
        """`open_rpc` begins the RPC, `opening` makes its first frame. Nothing is opened before `connected`."""
        self.current: ClientStream | None = None
        """The stream for new calls; None where there is none."""
        self.offered = True
        """Whether the endpoint is believed to have a mux."""
        self._address = address
        self._open_rpc = open_rpc
        self._opening = opening
        self._listener = listener
        self._clock = clock
        self._rng = rng or random.Random()
        self._connected = asyncio.Event()
        self._streams: list[ClientStream] = []
        self._tasks = Tasks()
        self._keeping = self._tasks.spawn(self._keep(), f"mux {address}")

    def connected(self, ready: bool) -> None:
        """Whether the connection underneath stands: streams are opened only while it does."""
        if ready:
            self._connected.set()
        else:
            self._connected.clear()

    def reopen(self) -> None:
        """The endpoint is another instance now: what runs on the old stream is left to end."""
        for stream in self._streams:
            stream.finish()
            stream.over.set()
        self.current = None

    async def close(self) -> None:
        """Ends now; what is in flight is cut off."""
        self._keeping.cancel()
        self.current = None
        for stream in list(self._streams):
            for sent in list(stream.end.calls.values()):
                stream.end.cancel(sent)
                if not sent.waiter.done():
                    sent.waiter.set_exception(ConnectionLost(f"the connection to {self._address} was closed"))
            stream.finish()
        try:
            async with asyncio.timeout(_CLOSE_SECONDS if self._connected.is_set() else 0):
                for stream in list(self._streams):
                    await stream.ended.wait()
        except TimeoutError:
            log.info("%s does not end its mux; cutting it off", self._address)
        await self._tasks.cancel()

    async def _keep(self) -> None:
        failures = 0
        while True:
            await self._connected.wait()
            begun = self._clock.now()
            stream = ClientStream(self._address, ClientEnd(self._opening()), self._listener, self._clock)
            self._tasks.spawn(self._run(stream), f"mux stream {self._address}")
            while not await stream.hello(HELLO_SECONDS if self.offered else None):
                if await self._listener.answers() and not stream.settled:
                    self._offer(False)
            if stream.end.hello is not None:
                await stream.over.wait()
                if self._clock.now() - begun >= _LIVED_SECONDS:
                    failures = 0
                    continue
            failures += 1
            if stream.ended.is_set() and _cannot(stream.error, failures) and await self._listener.answers():
                self._offer(False)
            await self._clock.sleep(REOPEN.delay(failures, self._rng))

    async def _run(self, stream: ClientStream) -> None:
        """Runs a stream to its end."""
        rpc = self._open_rpc()
        self._streams.append(stream)
        watching = asyncio.create_task(self._take_over(stream), name=f"mux hello {self._address}")
        try:
            await stream.run(rpc)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            self._streams.remove(stream)
            if self.current is stream:
                self.current = None
                self._listener.changed()
            rpc.cancel()  # nothing where it has ended, which is nearly always

    async def _take_over(self, stream: ClientStream) -> None:
        """New calls go to the stream once it stands; the one before it ends when its calls have."""
        await stream.hello()
        if stream.end.hello is None:
            return
        before, self.current, self.offered = self.current, stream, True
        if before is not None:
            before.finish()
        self._listener.changed()

    def _offer(self, offered: bool) -> None:
        if self.offered is not offered:
            self.offered = offered
            self._listener.changed()


def _cannot(error: AtomeshError | None, failures: int) -> bool:
    """Whether a stream that failed tells of an endpoint, or of a proxy before it, that has no mux.

    One that was refused, by another instance perhaps, was understood: calls must not go there by another way.
    """
    if error is not None and error.executed is False:
        return False
    return failures >= _FAILURES or (error is not None and error.code == grpc.StatusCode.UNIMPLEMENTED.value[0])
