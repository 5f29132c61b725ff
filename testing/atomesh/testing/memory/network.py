"""The network: hosts, links between them, and every fault that one can have.

All randomness comes from the generator that is handed in, all time from the
running loop: the same calls in the same order give the same world.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any, Protocol

import grpc.aio

from atomesh.core.names import check_dialable, join_address, split_address
from atomesh.rpc.credentials import PLAINTEXT, Credentials
from atomesh.rpc.network import Options
from atomesh.testing.memory.channel import MemoryChannel
from atomesh.testing.memory.client import ClientRpc
from atomesh.testing.memory.connection import Connection
from atomesh.testing.memory.flow import WINDOW
from atomesh.testing.memory.hosts import HostLoop, owned_context
from atomesh.testing.memory.links import Direction, Link, LinkProfile
from atomesh.testing.memory.server import MemoryServer


class Observer(Protocol):
    """Is told what streams send and receive, in the order in which their callers do."""

    def sends(self, call: ClientRpc, message: bytes) -> None:
        """A request is handed over to be sent."""
        ...

    def receives(self, call: ClientRpc, message: bytes) -> None:
        """A response has been read."""
        ...


_FIRST_PORT = 40_000
_AFTERMATH = 10  # one-way latencies after which a link's former latency is forgotten


class Host:
    """One process with an address of its own: an `atomesh.rpc.network.Network`."""

    def __init__(self, network: MemoryNetwork, name: str, ip: str) -> None:
        """Made by MemoryNetwork.host."""
        self.network = network
        self.name = name
        self.ip = ip
        self.alive = True
        self.paused = False
        self.channels: dict[MemoryChannel, None] = {}
        self.context = owned_context(self)

    def channel(self, address: str, credentials: Credentials = PLAINTEXT, options: Options = ()) -> grpc.aio.Channel:
        """A channel from here; see Network."""
        del options
        check_dialable(address)
        credentials.for_channel(address)
        return MemoryChannel(self.network, self, address)

    def server(self, options: Options = ()) -> grpc.aio.Server:
        """A server here; see Network."""
        del options
        return MemoryServer(self.network, self)

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """A task of this host; its children are this host's as well."""
        return asyncio.get_running_loop().create_task(work, name=name, context=self.context.copy())


