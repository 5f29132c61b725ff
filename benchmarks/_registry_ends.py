"""The other servers of bench_registry, each a process of its own; the registry itself is `atomesh registry`.

    python -m benchmarks._registry_ends raw
    python -m benchmarks._registry_ends fill DIRECTORY COUNT SIBLINGS
    python -m benchmarks._registry_ends profiled OUT <arguments of atomesh>

`raw` is the ceiling: generated messages over grpc.aio, parsed, answered at once
with answers of the same size, and nothing kept; it says its address. `fill`
writes a registry's store of so many endpoints. `profiled` is `atomesh` with a
look at where its time goes (see _profiled.py).
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from atomesh.v1 import agent_pb2, registry_pb2
from benchmarks._ends import forever, run
from benchmarks._registry_messages import SIBLINGS, contract, lease_id, registration, spec

SERVICE_NAME = "atomesh.v1.RegistryService"
FILL_BATCH = 2000
"""Endpoints per commit of a store that is filled: a second of work each; twice only holds more in memory."""


class Raw:
    """Answers as a registry would, and knows nothing."""

    def __init__(self) -> None:
        """Nobody watches."""
        self._waiting: list[asyncio.Event] = []
        self._news = b""

    def _position(self) -> Any:
        return registry_pb2.Position(store_id="0" * 32, revision=123_456)

    async def Register(self, request: Any, context: Any) -> Any:  # noqa: N802 # gRPC's name
        """A lease that nobody holds."""
        response = registry_pb2.RegisterResponse(lease_id=lease_id(7), position=self._position())
        response.ttl.seconds = request.ttl.seconds
        return response

    async def Renew(self, request: Any, context: Any) -> Any:  # noqa: N802 # gRPC's name
        """All is well."""
        return registry_pb2.RenewResponse(
            statuses=[registry_pb2.RENEW_STATUS_RENEWED] * len(request.renewals), position=self._position()
        )

    async def Update(self, request: Any, context: Any) -> Any:  # noqa: N802 # gRPC's name
        """Whoever watches is sent a change of the usual size."""
        for event in self._waiting:
            event.set()
        return registry_pb2.UpdateResponse(position=self._position())

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[bytes]:  # noqa: N802 # gRPC's name
        """The same bytes to everybody, as often as somebody updates."""
        event = asyncio.Event()
        self._waiting.append(event)
        first, news = self._watched(request)
        yield first
        while True:
            await event.wait()
            event.clear()
            yield news

    def _watched(self, request: Any) -> tuple[bytes, bytes]:
        """A Reset of one agent's endpoints, and a change of one, as bytes made once."""
        endpoints = [
            registry_pb2.Endpoint(
                spec=spec(n), state=agent_pb2.SERVING_STATE_SERVING, contract_hash="0" * 64, revision=n
            )
            for n in range(SIBLINGS)
        ]
        for endpoint in endpoints:
            endpoint.input_type, endpoint.output_type = (
                contract(0, "lean").input_type,
                contract(0, "lean").output_type,
            )
            endpoint.registered_at.GetCurrentTime()
            endpoint.last_renewed_at.GetCurrentTime()
        reset = registry_pb2.WatchResponse(reset=registry_pb2.Reset(endpoints=endpoints), position=self._position())
        changes = registry_pb2.Changes(changes=[registry_pb2.Change(changed=endpoints[0])])
        change = registry_pb2.WatchResponse(changes=changes, position=self._position())
        self._news = self._news or change.SerializeToString()
        return reset.SerializeToString(), self._news


async def serve_raw() -> None:
    """The ceiling: what generated code does, but for the watch, whose answers are bytes already."""
    from atomesh.rpc.channel import MAX_MESSAGE_BYTES

    raw = Raw()
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)])
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(method, request.FromString, response.SerializeToString)
        for name, method, request, response in (
            ("Register", raw.Register, registry_pb2.RegisterRequest, registry_pb2.RegisterResponse),
            ("Renew", raw.Renew, registry_pb2.RenewRequest, registry_pb2.RenewResponse),
            ("Update", raw.Update, registry_pb2.UpdateRequest, registry_pb2.UpdateResponse),
        )
    }
    handlers["Watch"] = grpc.unary_stream_rpc_method_handler(raw.Watch, registry_pb2.WatchRequest.FromString, None)
    server.add_registered_method_handlers(SERVICE_NAME, handlers)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE_NAME, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await forever(f"127.0.0.1:{port}")


async def fill(directory: str, count: int, siblings: int) -> None:
    """Writes endpoints 0 to `count` into a new store, by the registry's own steps but for gRPC."""
    from atomesh.cli.registry import STORE
    from atomesh.registry import RegistrySettings, SQLiteStorage, requests
    from atomesh.registry.staging import stage
    from atomesh.registry.store import Store

    storage = SQLiteStorage(Path(directory, STORE))
    store = Store(await storage.load(), superseded_kept=0)
    settings = RegistrySettings()
    for begin in range(0, count, FILL_BATCH):
        operations = []
        for number in range(begin, min(begin + FILL_BATCH, count)):
            request = registry_pb2.RegisterRequest.FromString(registration(number, "lean", siblings))
            operations.append(requests.registration(request, lease_id(number), settings, 1.7e9))
        staged = stage(store, list(operations))
        await storage.commit(staged.batch)
        store.apply(staged.batch)
    await storage.close()
    print(len(store), flush=True)


def profiled(out: Path, arguments: list[str]) -> int:
    """`atomesh`, looked at between SIGUSR1 and SIGUSR2."""
    from atomesh.cli import main
    from benchmarks._profiled import Sampler

    tool = Sampler(out)
    signal.signal(signal.SIGUSR1, tool.begin)
    signal.signal(signal.SIGUSR2, tool.end)
    sys.argv[1:] = arguments
    return main()


def start(role: str, *rest: str) -> int:
    """Runs one end."""
    if role == "profiled":
        return profiled(Path(rest[0]), list(rest[1:]))
    run(serve_raw() if role == "raw" else fill(rest[0], int(rest[1]), int(rest[2])), "asyncio")
    return 0


if __name__ == "__main__":
    raise SystemExit(start(*sys.argv[1:]))
