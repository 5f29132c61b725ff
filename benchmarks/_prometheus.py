"""A Prometheus of one's own: on loopback, at any free port, gone with its folder."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from ruamel.yaml import YAML

from atomesh.core.clock import SYSTEM_CLOCK

START_SECONDS = 30.0
"""It takes half a second; twenty times that on a machine that does much else."""

POLL_SECONDS = 0.1
"""Between two looks at what it knows: it tells nobody by itself."""


EXAMPLE = Path(__file__).resolve().parent.parent / "deploy" / "prometheus"
"""The configuration that everybody is told to begin with: what is tried is that one."""


def example(registry_http: str, *, seconds: int = 1, clients: Sequence[str] = ()) -> str:
    """The example's configuration for this registry and these clients, looking every so many seconds."""
    yaml = YAML(typ="safe", pure=True)
    config = yaml.load((EXAMPLE / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": f"{seconds}s", "evaluation_interval": f"{seconds}s"}
    config["rule_files"] = [str(EXAMPLE / name) for name in config["rule_files"]]
    mesh, callers = config["scrape_configs"]
    mesh["http_sd_configs"] = [{"url": f"http://{registry_http}/prometheus/targets", "refresh_interval": f"{seconds}s"}]
    callers["static_configs"] = [{"targets": list(clients)}]
    text = StringIO()
    yaml.dump(config, text)
    return text.getvalue()


class Prometheus:
    """The program `prometheus`, run for as long as the block lasts.

    async with Prometheus(folder, config) as prometheus:
        await prometheus.until(lambda: prometheus.up(), lambda up: "10.0.0.1:9100" in up, 10)
    """

    def __init__(self, folder: Path, config: str, *, program: str = "prometheus") -> None:
        """`config` is the text of its configuration file; relative paths in it are from `folder`."""
        self._folder = folder
        self._config = config
        self._program = program
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._client = httpx.AsyncClient(trust_env=False, timeout=10.0)
        self._listens: asyncio.Future[str] | None = None
        self.address = ""
        """host:port of its HTTP API, once started."""
        self.log: list[dict[str, Any]] = []
        """What it has logged."""

    async def __aenter__(self) -> Self:
        """Started; raises RuntimeError where it ends instead, with what it said last."""
        config = self._folder / "prometheus.yml"
        config.write_text(self._config)
        self._process = await asyncio.create_subprocess_exec(
            self._program,
            f"--config.file={config}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            "--web.listen-address=127.0.0.1:0",
            "--log.format=json",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        self._listens = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read(self._process, self._listens), name="prometheus log")
        try:
            async with asyncio.timeout(START_SECONDS):
                self.address = await self._listens
                while (await self._client.get(f"http://{self.address}/-/ready")).status_code != httpx.codes.OK:
                    await SYSTEM_CLOCK.sleep(POLL_SECONDS)
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ended."""
        await self.stop()

    async def stop(self) -> None:
        """Ends it, with SIGTERM as it likes it, and after ten seconds without."""
        await self._client.aclose()
        if self._process is None or self._reader is None:
            return
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(10):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._reader

    async def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """What PromQL gives now: labels and value of each series."""
        answer = await self._ask("/api/v1/query", query=expression)
        return [(row["metric"], float(row["value"][1])) for row in answer["result"]]

    async def values(self, expression: str, label: str) -> dict[str, float]:
        """The same by the values of one label."""
        return {labels.get(label, ""): value for labels, value in await self.query(expression)}

    async def up(self) -> dict[str, float]:
        """1 for each target that answered its last scrape, 0 for one that did not, by address."""
        return await self.values("up", "instance")

    async def targets(self) -> dict[str, dict[str, str]]:
        """Whom it scrapes: each target's labels with its `health`, by address."""
        answer = await self._ask("/api/v1/targets", state="active")
        return {
            target["discoveredLabels"]["__address__"]: {**target["labels"], "health": target["health"]}
            for target in answer["activeTargets"]
        }

    async def rules(self) -> dict[str, str]:
        """How the last evaluation of each rule went: `ok`, or its error, by the rule's name."""
        groups = (await self._ask("/api/v1/rules"))["groups"]
        return {rule["name"]: rule.get("lastError") or rule["health"] for group in groups for rule in group["rules"]}

    async def own(self, name: str) -> float:
        """One of its own counters or gauges, all series together; 0 where there is none."""
        page = (await self._client.get(f"http://{self.address}/metrics")).text
        lines = [line for line in page.splitlines() if re.match(rf"{name}(\{{.*\}})? ", line)]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    async def until(self, look: Callable[[], Any], good: Callable[[Any], bool], seconds: float) -> Any:
        """What `look` gives as soon as it is good; raises AssertionError with the last of it after `seconds`."""
        end = SYSTEM_CLOCK.now() + seconds
        while not good(seen := await look()):
            if SYSTEM_CLOCK.now() > end:
                raise AssertionError(f"not within {seconds:g} s: {seen}")
            await SYSTEM_CLOCK.sleep(POLL_SECONDS)
        return seen

    async def _ask(self, path: str, **parameters: str) -> Any:
        answer = await self._client.get(f"http://{self.address}{path}", params=parameters)
        data = answer.json()
        if data["status"] != "success":
            raise RuntimeError(f"{path} {parameters}: {data['error']}")
        return data["data"]

    async def _read(self, process: asyncio.subprocess.Process, listens: asyncio.Future[str]) -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            said = _object(line)
            self.log.append(said)
            if not listens.done() and said.get("msg") == "Listening on":
                listens.set_result(said["address"])
        if not listens.done():
            listens.set_exception(RuntimeError(f"prometheus ended: {self.errors() or self.log[-1:]}"))

    def errors(self) -> list[dict[str, Any]]:
        """What it logged as errors."""
        return [said for said in self.log if said.get("level", "").lower() == "error"]


def _object(line: bytes) -> dict[str, Any]:
    """A line of the log; one that is no JSON (of a panic) as its message."""
    text = line.decode(errors="replace").strip()
    try:
        said = json.loads(text)
    except ValueError:
        return {"msg": text}
    return said if isinstance(said, dict) else {"msg": text}