class MemoryNetwork:
    """Hosts and what is between them."""

    def __init__(self, rng: random.Random, *, profile: LinkProfile | None = None, window: int = WINDOW) -> None:
        """`profile` is that of all links until `shape` says otherwise; `window` in bytes per stream and way."""
        self.rng = rng
        self.window = window
        self.observer: Observer | None = None
        self._loop = asyncio.get_running_loop()
        self._profile = profile or LinkProfile()
        self._links: dict[tuple[str, str], Link] = {}
        self._ips: dict[str, str] = {}
        self._listening: dict[str, MemoryServer] = {}
        self._connections: dict[Connection, None] = {}
        self._ports = _FIRST_PORT

    def host(self, name: str) -> Host:
        """A new process. One that follows another of the same name has its address and its links."""
        number = len(self._ips) + 1
        ip = self._ips.setdefault(name, f"127.1.{number // 250}.{number % 250 + 1}")
        return Host(self, name, ip)

    # Faults.

    def shape(self, source: str, target: str, profile: LinkProfile) -> None:
        """The latency of one way from now on."""
        link = self._link(source, target)
        # What is on its way, and what was decided by how long that took, is of the old weather.
        link.clear_at = max(link.clear_at, self._loop.time() + _AFTERMATH * link.profile.mean)
        link.profile = profile

    def block(self, source: str, target: str) -> None:
        """Nothing gets from one to the other, until `heal`. A partition is two of these."""
        self._link(source, target).block(self._loop.time())

    def heal(self, source: str, target: str) -> None:
        """What was held up arrives late, unless its connection was given up meanwhile."""
        self._link(source, target).heal(self._loop.time())

    def blocked(self, source: str, target: str) -> bool:
        """Whether something is held up between one and the other."""
        link = self._link(source, target)
        return link.blocked or self._loop.time() < link.clear_at

    def round_trip(self, one: str, other: str) -> float:
        """Seconds there and back, on average."""
        return self._link(one, other).profile.mean + self._link(other, one).profile.mean

    def cut(self, one: str, other: str) -> int:
        """Resets the connections between two hosts, what is on its way is lost; how many they were."""
        found = [each for each in self._connections if {host.name for host in each.hosts} == {one, other}]
        for connection in found:
            connection.reset("recvmsg:Connection reset by peer")
            self._connections.pop(connection, None)
        return len(found)

    def pause(self, host: Host) -> None:
        """As SIGSTOP: its callbacks stand still; its kernel goes on accepting what it will read later."""
        if host.alive and not host.paused:
            host.paused = True
            self._freezer().freeze(host)

    def resume(self, host: Host) -> None:
        """As SIGCONT: timers fire late, what came meanwhile is read."""
        if host.paused:
            host.paused = False
            self._freezer().thaw(host)

    def kill(self, host: Host) -> None:
        """As SIGKILL: its connections are reset, it listens no more, and whatever it still tries fails.

        Its tasks run on, unheard, until whoever started them ends them: a
        coroutine cannot be destroyed in the middle.
        """
        self.resume(host)
        host.alive = False
        for address, server in list(self._listening.items()):
            if server.host is host:
                del self._listening[address]
        for connection in [each for each in self._connections if host in each.hosts]:
            connection.reset("Socket closed")
            own_end = connection.lose_channel if connection.channel.host is host else connection.lose_server
            own_end("Socket closed")
            self._connections.pop(connection, None)

    # Called by channels, servers and calls.

    def connect(self, channel: MemoryChannel, attempt: int) -> None:
        """Sends a SYN; `connected` or `refused` follows, or nothing."""
        source, target = channel.host, self._name_of(channel.address)
        if not source.alive:
            self._loop.call_soon(channel.refused, attempt, "the process is dead", context=source.context)
            return
        down = Direction(self._link(target, source.name), source.context, self._loop)
        there = Direction(self._link(source.name, target), owned_context(None), self._loop)
        there.lane().send(self._arrived, channel, attempt, down)

    def bind(self, server: MemoryServer, address: str) -> str:
        """host:port that is bound."""
        host, port = split_address(address)
        if host not in (server.host.ip, "0.0.0.0"):  # any address of the host
            raise RuntimeError(f"{server.host.name} has {server.host.ip}, not {host}")
        if port == 0:
            self._ports += 1
            port = self._ports
        bound = join_address(server.host.ip, port)
        if bound in self._listening or not server.host.alive:
            raise RuntimeError(f"{bound} is in use")
        self._listening[bound] = server
        return bound

    def unbind(self, server: MemoryServer, address: str) -> None:
        """Nobody listens there any more."""
        if self._listening.get(address) is server:
            del self._listening[address]

    def forget(self, connection: Connection) -> None:
        """Both ends are gone."""
        self._connections.pop(connection, None)

    def _arrived(self, channel: MemoryChannel, attempt: int, down: Direction) -> None:
        """The SYN is there: the kernel refuses where nobody listens; else the process answers, when it runs."""
        server = self._listening.get(channel.address)
        if server is None:
            down.lane().send(channel.refused, attempt, "connect: Connection refused (111)")
        else:
            self._loop.call_soon(self._answer, server, channel, attempt, down, context=server.host.context)

    def _answer(self, server: MemoryServer, channel: MemoryChannel, attempt: int, down: Direction) -> None:
        if not (server.accepts and server.host.alive and channel.host.alive):
            down.lane().send(channel.refused, attempt, "connect: Connection refused (111)")
            return
        up = Direction(self._link(channel.host.name, server.host.name), server.host.context, self._loop)
        connection = Connection(channel, server, up, down)
        self._connections[connection] = None
        server.accepted(connection)
        down.lane().send(channel.connected, attempt, connection)

    def _link(self, source: str, target: str) -> Link:
        link = self._links.get((source, target))
        if link is None:
            link = self._links[source, target] = Link(self.rng, self._profile)
        return link

    def _name_of(self, address: str) -> str:
        host, _ = split_address(address)
        return next((name for name, ip in self._ips.items() if ip == host), "nowhere")

    def _freezer(self) -> HostLoop:
        if not isinstance(self._loop, HostLoop):
            raise TypeError("only on a HostLoop can one host stand still; run it with `run_hosts`")
        return self._loop
