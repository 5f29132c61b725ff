"""The demo's stage: the processes, the client, what happens to them, and the account of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from prometheus_client import CollectorRegistry

from atomesh.balancer import Client, ClientMetrics
from atomesh.cli._batch_view import View as BatchView
from atomesh.cli._demo_view import Row, View
from atomesh.cli._demo_work import TEXT, Tally, documents, push, quantile
from atomesh.cli._errors import CliError, ExitCode
from atomesh.cli._processes import Child
from atomesh.cli._settings import CONFIG_VARIABLE, PREFIX
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.rpc.http import HttpServer, metrics_page

REFRESH_SECONDS = 0.1
KNOWN_SECONDS = 2.0
"""For the client to hear of the newcomer, which takes milliseconds; without it
the work goes on all the same."""


class Stage:
    """`open`, `play`, `report`; leaving the block ends every process."""

    def __init__(self, count: int, *, silent: bool) -> None:
        """Nothing runs yet."""
        self._inputs = documents(count)
        self._tally = Tally(count)
        self._begun = 0.0
        self._took = 0.0
        self._rows: list[Row] = []
        self._view = View(self._tally, self._rows, self._elapsed, silent=silent)
        self._agents: list[Child] = []
        self._others: list[Child] = []
        self._silent = silent
        self._registry: Child | None = None
        self._client: Client | None = None
        self._metrics = ClientMetrics(CollectorRegistry())
        self._http = HttpServer(
            bind="127.0.0.1:0", pages={"/metrics": metrics_page(self._metrics.registry or CollectorRegistry())}
        )
        self._directory = tempfile.TemporaryDirectory(prefix="atomesh-demo-")
        self._environment = _bare_environment(self._directory.name)
        self._said: deque[str] = deque(maxlen=10)
        self._joined = asyncio.Event()
        self._killed_at = 0.0
        self._drain_seconds: float | None = None
        self._ejections: dict[str, float] = {}

    async def __aenter__(self) -> Self:
        """Itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends everything that runs."""
        if self._client is not None:
            await self._client.close()
        await self._http.stop()
        await asyncio.gather(*(child.stop() for child in (*self._agents, *self._others)))
        if self._registry is not None:
            await self._registry.stop()
        self._directory.cleanup()

    async def open(self) -> str:
        """Starts the registry, three agents and the client; says so in words."""
        self._begun = SYSTEM_CLOCK.now()
        flags = ["--bind", "127.0.0.1:0", "--http-bind", "127.0.0.1:0", "--data-dir", self._directory.name]
        self._registry = self._child("registry", ["registry", *flags])
        await self._registry.start()
        await self._http.start()
        await asyncio.gather(*(self._join() for _ in range(3)))
        self._client = Client(self._registry.address, metrics=self._metrics)
        await self._client.contract(TEXT.agent)
        return (
            f"ready in {self._elapsed():.1f} s: registry {self._registry.address}, {len(self._agents)} endpoints; "
            f"now {self._tally.total} documents"
        )

    async def play(self) -> None:
        """The work, and what happens in the middle of it."""
        if self._client is None:
            raise RuntimeError("the stage is not open yet")
        self._begun = SYSTEM_CLOCK.now()
        with self._view:
            showing = asyncio.create_task(self._show())
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(push(self._client, self._inputs, self._tally, self._joined))
                    group.create_task(self._kill(self._agents[0], self._rows[0]))
                    group.create_task(self._replace(self._agents[1], self._rows[1]))
                self._took = SYSTEM_CLOCK.now() - self._begun
            finally:
                showing.cancel()
                await asyncio.gather(showing, return_exceptions=True)
            self._look()

    async def file(self, total: int) -> dict[str, Any]:
        """The second act: a batch through a pipeline while an archive that must not run twice is killed; the account."""
        from atomesh.cli._demo_archive import Archive
        from atomesh.cli._demo_batch import file_all

        if self._client is None or self._registry is None:
            raise RuntimeError("the stage is not open yet")
        journal = self._journal()
        archives = [self._archive(number) for number in (1, 2)]
        await asyncio.gather(*(archive.start() for archive in archives))
        live = self._live()
        kills = {total // 3: (archives[0], "the archive"), total // 2: (live[0][1], "the text agent")}

        def reached(done: int) -> None:
            if (kill := kills.pop(done, None)) is not None:
                child, what = kill
                child.kill()
                self._view.say(f"SIGKILL for {what} at {child.address}, document {done} of {total}")

        with BatchView(None if self._silent else total, bar=not self._silent) as view:
            shown = (lambda progress: None) if self._silent else view.show
            filing = await file_all(self._client, total, journal, reached, shown)
        return filing.account(journal, Archive.slots)

    def _journal(self) -> Path:
        journal = Path(self._directory.name, "journal")
        journal.mkdir()
        return journal

    def _archive(self, number: int) -> Child:
        registry = self._registry.address if self._registry is not None else ""
        place = "atomesh.cli._demo_archive:Archive"
        child = self._child(f"archive-{number}", ["serve", place, "--registry", registry])
        self._others.append(child)
        return child

    async def _kill(self, child: Child, row: Row) -> None:
        await self._tally.until(self._tally.total // 3)
        self._killed_at = SYSTEM_CLOCK.now()
        child.kill()
        row.state = "killed"
        self._view.tell(f"SIGKILL for {child.address}, in the middle of its calls")

    async def _replace(self, child: Child, row: Row) -> None:
        await self._tally.until(self._tally.total // 2)
        joining = asyncio.create_task(self._newcomer())
        try:
            row.state = "draining"
            self._view.tell(f"drain {child.address}: it finishes what it has and goes")
            begun = SYSTEM_CLOCK.now()
            await self._drain(child.address)
            await child.wait()
            self._drain_seconds = SYSTEM_CLOCK.now() - begun
            row.state = "drained"
            self._view.tell(f"{child.address} has drained and ended {child.how_it_ended()}")
        finally:
            await joining

    async def _newcomer(self) -> None:
        await self._join()
        address = self._rows[-1].address
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KNOWN_SECONDS):
                while not self._knows(address):
                    await SYSTEM_CLOCK.sleep(REFRESH_SECONDS / 10)
        self._view.tell(f"{address} has joined")
        self._joined.set()

    def _knows(self, address: str) -> bool:
        """Whether the client's watch has told it of the endpoint."""
        return self._sample("atomesh_client_slots", {"agent": TEXT.agent, "endpoint": address}) > 0

    async def _drain(self, address: str) -> None:
        from atomesh.rpc.channel import open_channel
        from atomesh.v1 import agent_pb2, agent_pb2_grpc

        async with open_channel(address) as channel:
            stub: Any = agent_pb2_grpc.AgentServiceStub(channel)
            await stub.Drain(agent_pb2.DrainRequest(), timeout=5)

    async def _join(self) -> None:
        registry = self._registry.address if self._registry is not None else ""
        row = Row(f"agent-{len(self._agents) + 1}", state="joining")
        child = self._child(row.name, ["serve", "text-processor", "--registry", registry])
        self._agents.append(child)
        self._rows.append(row)
        await child.start()
        if not child.ready.get("registered"):
            raise CliError(f"{row.name} did not get registered; {' '.join(self._said)}", ExitCode.FAILED)
        row.address, row.state = child.address, "serving"

    def _child(self, name: str, arguments: list[str]) -> Child:
        quiet = ["--log-level", "warning", "--log-format", "text"]
        return Child(name, [*arguments, *quiet], self._heard, environment=self._environment)

    def _heard(self, name: str, line: str) -> None:
        self._said.append(f"{name}: {line}")

    async def _show(self) -> None:
        while True:
            self._look()
            await SYSTEM_CLOCK.sleep(REFRESH_SECONDS)

    def _look(self) -> None:
        """Reads the client's metrics; what leaves the fleet leaves them too, so ejections are kept here."""
        for row in self._rows:
            labels = {"agent": TEXT.agent, "endpoint": row.address}
            row.in_flight = int(self._sample("atomesh_client_in_flight", labels))
            ejected = self._sample("atomesh_client_ejections_total", labels)
            if ejected > self._ejections.get(row.address, 0):
                self._ejections[row.address] = ejected
                self._view.tell(f"the client has ejected {row.address}")
        self._view.refresh()

    def _sample(self, name: str, labels: dict[str, str]) -> float:
        registry = self._metrics.registry
        value = registry.get_sample_value(name, labels) if registry is not None else None
        return value or 0.0

    def _elapsed(self) -> float:
        return SYSTEM_CLOCK.now() - self._begun

    def report(self) -> dict[str, Any]:
        """What happened, as data."""
        tally, killed, drained = self._tally, self._agents[0], self._agents[1]
        problems = [*tally.failures[:5], *tally.wrong[:5]]
        if tally.answered + len(tally.failures) != tally.total:
            problems.append(f"{tally.total - tally.done} calls have no outcome")
        if self._drain_seconds is None or drained.exit_code != 0:
            problems.append(f"the drained process ended {drained.how_it_ended()}")
        last = tally.last_rerouted(killed.address, self._killed_at)
        return {
            "ok": not problems,
            "calls": tally.total,
            "failures": len(tally.failures),
            "checked": tally.answered,
            "wrong": len(tally.wrong),
            "seconds": round(self._took, 3),
            "p50_ms": _ms(quantile(tally.seconds, 0.5)),
            "p99_ms": _ms(quantile(tally.seconds, 0.99)),
            "retries": int(self._retries()),
            "rerouted_attempts": dict(tally.tries),
            "ejections": int(sum(self._ejections.values())),
            "affected": sum(killed.address in where for at, where in tally.rerouted if at >= self._killed_at),
            "last_affected_ms": None if last is None else _ms(last),
            "drain_seconds": None if self._drain_seconds is None else round(self._drain_seconds, 3),
            "endpoints": [self._account(row) for row in self._rows],
            "metrics": self._urls(),
            "problems": problems,
        }

    def _retries(self) -> float:
        return sum(
            sample.value
            for family in self._metrics.retries.collect()
            for sample in family.samples
            if sample.name.endswith("_total")
        )

    def _account(self, row: Row) -> dict[str, Any]:
        seconds = self._tally.by_endpoint.get(row.address, [])
        return {
            "address": row.address,
            "became": row.state,
            "calls": len(seconds),
            "share": round(len(seconds) / max(1, self._tally.answered), 4),
            "p50_ms": _ms(quantile(seconds, 0.5)),
            "p99_ms": _ms(quantile(seconds, 0.99)),
        }

    def _urls(self) -> dict[str, str]:
        urls = {"client": f"http://{self._http.address}/metrics"}
        if self._registry is not None:
            urls["registry"] = f"http://{self._registry.http}/metrics"
            urls["targets"] = f"http://{self._registry.http}/prometheus/targets"
        urls |= {row.name: f"http://{child.http}/metrics" for row, child in self._live()}
        return urls

    def _live(self) -> list[tuple[Row, Child]]:
        return [(row, child) for row, child in zip(self._rows, self._agents, strict=True) if child.running]


def _bare_environment(directory: str) -> dict[str, str]:
    """Ours without the user's own configuration, which is about another mesh."""
    config = Path(directory, "config.toml")
    config.touch()
    return {key: value for key, value in os.environ.items() if not key.startswith(PREFIX)} | {
        CONFIG_VARIABLE: str(config)
    }


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
