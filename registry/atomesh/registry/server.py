"""A registry that runs: its doors, its ticker, its committer, in one event loop."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from prometheus_client import CollectorRegistry

from atomesh.core.clock import SYSTEM_CLOCK, Clock
from atomesh.registry.committer import Committer
from atomesh.registry.lease_ids import lease_ids
from atomesh.registry.ledger import Ledger
from atomesh.registry.metrics import RegistryMetrics
from atomesh.registry.pages import Pages
from atomesh.registry.prober import Prober
from atomesh.registry.service import RegistryService, add_registry_service
from atomesh.registry.settings import RegistrySettings
from atomesh.registry.storage import Storage
from atomesh.registry.warming import Warming
from atomesh.registry.watch import Watcher
from atomesh.registry.watches import Watches
from atomesh.registry.wire import Encoder, Messages
from atomesh.rpc.credentials import PLAINTEXT, Credentials
from atomesh.rpc.http import HttpServer
from atomesh.rpc.metrics import GrpcMetrics
from atomesh.rpc.network import GRPC_NETWORK, Network
from atomesh.rpc.server import Server
from atomesh.rpc.services import HealthService, add_reflection
from atomesh.rpc.tasks import Tasks
from atomesh.rpc.watchdog import Watchdog

log = logging.getLogger(__name__)

SERVICE_NAME = "atomesh.v1.RegistryService"

STOP_GRACE = 1.0
"""Seconds for calls in progress at the end. Watches end by themselves before
it; half may cut off a commit on a slow disk, twice only delays a restart."""


class RegistryServer:
    """A registry on one gRPC address, and one HTTP address for Prometheus.

    async with RegistryServer(bind="127.0.0.1:7400", storage=MemoryStorage()) as registry:
        print(registry.address)
    """

    def __init__(
        self,
        *,
        storage: Storage,
        bind: str = "127.0.0.1:0",
        http_bind: str | None = None,
        settings: RegistrySettings | None = None,
        credentials: Credentials = PLAINTEXT,
        clock: Clock = SYSTEM_CLOCK,
        rng: random.Random | None = None,
        network: Network = GRPC_NETWORK,
    ) -> None:
        """Addresses are host:port, port 0 for any free one; without `http_bind` there is no HTTP.

        `rng` spreads probes over time.

        Raises:
            InvalidArgument: no address, or plaintext off loopback.
        """
        self.settings = settings or RegistrySettings()
        self.collectors = CollectorRegistry()
        self._storage = storage
        self._credentials = credentials
        self._clock = clock
        self._rng = rng or random.Random()
        self._network = network
        self._metrics = RegistryMetrics(self.collectors)
        self._server = Server(
            bind=bind,
            credentials=credentials,
            metrics=GrpcMetrics("server", self.collectors),
            clock=clock,
            network=network,
        )
        self._http = self._http_server(http_bind) if http_bind is not None else None
        self._watches: Watches | None = None
        self._warming: Warming | None = None
        self._messages = Messages()
        self._tasks = Tasks()
        self._watchdog = Watchdog(self.collectors, clock=clock)
        self._ledger: Ledger | None = None
        self._committer: Committer | None = None
        self._committing: asyncio.Task[None] | None = None
        self._health: HealthService | None = None
        self._serving = False

    @property
    def address(self) -> str:
        """host:port of gRPC; the real port once started."""
        return self._server.address

    @property
    def http_address(self) -> str:
        """host:port of HTTP, empty where there is none; the real port once started."""
        return self._http.address if self._http is not None else ""

    @property
    def alive(self) -> bool:
        """Whether it runs and can commit."""
        return self._committing is not None and not self._committing.done()

    @property
    def serving(self) -> bool:
        """Whether calls are taken: it has started, and is neither stopping nor without commits."""
        return self._serving and self.alive

    @property
    def warm(self) -> bool:
        """Whether what it knows is what there is."""
        return self._warming is not None and self._warming.warm

    @property
    def ledger(self) -> Ledger:
        """The registry's state, once started."""
        if self._ledger is None:
            raise RuntimeError("the registry has not started; call start() first")
        return self._ledger

    async def __aenter__(self) -> Self:
        """Started."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stopped."""
        await self.stop()

    async def start(self) -> None:
        """Opens the store, restores what it holds, and serves.

        Raises:
            StorageError: the store cannot be used.
            Conflict: an address is in use.
        """
        try:
            await self._restore()
            await self._serve()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Ends watches, commits what waits, lets go of the store. Twice is fine."""
        self._serving = False
        if self._health is not None:
            self._health.set({"": False, SERVICE_NAME: False})
        if self._watches is not None:
            self._watches.close()
        if self._warming is not None:
            self._warming.close()
        if self._committing is not None:
            await self._server.stop(STOP_GRACE)
        if self._http is not None:
            await self._http.stop()
        if self._committer is not None and self._committing is not None:
            self._committer.stop()
            await asyncio.wait([self._committing])
            self._committing = None
        await self._tasks.cancel()
        self._watchdog.stop()
        await self._storage.close()

    async def _restore(self) -> None:
        stored = await self._storage.load()
        self._ledger = Ledger(
            stored, self.settings, self._clock.now(), new_lease_id=lease_ids().__next__, rng=self._rng
        )
        warming = self._warming = Warming(self._ledger, self._metrics, self._clock)
        watches = self._watches = Watches(self._ledger, Encoder(stored.store_id, self._messages), self._metrics)

        def applied(concerned: Iterable[Watcher]) -> None:
            watches.wake(concerned)
            warming.look()

        self._committer = Committer(
            self._ledger,
            self._storage,
            clock=self._clock,
            metrics=self._metrics,
            limit=self.settings.pending_operations,
            wake=applied,
        )
        self._metrics.show_leases(self._ledger.counts)
        self._metrics.revision.set(stored.revision)
        self._metrics.self_preservation.set_function(lambda: self.ledger.self_preservation)
        if stored.entries:
            log.info("restored %d endpoints at revision %d", len(stored.entries), stored.revision)

    async def _serve(self) -> None:
        ledger, committer, watches, warming = self.ledger, self._committer, self._watches, self._warming
        if committer is None or watches is None or warming is None:
            raise RuntimeError("nothing is restored yet")
        service = RegistryService(
            ledger,
            committer,
            watches,
            warming,
            credentials=self._credentials,
            clock=self._clock,
            metrics=self._metrics,
            messages=self._messages,
        )
        self._server.add(add_registry_service, service)
        self._health = HealthService(self._server)
        add_reflection(self._server)
        if self._http is not None:
            await self._http.start()
        self._committing = self._tasks.spawn(self._commit(committer, self._health), "registry committer")
        self._tasks.spawn(self._tick(committer), "registry ticker")
        self._tasks.spawn(warming.run(), "registry warming")
        if self.settings.probe_interval:
            self._tasks.spawn(self._prober(ledger).run(), "registry prober")
        await self._server.start()
        if self._clock is SYSTEM_CLOCK:  # a loop whose time is virtual is never late
            self._watchdog.start()
        self._health.set({"": True, SERVICE_NAME: True})
        self._serving = True
        log.info("registry %s serves on %s", ledger.store.store_id[:8], self.address)

    def _prober(self, ledger: Ledger) -> Prober:
        return Prober(
            ledger,
            credentials=self._credentials,
            metrics=self._metrics,
            clock=self._clock,
            network=self._network,
        )

    async def _commit(self, committer: Committer, health: HealthService) -> None:
        """Without commits there is no registry, and whoever asks for its health must hear so."""
        try:
            await committer.run()
        finally:
            health.set({"": False, SERVICE_NAME: False})

    async def _tick(self, committer: Committer) -> None:
        """Has leases judged, for as long as the registry runs."""
        while True:
            await self._clock.sleep(self.settings.tick)
            if self.ledger.tick(self._clock.now()):
                committer.wake()

    def _http_server(self, bind: str) -> HttpServer:
        return HttpServer(bind=bind, pages=Pages(self).by_path(), insecure=self._credentials.insecure)
