"""One connection between a channel and a server: its streams, its pings, its end.

The channel's end and the server's end never see each other's state; they only
send. A connection that is reset loses what is on its way, and each end learns
of that in its own time, or not at all while a partition lasts. Then only the
channel's keepalive finds out, as with gRPC: a ping while calls run and nothing
is heard. Servers do not ping.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from atomesh.testing.memory.links import Direction, Lane

if TYPE_CHECKING:
    from atomesh.testing.memory.channel import MemoryChannel
    from atomesh.testing.memory.client import ClientRpc
    from atomesh.testing.memory.network import Host
    from atomesh.testing.memory.server import MemoryServer
    from atomesh.testing.memory.servicer import ServerRpc

KEEPALIVE = 10.0
"""Seconds without a word after which a channel with calls pings: what
`atomesh.rpc.channel` sets for gRPC, as is the next."""
PING_TIMEOUT = 5.0
_LATE = 0.001  # a timer that came a hair too early would spin


class Connection:
    """Both ends; made when the server has accepted."""

    def __init__(self, channel: MemoryChannel, server: MemoryServer, up: Direction, down: Direction) -> None:
        """`up` goes to the server."""
        self.channel = channel
        self.server = server
        self.up = up
        self.down = down
        self.loop = up.loop
        self.calls: dict[int, ClientRpc] = {}
        """At the channel's end, by stream."""
        self.running: dict[int, ServerRpc] = {}
        """At the server's end."""
        self.heard = 0.0
        """When the channel last heard anything."""
        self._ids = itertools.count(1, 2)
        self._channel_end = self._server_end = True
        self._broken = False
        self._pinging: asyncio.TimerHandle | None = None

    @property
    def hosts(self) -> tuple[Host, Host]:
        """The channel's and the server's."""
        return self.channel.host, self.server.host

    @property
    def lost(self) -> bool:
        """Whether the channel's end is gone."""
        return not self._channel_end

    def begin(self, call: ClientRpc) -> int:
        """A new stream for a call."""
        number = next(self._ids)
        self.calls[number] = call
        if self._pinging is None:
            self.heard = max(self.heard, self.loop.time())
            self._watch(KEEPALIVE)
        return number

    def ended(self, number: int) -> None:
        """A call is over, as its channel sees it."""
        self.calls.pop(number, None)
        if not self.calls and self._pinging is not None:
            self._pinging.cancel()
            self._pinging = None

    # What travels is dropped where the end that it is for is gone.

    def to_server(self, lane: Lane, deliver: Callable[..., None], *args: Any) -> None:
        """Sends to the server's end."""
        if self._channel_end:
            lane.send(self._at_server, deliver, args)

    def to_channel(self, lane: Lane, deliver: Callable[..., None], *args: Any) -> None:
        """Sends to the channel's end."""
        if self._server_end:
            lane.send(self._at_channel, deliver, args)

    def _at_server(self, deliver: Callable[..., None], args: tuple[Any, ...]) -> None:
        if self._server_end and not self._broken:
            deliver(*args)

    def _at_channel(self, deliver: Callable[..., None], args: tuple[Any, ...]) -> None:
        if self._channel_end and not self._broken:
            self.heard = self.loop.time()
            deliver(*args)

    # The end of it.

    def reset(self, why: str) -> None:
        """What is on its way is lost, and both ends learn of it."""
        for direction, end in ((self.up, self.lose_server), (self.down, self.lose_channel)):
            direction.lane().send(end, why)
        self._broken = True

    def close_by_channel(self, why: str) -> None:
        """The channel has closed; the server learns after all that was sent before."""
        if self._channel_end:
            self.lose_channel(why)
            self.up.send_last(self.lose_server, why)

    def close_by_server(self, why: str) -> None:
        """The server has closed; the channel learns after all that was sent before."""
        if self._server_end:
            self.lose_server(why)
            self.down.send_last(self.lose_channel, why)

    def go_away(self) -> None:
        """The server takes nothing new on it; what runs goes on."""
        if self._server_end:
            self.down.send_last(self.channel.went_away, self)

    def lose_channel(self, why: str) -> None:
        """The channel's end is gone."""
        if not self._channel_end:
            return
        self._channel_end = False
        for call in list(self.calls.values()):
            call.cut(why)
        if self._pinging is not None:
            self._pinging.cancel()
            self._pinging = None
        self.channel.lost(self)
        self._forget()

    def lose_server(self, why: str) -> None:
        """The server's end is gone."""
        del why
        if not self._server_end:
            return
        self._server_end = False
        for rpc in list(self.running.values()):
            rpc.abandon()
        self.server.lost(self)
        self._forget()

    def _forget(self) -> None:
        if not (self._channel_end or self._server_end):
            self.channel.network.forget(self)

    # Keepalive.

    def _watch(self, seconds: float) -> None:
        self._pinging = self.loop.call_later(seconds, self._look, context=self.channel.host.context)

    def _look(self) -> None:
        silent = self.loop.time() - self.heard
        if silent < KEEPALIVE - _LATE:
            self._watch(KEEPALIVE - silent + _LATE)
            return
        self.to_server(self.up.lane(), self._pinged)
        self._pinging = self.loop.call_later(PING_TIMEOUT, self._give_up, self.heard, context=self.channel.host.context)

    def _pinged(self) -> None:
        self.to_channel(self.down.lane(), _nothing)

    def _give_up(self, heard: float) -> None:
        if self.heard > heard:
            self._watch(KEEPALIVE)
        else:
            self._pinging = None
            self.close_by_channel("ping timeout")


def _nothing() -> None:
    """A pong: that it came is all it says."""
