"""The registry's client against a real registry: asked, followed, restarted, and not there at all."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from atomesh.core import Added, Capability, Changed, Endpoint, Load, Removed, Reset, Selector, State, WatchEvent
from atomesh.core.contract import describe
from atomesh.core.errors import InvalidArgument, NotFound, RegistryUnavailable, Unauthenticated, UnknownLease
from atomesh.core.updates import RemovedReason, ResetReason
from atomesh.registry import MemoryStorage, RegistryServer, RegistrySettings, SQLiteStorage
from atomesh.registry.operations import Batch
from atomesh.rpc import Credentials, Registrar, RegistryClient, registry_client
from atomesh.rpc.http import HttpServer
from atomesh.rpc.registry_client import follow
from atomesh.text.v1 import text_pb2
from atomesh.v1 import registry_pb2, registry_pb2_grpc

TEXT = describe(text_pb2.TextInput, text_pb2.TextOutput)
FAST = RegistrySettings(min_ttl=0.3, default_ttl=15.0, tick=0.05)
RENEWED, UNKNOWN = registry_pb2.RENEW_STATUS_RENEWED, registry_pb2.RENEW_STATUS_UNKNOWN


def _endpoint(number: int = 1, **more: Any) -> Endpoint:
    more.setdefault("instance_id", f"instance-{number}")
    return Endpoint("text-processor", f"127.0.0.1:{5000 + number}", **more)


@contextlib.asynccontextmanager
async def _registry(bind: str = "127.0.0.1:0", storage: Any = None, **more: Any) -> AsyncIterator[RegistryServer]:
    more.setdefault("settings", FAST)
    async with RegistryServer(bind=bind, storage=storage or MemoryStorage(), **more) as server:
        yield server


@contextlib.asynccontextmanager
async def _task(work: Any) -> AsyncIterator[asyncio.Task[Any]]:
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.asynccontextmanager
async def _following(client: RegistryClient) -> AsyncIterator[list[WatchEvent]]:
    seen: list[WatchEvent] = []

    async def collect() -> None:
        async with contextlib.aclosing(follow(client, Selector())) as events:
            async for event in events:
                seen.append(event)

    async with _task(collect()):
        yield seen


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not true():  # noqa: ASYNC110 # what another task sees is not told
            await asyncio.sleep(0.01)  # noqa: TID251 # a real registry lives in real time


async def test_an_endpoint_lives_from_registration_to_farewell() -> None:
    said = _endpoint(
        version="1.2.3",
        slots=4,
        capabilities=(Capability("reporting", 0.5),),
        labels={"Zoë": "🦊"},
        zone="a",
        idempotent=True,
    )
    async with _registry() as server, RegistryClient(server.address) as client:
        granted = await client.register(said, TEXT, ttl=30)
        assert (len(granted.lease_id), granted.ttl, granted.position.revision) == (32, 30.0, 1)
        assert granted.lease_id not in repr(granted), "a lease id is a secret"
        load = Load(slots=4, in_flight=2, busy=1.5)
        assert await client.renew([(granted.lease_id, load), ("0" * 32, None)]) == [RENEWED, UNKNOWN]

        (known,) = (await client.discover()).endpoints
        own = {
            "state",
            "input_type",
            "output_type",
            "contract_hash",
            "registered_at",
            "last_renewed_at",
            "revision",
            "load",
        }
        assert replace(said, **{name: getattr(known, name) for name in own}) == known
        assert (known.load, known.contract_hash, known.input_type) == (load, TEXT.hash, TEXT.input_type)

        position = await client.update(granted.lease_id, state=State.DRAINING, slots=7)
        assert position.revision == 2
        assert (await client.discover()).endpoints == (), "only who serves, unless asked otherwise"
        (known,) = (await client.discover(Selector(states=(State.DRAINING,)))).endpoints
        assert known.slots == 7

        assert await client.get_contract(contract_hash=TEXT.hash) == TEXT
        assert await client.get_contract(agent="text-processor") == TEXT
        await client.deregister(granted.lease_id)
        assert (await client.discover()).position.revision == 3
        with pytest.raises(UnknownLease):
            await client.deregister(granted.lease_id)


async def test_the_registrys_own_refusals_arrive_as_what_they_are() -> None:
    async with _registry(credentials=Credentials(token="right")) as server:
        async with RegistryClient(server.address, Credentials(token="wrong")) as stranger:
            with pytest.raises(Unauthenticated, match="check --token-file"):
                await stranger.register(_endpoint(), TEXT)
            assert (await stranger.discover()).endpoints == ()
        async with RegistryClient(server.address, Credentials(token="right")) as client:
            for bad, said in (
                (replace(_endpoint(), address="0.0.0.0:1"), "advertise"),
                (replace(_endpoint(), version="newest"), "semver"),
                (replace(_endpoint(), instance_id=""), "spec.instance_id"),
            ):
                with pytest.raises(InvalidArgument, match=said):
                    await client.register(bad, TEXT)
            for ttl in (0, 365 * 86_400):
                with pytest.raises(InvalidArgument, match="ttl"):
                    await client.register(_endpoint(), TEXT, ttl=ttl)
            with pytest.raises(NotFound):
                await client.get_contract(contract_hash="0" * 64)
            with pytest.raises(InvalidArgument):
                await client.get_contract()
            with pytest.raises(UnknownLease):
                await client.update("0" * 32, slots=2)


async def test_more_leases_than_a_request_holds_are_renewed_in_order() -> None:
    count = registry_client.MOST_RENEWALS + 1
    async with _registry() as server, RegistryClient(server.address) as client:
        assert await client.renew([]) == []
        granted = await client.register(_endpoint(), TEXT)
        leases: list[tuple[str, Load | None]] = [("0" * 32, None)] * (count - 1)
        assert await client.renew([*leases, (granted.lease_id, None)]) == [UNKNOWN] * (count - 1) + [RENEWED]
        assert await client.renew([(granted.lease_id, None), *leases]) == [RENEWED] + [UNKNOWN] * (count - 1)


async def test_a_watch_tells_the_snapshot_and_then_each_change() -> None:
    async with _registry() as server, RegistryClient(server.address) as client:
        first = await client.register(_endpoint(1), TEXT)
        async with contextlib.aclosing(client.watch_once(Selector(states=(State.SERVING, State.DRAINING)))) as events:
            (reset,) = (await anext(events)).updates
            assert isinstance(reset, Reset)
            assert [endpoint.address for endpoint in reset.endpoints] == ["127.0.0.1:5001"]
            await client.register(_endpoint(2), TEXT)
            await client.update(first.lease_id, state=State.DRAINING)
            await client.deregister(first.lease_id)
            (added,), (changed,), (removed,) = [(await anext(events)).updates for _ in range(3)]
        assert isinstance(added, Added)
        assert added.endpoint.address == "127.0.0.1:5002"
        assert isinstance(changed, Changed)
        assert changed.endpoint.state is State.DRAINING
        assert removed == Removed("text-processor", "127.0.0.1:5001", "instance-1", RemovedReason.DEREGISTERED)


async def test_a_silent_registry_breaks_the_watch(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent:
        def __getattr__(self, name: str) -> Any:
            async def method(request: Any, context: Any) -> Any:
                await asyncio.Event().wait()

            return method

        async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802 # gRPC's name
            await asyncio.Event().wait()
            yield registry_pb2.WatchResponse()

    def add(_: Any, server: Any) -> None:
        server.add(registry_pb2_grpc.add_RegistryServiceServicer_to_server, Silent())

    monkeypatch.setattr(registry_client, "WATCH_SILENCE", 0.1)
    monkeypatch.setattr(registry_client, "CALL_TIMEOUT", 0.1)
    async with serve(add=add) as running, RegistryClient(running.server.address) as client:
        with pytest.raises(RegistryUnavailable, match="nothing heard"):
            await anext(client.watch_once(Selector()))
        with pytest.raises(RegistryUnavailable, match=r"no registry answers at .*Deadline Exceeded"):
            await client.discover()


async def _until_known(seen: list[WatchEvent], count: int) -> None:
    await _until(lambda: len(_fold(seen)) == count)


async def _until_longer(seen: list[WatchEvent], length: int) -> None:
    await _until(lambda: len(seen) > length)


@pytest.mark.parametrize("missed", [0, 3])
async def test_following_loses_and_doubles_nothing_over_restarts(tmp_path: Path, missed: int) -> None:
    """`missed` changes are made after each restart, before the watch is back."""
    storage, number = tmp_path / "registry.db", 0
    async with contextlib.AsyncExitStack() as stack:
        server = RegistryServer(bind="127.0.0.1:0", storage=SQLiteStorage(storage), settings=FAST)
        await server.start()
        address = server.address
        client = await stack.enter_async_context(RegistryClient(address))
        seen = await stack.enter_async_context(_following(client))
        await _until(lambda: bool(seen))
        for _ in range(3):
            for _ in range(5):
                number += 1
                await client.register(_endpoint(number), TEXT)
            await _until_known(seen, number)
            await server.stop()
            resumed = asyncio.ensure_future(_until_longer(seen, len(seen)))
            server = RegistryServer(bind=address, storage=SQLiteStorage(storage), settings=FAST)
            await server.start()
            for _ in range(missed):
                number += 1
                await _registered(client, _endpoint(number))
            await resumed
        await _until_known(seen, number)
        await server.stop()
    assert _fold(seen) == {f"127.0.0.1:{5000 + n}" for n in range(1, number + 1)}
    resets = [update for event in seen for update in event.updates if isinstance(update, Reset)]
    assert missed or len(resets) == 1, "where nothing was missed the watch must go on, not begin anew"


async def _registered(client: RegistryClient, endpoint: Endpoint) -> None:
    """Once the registry is back, which its clients' channels notice within 2 s."""
    async with asyncio.timeout(15):
        while True:
            try:
                await client.register(endpoint, TEXT)
                return
            except RegistryUnavailable:
                await asyncio.sleep(0.05)  # noqa: TID251 # a real registry lives in real time


