"""A real Prometheus beside agents that come and go for minutes, and a registry that is killed now and then.

    python -m benchmarks.soak_prometheus [--seconds 600] [--agents 6] [--seed 1]

Processes of the text agent live for 8 to 40 s; half of them drain at the end,
half are killed. Every 40 s the registry is stopped or killed, and is back after
a while. A caller keeps calling. Prometheus runs the configuration of deploy/
with looks every 2 s. Ends with 1 where a process was not found, not dropped or
lost in between, a call failed, or Prometheus counts other executions than the
processes do. Needs `prometheus` (Debian's package will do).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import random
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import httpx

from atomesh.balancer import Client
from atomesh.cli._processes import Child
from atomesh.cli._stats_asked import ask_mesh
from atomesh.cli._stats_sums import folded
from atomesh.core import AtomeshError, Contract
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.text.v1.text_pb2 import TextInput, TextOutput
from benchmarks._churn import Churn, Promises, spread
from benchmarks._prometheus import Prometheus, example

TTL = 5.0
LOOK = 2
"""Seconds between two looks of Prometheus, at the registry and at each target."""
SLACK = 12.0
"""Seconds: 5 in which Prometheus gathers what it discovers, and a machine that starts processes all the time."""
PROMISES = Promises(found=2 * LOOK + SLACK, dropped=LOOK + SLACK, expired=TTL + LOOK + SLACK)
TEXT = Contract("text-processor", TextInput, TextOutput)
INPUT = TextInput(content="I love it. It works.", operation="sentiment")


@dataclass
class Soak:
    """The run: who is there, what was seen."""

    folder: Path
    agents: int
    rng: random.Random
    churn: Churn
    registry: Child
    calls: Counter[str]
    restarts: int = 0
    address: str = ""
    """Of the registry, dead or alive."""
    http: str = ""


def heard(name: str, line: str) -> None:
    """What processes log, errors alone: they are killed on purpose."""
    if '"level": "error"' in line or line.startswith("error"):
        print(f"    {name}: {line[:200]}", flush=True)


def registry_child(folder: Path, bind: str = "127.0.0.1:0", http: str = "127.0.0.1:0") -> Child:
    """A registry on SQLite."""
    where = ["--bind", bind, "--http-bind", http, "--data-dir", str(folder / "registry")]
    return Child("registry", ["registry", *where, "--min-ttl", "1", "--log-level", "error"], heard)


async def live(soak: Soak, number: int) -> None:
    """One process after the other, for ever."""
    while True:
        where = ["--registry", soak.address, "--http-bind", "127.0.0.1:0", "--ttl", f"{TTL:g}"]
        child = Child(f"agent-{number}", ["serve", "text-processor", *where, "--log-level", "critical"], heard)
        try:
            await child.start(None)
            soak.churn.began(child.http, SYSTEM_CLOCK.now())
            await SYSTEM_CLOCK.sleep(soak.rng.uniform(8, 40))
            killed = soak.rng.random() < 0.5
            # From here on: it leaves the registry some time before its process has ended.
            soak.churn.ended(child.http, SYSTEM_CLOCK.now(), killed=killed)
            if killed:
                child.kill()
                await child.wait()
        finally:
            await child.stop()
        await SYSTEM_CLOCK.sleep(soak.rng.uniform(0, 5))


async def restart(soak: Soak) -> None:
    """The registry goes and comes back, for ever; killed every other time."""
    while True:
        await SYSTEM_CLOCK.sleep(40)
        soak.churn.registry_back = math.inf
        if soak.restarts % 2:
            soak.registry.kill()
        await soak.registry.stop()
        await SYSTEM_CLOCK.sleep(soak.rng.uniform(0, 8))
        soak.registry = registry_child(soak.folder, soak.address, soak.http)
        await soak.registry.start(None)
        async with httpx.AsyncClient(trust_env=False) as client:
            while (await client.get(f"http://{soak.http}/readyz")).status_code != httpx.codes.OK:
                await SYSTEM_CLOCK.sleep(0.1)
        soak.churn.registry_back = SYSTEM_CLOCK.now()
        soak.restarts += 1


async def look(soak: Soak, prometheus: Prometheus) -> None:
    """What Prometheus knows, four times a second."""
    while True:
        targets, up = await prometheus.targets(), await prometheus.up()
        soak.churn.seen(targets.keys(), up, SYSTEM_CLOCK.now())
        await SYSTEM_CLOCK.sleep(0.25)


async def call(soak: Soak) -> None:
    """Calls, one after the other, whatever happens to who answers them."""
    while not soak.churn.lives:
        await SYSTEM_CLOCK.sleep(0.1)
    async with Client(soak.address) as client:
        while True:
            try:
                await client.call(TEXT, INPUT, timeout=20)
                soak.calls["OK"] += 1
            except AtomeshError as error:
                soak.calls[error.reason] += 1
            await SYSTEM_CLOCK.sleep(0.02)


def tell(soak: Soak, seconds: float) -> None:
    """How it stands."""
    churn = soak.churn
    living = sum(life.ended is None for life in churn.lives.values())
    print(
        f"{seconds:5.0f} s  {living} living, {len(churn.past)} gone, registry restarted {soak.restarts} times, "
        f"{sum(soak.calls.values())} calls, {len(churn.violations)} violations",
        flush=True,
    )


async def same_counts(soak: Soak, prometheus: Prometheus) -> str:
    """Empty where Prometheus counts what the processes count, once nothing happens any more."""
    own = folded((await ask_mesh(soak.http, 5.0)).pages)["text-processor"].outcomes["ok"]
    told = 'sum(atomesh_agent_executions_total{outcome="ok"} and on (instance) up == 1)'

    async def count() -> int:
        return round(sum(value for _, value in await prometheus.query(told)))

    try:
        await prometheus.until(count, lambda seen: seen == own, PROMISES.expired)
    except AssertionError as error:
        return f"the processes count {own} executions, Prometheus: {error}"
    return ""


async def run(chosen: argparse.Namespace, folder: Path) -> Soak:
    """The whole soak."""
    rng = random.Random(chosen.seed)
    soak = Soak(folder, chosen.agents, rng, Churn(PROMISES), registry_child(folder), Counter())
    (folder / "prometheus").mkdir()
    await soak.registry.start(None)
    soak.address, soak.http = soak.registry.address, soak.registry.http
    try:
        async with Prometheus(folder / "prometheus", example(soak.http, seconds=LOOK)) as prometheus:
            await _churning(soak, prometheus, chosen.seconds)
            soak.churn.violations += [wrong] if (wrong := await _settled(soak, prometheus)) else []
            failures = await prometheus.own("prometheus_sd_http_failures_total")
            print(f"discovery was refused or not answered {failures:.0f} times")
    finally:
        await soak.registry.stop()
    return soak


async def _churning(soak: Soak, prometheus: Prometheus, seconds: float) -> None:
    work = [live(soak, number) for number in range(soak.agents)]
    tasks = [asyncio.create_task(each) for each in (*work, restart(soak), look(soak, prometheus), call(soak))]
    begun = SYSTEM_CLOCK.now()
    try:
        while (passed := SYSTEM_CLOCK.now() - begun) < seconds:
            await asyncio.wait(tasks, timeout=min(10.0, seconds - passed), return_when=asyncio.FIRST_EXCEPTION)
            if failed := [task for task in tasks if task.done()]:
                await failed[0]
            tell(soak, SYSTEM_CLOCK.now() - begun)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _settled(soak: Soak, prometheus: Prometheus) -> str:
    """A registry that is there, two agents that live, some calls; then the counts must be the same."""
    if not soak.registry.running:
        soak.registry = registry_child(soak.folder, soak.address, soak.http)
        await soak.registry.start(None)
    async with contextlib.AsyncExitStack() as stack:
        for number in range(2):
            where = ["--registry", soak.address, "--http-bind", "127.0.0.1:0", "--ttl", f"{TTL:g}"]
            child = Child(f"last-{number}", ["serve", "text-processor", *where], heard)
            stack.push_async_callback(child.stop)
            await child.start(None)
        await SYSTEM_CLOCK.sleep(TTL + 2)  # the leases of those before have run out
        async with Client(soak.address) as client:
            for _ in range(50):
                await client.call(TEXT, INPUT, timeout=20)
        return await same_counts(soak, prometheus)


def main(given: list[str] | None = None) -> int:
    """Runs it, says what it saw; 1 where something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--agents", type=int, default=6, help="processes that live at once")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(given)
    if shutil.which("prometheus") is None:
        parser.error("there is no `prometheus` on the path; .ci/run shows how Debian's is unpacked")
    with tempfile.TemporaryDirectory() as folder:
        soak = asyncio.run(run(chosen, Path(folder)))
    churn = soak.churn
    failed = {reason: count for reason, count in soak.calls.items() if reason != "OK"}
    print(f"\nfound after being ready        {spread(churn.found_after())}")
    print(f"dropped after a drain          {spread(churn.dropped_after(killed=False))}")
    print(f"dropped after a kill           {spread(churn.dropped_after(killed=True))}  (ttl {TTL:g} s)")
    print(f"registry restarts              {soak.restarts}")
    print(f"calls                          {soak.calls['OK']} answered, {sum(failed.values())} failed {failed or ''}")
    for violation in churn.violations:
        print(f"VIOLATION  {violation}")
    return 1 if churn.violations or failed else 0


if __name__ == "__main__":
    sys.exit(main())
