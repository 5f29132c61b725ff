"""The client of bench_registry's unary calls, a process of its own: `python -m benchmarks._registry_load`.

It says a line of figures for each line of settings (JSON) that it is told, so
that one client measures several registries in turn: `address`, `servers` (pids
whose CPU counts), `kind`, `tasks`, `connections`, `seconds`, and what the kind
needs. Requests are bytes made beforehand and answers stay bytes, so that a call
costs this process gRPC and nothing else.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import grpc.aio

from atomesh.v1 import registry_pb2
from benchmarks import _registry_messages as messages
from benchmarks._drive import Loops, clock, measure
from benchmarks._ends import TIMEOUT, run

Send = Callable[[bytes], Awaitable[bytes]]
SERVICE = "/atomesh.v1.RegistryService/"
AHEAD = 7000
"""Registrations per second that are made beforehand: more than gRPC carries here."""
LONGEST = 8.0
"""Seconds of a slice in which no call ends, after which something is broken."""
ASKED, CHANGED = 100, 500
"""Agents that are looked up in turn, and endpoints that are changed: the same
number at every size, or what fits into caches would pass for what grows."""
TURNS = 8
"""Loads that each process goes through, so that what an endpoint did of late is reckoned anew each time."""


class Connections:
    """So many connections to a server, and a way to call over them in turn."""

    def __init__(self, address: str, count: int) -> None:
        """Each connects when first used, and stays open until the process ends."""
        self.renewals: list[bytes] = []
        # Channels to one address share a connection unless each has a pool of its own.
        options = (("grpc.use_local_subchannel_pool", 1),)
        self.channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(count)]

    def method(self, name: str) -> Send:
        """A unary method, bytes to bytes, over all connections in turn."""
        calls: list[Any] = [channel.unary_unary(SERVICE + name) for channel in self.channels]
        turn = itertools.cycle(calls)
        return lambda request: next(turn)(request, timeout=TIMEOUT)


async def register(connections: Connections, settings: dict[str, Any]) -> Loops:
    """Each call registers an endpoint that was not there."""
    send = connections.method("Register")
    size, first = settings["contract"], settings.get("first", 0)
    # The contracts' bytes are shared; what is made ahead is each endpoint's own.
    heads = [messages.head(first + number) for number in range(int(AHEAD * settings["seconds"]))]
    numbers = itertools.count()

    def call() -> Awaitable[object]:
        number = next(numbers)
        head = heads[number] if number < len(heads) else messages.head(first + number)
        return send(head + messages.tail(first + number, size))

    return Loops(call, settings["tasks"])


async def renew(connections: Connections, settings: dict[str, Any]) -> Loops:
    """Each call is one process's batch: one to five leases with their loads."""
    send = connections.method("Renew")
    connections.renewals = connections.renewals or await _renewals(connections, settings)
    turn = itertools.cycle(connections.renewals)
    return Loops(lambda: send(next(turn)), settings["tasks"])


async def _renewals(connections: Connections, settings: dict[str, Any]) -> list[bytes]:
    """Requests for leases that are registered first."""
    sizes = [process % 5 + 1 for process in range(settings["processes"])]
    leases = iter(await _leases(connections, sum(sizes), settings))
    batches = [list(itertools.islice(leases, size)) for size in sizes]
    requests = [messages.renewal(batch, turn) for turn in range(TURNS) for batch in batches]
    answer = registry_pb2.RenewResponse.FromString(await connections.method("Renew")(requests[0]))
    if list(answer.statuses) != [registry_pb2.RENEW_STATUS_RENEWED] * sizes[0]:
        raise RuntimeError("a renewal was refused")
    return requests


async def _leases(connections: Connections, count: int, settings: dict[str, Any]) -> list[str]:
    """Leases of endpoints that it registers first."""
    send = connections.method("Register")
    left = iter(range(count))
    found: dict[int, str] = {}

    async def caller() -> None:
        for number in left:
            raw = await send(messages.registration(number, "lean"))
            found[number] = registry_pb2.RegisterResponse.FromString(raw).lease_id

    await asyncio.gather(*(caller() for _ in range(32)))
    return [found[number] for number in range(count)]


async def update(connections: Connections, settings: dict[str, Any]) -> Loops:
    """Each call changes a label of one of the endpoints that are there."""
    send = connections.method("Update")
    numbers = _spread(settings["endpoints"], CHANGED)
    tracks = itertools.cycle(("canary", "stable"))
    requests = [messages.update(messages.lease_id(n), n, track) for track, n in zip(tracks, numbers, strict=False)]
    both = requests + [messages.update(messages.lease_id(n), n, t) for t, n in zip(tracks, numbers, strict=False)]
    turn = itertools.cycle(both)
    return Loops(lambda: send(next(turn)), settings["tasks"])