def _fold(seen: list[WatchEvent]) -> set[str]:
    """The addresses that a follower knows in the end; nothing may be told twice, nor go back in time."""
    known: set[str] = set()
    revision = 0
    for event in seen:
        assert event.position.revision >= revision, "positions must not go back"
        assert event.position.revision > revision or not revision or not event.updates, "no change comes twice"
        revision = event.position.revision
        for update in event.updates:
            if isinstance(update, Reset):
                known = {endpoint.address for endpoint in update.endpoints}
            elif isinstance(update, Added):
                assert update.endpoint.address not in known, "what is known cannot be added"
                known.add(update.endpoint.address)
            elif isinstance(update, Removed):
                known.remove(update.address)
    return known


async def test_following_begins_anew_where_the_registry_is_another_one() -> None:
    async with contextlib.AsyncExitStack() as stack:
        first = RegistryServer(bind="127.0.0.1:0", storage=MemoryStorage(), settings=FAST)
        await first.start()
        client = await stack.enter_async_context(RegistryClient(first.address))
        seen = await stack.enter_async_context(_following(client))
        await client.register(_endpoint(1), TEXT)
        await _until(lambda: _fold(seen) == {"127.0.0.1:5001"})
        address = first.address
        await first.stop()
        await stack.enter_async_context(_registry(address))
        await _until(lambda: [isinstance(update, Reset) for event in seen for update in event.updates].count(True) == 2)
    (reset,) = seen[-1].updates
    assert isinstance(reset, Reset)
    assert (reset.endpoints, reset.reason) == ((), ResetReason.FOREIGN_POSITION)


async def test_a_registrar_registers_again_with_a_registry_that_forgot_it() -> None:
    async with contextlib.AsyncExitStack() as stack:
        first = RegistryServer(bind="127.0.0.1:0", storage=MemoryStorage(), settings=FAST)
        await first.start()
        address = first.address
        client = await stack.enter_async_context(RegistryClient(address))
        registrar = Registrar(client, ttl=0.6)
        registrar.add(_endpoint(1), TEXT, lambda: Load(slots=2, in_flight=1))
        registrar.add(Endpoint("other", "127.0.0.1:5009", instance_id="instance-9"), TEXT)
        await stack.enter_async_context(_task(registrar.run()))
        async with asyncio.timeout(5):
            await registrar.ready.wait()
        await first.stop()
        await asyncio.sleep(0.5)  # noqa: TID251 # it finds nobody
        await stack.enter_async_context(_registry(address))
        async with asyncio.timeout(10):
            while len(await _discovered(client)) < 2:  # noqa: ASYNC110 # nobody tells
                await asyncio.sleep(0.02)  # noqa: TID251 # a real registry lives in real time
        await asyncio.sleep(1.0)  # noqa: TID251 # longer than the ttl
        endpoints = {endpoint.agent: endpoint for endpoint in await _discovered(client)}
        assert set(endpoints) == {"text-processor", "other"}, "its leases must be renewed"
        assert endpoints["text-processor"].load == Load(slots=2, in_flight=1)
        assert await registrar.drain()
        assert await _discovered(client) == ()
        await registrar.leave()
        assert (await client.discover(Selector(states=(State.DRAINING,)))).endpoints == ()