async def churn(connections: Connections, settings: dict[str, Any]) -> Loops:
    """Each call is two: an endpoint comes, and goes again."""
    register, deregister = connections.method("Register"), connections.method("Deregister")
    siblings = settings["siblings"]
    beyond = settings["endpoints"]
    turn = itertools.cycle([messages.registration(beyond + n, "lean", siblings) for n in range(1000)])

    async def call() -> None:
        answer = registry_pb2.RegisterResponse.FromString(await register(next(turn)))
        await deregister(registry_pb2.DeregisterRequest(lease_id=answer.lease_id).SerializeToString())

    return Loops(call, settings["tasks"])


async def discover(connections: Connections, settings: dict[str, Any]) -> Loops:
    """Each call looks somebody up."""
    send = connections.method("Discover")
    asked = settings["asked"]
    requests = [messages.lookup(asked, number) for number in _spread(settings["endpoints"], ASKED)]
    turn = itertools.cycle(requests)
    answer = registry_pb2.DiscoverResponse.FromString(await send(requests[0]))
    wanted = {"name": 10, "capability_10": 10, "capability_1000": 1000}[asked]
    if len(answer.endpoints) != wanted:
        raise RuntimeError(f"{len(answer.endpoints)} endpoints were found instead of {wanted}")
    return Loops(lambda: send(next(turn)), settings["tasks"])


def _spread(endpoints: int, count: int) -> list[int]:
    """So many of the endpoints, from everywhere among them; as many whatever there is."""
    return list(range(0, endpoints, endpoints // count))[:count]


async def first(connections: Connections, settings: dict[str, Any]) -> dict[str, float]:
    """When the first answers are there: to what a cold registry answers too, and to a look-up. By `clock`."""
    contract = registry_pb2.GetContractRequest(agent=messages.agent_of(0, settings["siblings"])).SerializeToString()
    await connections.method("GetContract")(contract)
    answered = clock()
    await connections.method("Discover")(messages.lookup("capability_10", 0))
    return {"answers": answered, "finds": clock()}


async def fill(connections: Connections, settings: dict[str, Any]) -> dict[str, float]:
    """Registers `endpoints`; how many a second of the first and of the last tenth."""
    send = connections.method("Register")
    left = iter(range(settings["endpoints"]))
    ended: list[float] = [clock()]

    async def caller() -> None:
        for number in left:
            await send(messages.registration(number, "lean"))
            ended.append(clock())

    await asyncio.gather(*(caller() for _ in range(settings["tasks"])))
    tenth = settings["endpoints"] // 10
    return {"first": tenth / (ended[tenth] - ended[0]), "last": tenth / (ended[-1] - ended[-1 - tenth])}


KINDS: dict[str, Callable[[Connections, dict[str, Any]], Awaitable[Loops]]] = {
    "register": register,
    "renew": renew,
    "update": update,
    "churn": churn,
    "discover": discover,
}
ONCE = {"first": first, "fill": fill}


async def serve(lines: Iterator[str]) -> None:
    """A measurement for each line; connections stay, so that the next one over them begins warm."""
    known: dict[tuple[str, int], Connections] = {}
    for line in lines:
        settings = json.loads(line)
        where = settings["address"], settings["connections"]
        connections = known.get(where) or known.setdefault(where, Connections(*where))
        try:
            found = await _measured(connections, settings)
        except grpc.aio.AioRpcError as error:  # said in one line: its own words take ten
            raise RuntimeError(f"{settings['kind']}: {error.code().name}: {error.details()}") from None
        print(json.dumps(found), flush=True)


async def _measured(connections: Connections, settings: dict[str, Any]) -> dict[str, float]:
    if (once := ONCE.get(settings["kind"])) is not None:
        return await once(connections, settings)
    seconds = settings["seconds"]
    while True:
        loops = await KINDS[settings["kind"]](connections, settings)
        try:
            return await measure([loops], seconds, settings["servers"])
        except RuntimeError:  # not one call ended: a disk can stop for a second, and half of that is no slice
            if seconds > LONGEST:
                raise
            seconds *= 2


if __name__ == "__main__":
    run(serve(iter(sys.stdin.readline, "")), "asyncio")