async def _discovered(client: RegistryClient) -> tuple[Endpoint, ...]:
    try:
        return (await client.discover()).endpoints
    except RegistryUnavailable:
        return ()


async def test_a_registrar_gives_way_to_a_newer_instance() -> None:
    async with _registry() as server, RegistryClient(server.address) as client:
        registrar = Registrar(client, ttl=0.6)
        registrar.add(_endpoint(1), TEXT)
        async with _task(registrar.run()):
            async with asyncio.timeout(5):
                await registrar.ready.wait()
            await client.register(replace(_endpoint(1), instance_id="instance-2"), TEXT)
            async with asyncio.timeout(5):
                await registrar.superseded.wait()
            await asyncio.sleep(0.5)  # noqa: TID251 # it would be back by now
            (known,) = (await client.discover()).endpoints
        assert known.instance_id == "instance-2"


class _SlowStorage(MemoryStorage):
    """A disk that takes a second for a commit, and does it."""

    slow = True

    async def commit(self, batch: Batch) -> None:
        if self.slow:
            await asyncio.sleep(0.4)  # noqa: TID251 # a real disk takes real time
        await super().commit(batch)


async def test_a_registration_that_timed_out_after_its_commit_leaves_no_ghost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_client, "CALL_TIMEOUT", 0.2)
    storage = _SlowStorage()
    async with _registry(storage=storage) as server, RegistryClient(server.address) as client:
        with pytest.raises(RegistryUnavailable):
            await client.register(_endpoint(1), TEXT)
        await _until(lambda: len(server.ledger.discover(Selector())) == 1)
        registrar = Registrar(client)
        registrar.add(_endpoint(1), TEXT)
        async with _task(registrar.run()):
            await asyncio.sleep(0.25)  # noqa: TID251 # its first try has timed out
            storage.slow = False
            async with asyncio.timeout(5):
                await registrar.ready.wait()
            assert not registrar.superseded.is_set(), "it must not take its own lost try for another process"
            await registrar.leave()
            assert (await client.discover()).endpoints == ()


async def test_leaving_after_a_lost_answer_and_a_cancelled_run_leaves_no_ghost(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = _SlowStorage()
    async with _registry(storage=storage) as server, RegistryClient(server.address) as client:
        registrar = Registrar(client)
        registrar.add(_endpoint(1), TEXT)
        async with _task(registrar.run()):
            await asyncio.sleep(0.1)  # noqa: TID251 # in the middle of the commit
        await _until(lambda: len(server.ledger.discover(Selector())) == 1)
        storage.slow = False
        await registrar.leave()
        assert (await client.discover()).endpoints == ()


async def test_where_nobody_listens_it_says_how_to_start_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    async with RegistryClient(address) as client:
        with pytest.raises(
            RegistryUnavailable, match=f"^no registry answers at {address} .*`atomesh registry`.*--registry"
        ) as one:
            await client.discover()
        with pytest.raises(RegistryUnavailable):
            await anext(client.watch_once(Selector()))
    assert "\n" not in str(one.value)


async def test_what_is_no_registry_is_said_to_be_none(serve: Any) -> None:
    async with serve() as running, RegistryClient(running.server.address) as client:
        with pytest.raises(RegistryUnavailable, match=f"^{running.server.address} is not a registry; name one with"):
            await client.discover()
    http = HttpServer(bind="127.0.0.1:0", pages={})
    await http.start()
    try:
        async with RegistryClient(http.address) as client:
            with pytest.raises(
                RegistryUnavailable, match=r"HTTP/1\.1 server, not a gRPC one; is it the port of /metrics"
            ):
                await client.discover()
    finally:
        await http.stop()


@pytest.mark.parametrize(
    "address", ["", "nonsense", "0.0.0.0:7400", "127.0.0.1:0", "127.0.0.1:65536", "http://127.0.0.1:7400"]
)
async def test_an_address_that_is_none_is_refused_before_anything_is_opened(address: str) -> None:
    with pytest.raises(InvalidArgument):
        RegistryClient(address)
