"""The registry over HTTP: who is there as JSON, health, readiness, and what strangers send."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import re
import time
from collections.abc import Awaitable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from google.protobuf import json_format

from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.core.endpoint import Endpoint
from atomesh.registry import MemoryStorage, RegistryServer, RegistrySettings
from atomesh.registry.operations import Entry, Stored
from atomesh.registry.queries import DEFAULT_LIMIT, MAX_LIMIT
from atomesh.v1 import agent_pb2, registry_pb2

HTTP = "127.0.0.1:0"


class Answer:
    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def data(self) -> Any:
        return json.loads(self.body)


async def ask(address: str, target: str | bytes, method: str = "GET") -> Answer:
    """What a server answers to a request line that no HTTP library would send."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    raw = target if isinstance(target, bytes) else target.encode()
    writer.write(b"%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % (method.encode(), raw, address.encode()))
    async with asyncio.timeout(10):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await asyncio.wait([asyncio.ensure_future(writer.wait_closed())])  # cut off or not
    first, *rest = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)}
    if headers.get("transfer-encoding") == "chunked":
        body = b"".join(_chunks(body))
    return Answer(int(first.split()[1]), headers, body)


def _chunks(body: bytes) -> Iterable[bytes]:
    at = 0
    while (end := body.find(b"\r\n", at)) > 0:
        size = int(body[at:end], 16)
        yield body[end + 2 : end + 2 + size]
        at = end + 2 + size + 2


def keys(answer: Answer) -> list[str]:
    return [f"{each['spec']['agent']}/{each['spec']['address']}" for each in answer.data["endpoints"]]


async def a_small_mesh(caller: Any) -> dict[str, str]:
    """Two of `text` (one draining), one of `llm`; the lease ids by address."""
    leases = {}
    chat = [agent_pb2.Capability(name="chat", score=0.5), agent_pb2.Capability(name="validation")]
    for agent, address, spec in (
        ("text", "10.0.0.1:1", {"slots": 2, "zone": "a", "labels": {"tier": "gold", "x:y": "1"}, "version": "1.2.0"}),
        ("text", "10.0.0.2:1", {"slots": 2, "zone": "b", "version": "2.0.0"}),
        ("llm", "10.0.0.3:1", {"capabilities": chat, "metadata": {"host": "é"}}),
    ):
        leases[address] = (await caller.register(agent, address, **spec)).lease_id
    draining = registry_pb2.UpdateRequest(lease_id=leases["10.0.0.2:1"], state=agent_pb2.SERVING_STATE_DRAINING)
    await caller.stub.Update(draining)
    return leases


async def test_endpoints_are_those_that_discover_gives_message_for_message(registry: Any) -> None:
    async with registry(http_bind=HTTP) as (server, caller):
        await a_small_mesh(caller)
        told = await ask(server.http_address, "/v1/endpoints?state=all")
        answer = await caller.discover(states=[1, 2, 3, 4])
    parsed = [json_format.ParseDict(each, registry_pb2.Endpoint()) for each in told.data["endpoints"]]
    assert parsed == list(answer.endpoints), "the JSON is protobuf's mapping, whatever fields there are"
    assert told.data["position"] == {"store_id": answer.position.store_id, "revision": str(answer.position.revision)}
    assert told.data["self_preservation"] is False
    assert told.data["next"] is None
    assert told.headers["content-type"] == "application/json"
    assert told.data["endpoints"][0]["spec"]["zone"] == "", "a field at its zero is there to be read"


def shape(data: Any) -> Any:
    """The names that are in it, at every depth; those of maps are data."""
    if isinstance(data, list):
        return [shape(each) for each in data[:1]]
    maps = ("labels", "metadata", "versions", "capabilities")
    if isinstance(data, dict):
        return {name: "map" if name in maps and isinstance(each, dict) else shape(each) for name, each in data.items()}
    return "value"


async def test_the_answers_have_the_shape_that_the_page_shows(registry: Any) -> None:
    page = (Path(__file__).parents[3] / "docs" / "registry.md").read_text()
    told = [json.loads(block) for block in re.findall(r"^```json\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)]
    score = agent_pb2.Capability(name="chat", score=0.5)
    async with registry(http_bind=HTTP, settings=RegistrySettings(probe_interval=0.2, probe_timeout=0.1)) as (
        server,
        caller,
    ):
        granted = await caller.register(capabilities=[score])
        for executions in (0, 10):
            load = agent_pb2.Load(executions=executions)
            load.busy.FromSeconds(executions)
            renewal = registry_pb2.Renewal(lease_id=granted.lease_id, load=load)
            await caller.stub.Renew(registry_pb2.RenewRequest(renewals=[renewal]))
        async with asyncio.timeout(10):
            while not (await caller.discover(states=[1, 4])).endpoints[0].HasField("last_probe"):
                await SYSTEM_CLOCK.sleep(0.05)
        endpoints = (await ask(server.http_address, "/v1/endpoints?state=all")).data
        agents = (await ask(server.http_address, "/v1/agents")).data
    assert [shape(each) for each in told] == [shape(endpoints), shape(agents)]


@pytest.mark.parametrize(
    ("query", "selector"),
    [
        ({}, {}),
        ({"agent": "text"}, {"agent": "text"}),
        ({"agent": "text", "state": "all"}, {"agent": "text", "states": [1, 2, 3, 4]}),
        ({"state": ["draining", "not_serving"]}, {"states": [2, 3]}),
        ({"state": "SERVING"}, {"states": [1]}),
        ({"capability": ["chat", "validation"]}, {"capabilities": ["chat", "validation"]}),
        ({"capability": ["chat", "none"]}, {"capabilities": ["chat", "none"]}),
        ({"version": ">=1.2,<2", "state": "all"}, {"version": ">=1.2,<2", "states": [1, 2, 3, 4]}),
        ({"zone": "b", "state": "all"}, {"zone": "b", "states": [1, 2, 3, 4]}),
        ({"label": "tier:gold"}, {"labels": {"tier": "gold"}}),
        ({"label": "tier:"}, {"labels": {"tier": ""}}),
        ({"input_type": "atomesh.text.v1.TextInput"}, {"input_type": "atomesh.text.v1.TextInput"}),
        ({"output_type": "atomesh.text.v1.Nothing"}, {"output_type": "atomesh.text.v1.Nothing"}),
        ({"agent": "", "zone": ""}, {}),
    ],
)
async def test_a_query_selects_whom_the_same_selector_does(registry: Any, query: Any, selector: Any) -> None:
    async with registry(http_bind=HTTP) as (server, caller):
        await a_small_mesh(caller)
        told = await ask(server.http_address, "/v1/endpoints?" + urlencode(query, doseq=True))
        answer = await caller.discover(**selector)
    assert told.status == 200, told.body
    assert keys(told) == [f"{each.spec.agent}/{each.spec.address}" for each in answer.endpoints]


async def test_pages_hold_each_endpoint_once_in_order(registry: Any) -> None:
    async with registry(http_bind=HTTP) as (server, caller):
        addresses = [f"10.0.{n // 100}.{n % 100}:1" for n in range(50)]
        await asyncio.gather(*(caller.register(f"agent-{n % 3}", at) for n, at in enumerate(addresses)))
        whole = keys(await ask(server.http_address, "/v1/endpoints"))
        assert whole == sorted(whole, key=lambda key: tuple(key.split("/")))
        assert len(whole) == 50
        read: list[str] = []
        more = ""
        while True:
            page = await ask(server.http_address, f"/v1/endpoints?limit=7{more}")
            read += keys(page)
            if page.data["next"] is None:
                break
            assert len(page.data["endpoints"]) == 7
            assert page.data["next"] == read[-1]
            more = f"&after={quote(page.data['next'])}"
        assert read == whole
        last = await ask(server.http_address, f"/v1/endpoints?after={quote(whole[-1])}")
        assert (keys(last), last.data["next"]) == ([], None)


async def test_an_endpoint_that_leaves_between_two_pages_ends_neither(registry: Any) -> None:
    async with registry(http_bind=HTTP) as (server, caller):
        leases = await a_small_mesh(caller)
        first = await ask(server.http_address, "/v1/endpoints?state=all&limit=2")
        assert first.data["next"] == "text/10.0.0.1:1"
        await caller.stub.Deregister(registry_pb2.DeregisterRequest(lease_id=leases["10.0.0.1:1"]))
        second = await ask(server.http_address, f"/v1/endpoints?state=all&after={quote(first.data['next'])}")
        assert keys(second) == ["text/10.0.0.2:1"]
        assert int(second.data["position"]["revision"]) > int(first.data["position"]["revision"])


async def test_agents_are_folds_of_their_endpoints(registry: Any) -> None:
    async with registry(http_bind=HTTP) as (server, caller):
        leases = await a_small_mesh(caller)
        for executions, failures, busy in ((0, 0, 0), (80, 20, 16)):
            load = agent_pb2.Load(in_flight=2, executions=executions, failures=failures)
            load.busy.FromSeconds(busy)
            renewal = registry_pb2.Renewal(lease_id=leases["10.0.0.1:1"], load=load)
            await caller.stub.Renew(registry_pb2.RenewRequest(renewals=[renewal]))
        told = await ask(server.http_address, "/v1/agents")
        llm, text = told.data["agents"]
        serving = (await ask(server.http_address, "/v1/agents?agent=text&state=serving")).data["agents"]
        page = await ask(server.http_address, "/v1/agents?limit=1")
        rest = await ask(server.http_address, f"/v1/agents?limit=1&after={page.data['next']}")
    assert (llm["agent"], llm["capabilities"], llm["recent"]) == ("llm", {"chat": 1, "validation": 1}, None)
    assert text["states"] == {"serving": 1, "draining": 1, "not_serving": 0, "suspect": 0}
    assert (text["endpoints"], text["slots"], text["in_flight"]) == (2, 4, 2)
    assert text["versions"] == {"1.2.0": 1, "2.0.0": 1}
    (contract,) = text["contracts"]
    assert contract["input_type"] == "atomesh.text.v1.TextInput"
    assert contract["endpoints"] == 2
    assert len(contract["hash"]) == 64
    assert text["recent"]["execution_seconds"] == pytest.approx(0.2)
    assert text["recent"]["error_rate"] == pytest.approx(0.25)
    assert text["recent"]["executions_per_second"] > 0
    assert [each["endpoints"] for each in serving] == [1], "a state that is asked for is all that counts"
    assert [each["agent"] for each in page.data["agents"] + rest.data["agents"]] == ["llm", "text"]
    assert (page.data["next"], rest.data["next"]) == ("llm", None)


async def test_no_page_tells_a_lease(registry: Any) -> None:
    async with registry(http_bind=HTTP) as (server, caller):
        leases = await a_small_mesh(caller)
        entries = list(server.ledger.store.all())
        pages = ("/v1/endpoints?state=all", "/v1/agents", "/prometheus/targets", "/metrics", "/healthz", "/readyz")
        said = b"".join([(await ask(server.http_address, page)).body for page in pages]).decode()
    for secret in (*leases.values(), *(entry.lease for entry in entries)):
        assert secret not in said, "a lease id is its owner's alone, and so is what is kept of it"


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("limit=-1", "limit is '-1'; give 1 to 1000"),
        ("limit=0", "limit is '0'"),
        ("limit=1000000000", "limit is '1000000000'"),
        ("limit=" + "9" * 5000, "limit is '9999"),
        ("limit=1e3", "limit is '1e3'"),
        ("limit=%D9%A1", "limit is '١'"),
        ("limit=1&limit=2", "limit is given 2 times"),
        ("after=garbage", "after is 'garbage'; give `next` of the page before"),
        ("after=/", "after is '/'"),
        ("agnet=text", "no parameter 'agnet'; did you mean agent?"),
        ("lease_id=1", "no parameter 'lease_id'"),
        ("label=tier", "label 'tier' is not key:value"),
        ("label=:gold", "label ':gold' is not key:value"),
        ("state=asleep", "no state 'asleep'; there are serving, draining"),
        ("state=", "no state ''"),
        ("version=%3E%3Dx", "is no version"),
        ("agent=" + "a" * 65, "agent: must be at most 64 characters"),
        ("&".join(f"capability=c{n}" for n in range(65)), "capabilities: must contain no more than 64"),
        ("&".join(["capability=c"] * 300), "at most 256 of name=value"),
        ("agent=%FF", "not percent-encoded UTF-8"),
        ("agent=%ED%A0%80", "not percent-encoded UTF-8"),
        ("agent", "not at most 256 of name=value"),
        ("%00=1", "no parameter '\\x00'"),
    ],
)
async def test_a_query_that_is_wrong_is_told_in_one_line(registry: Any, query: str, told: str) -> None:
    async with registry(http_bind=HTTP) as (server, caller):
        await a_small_mesh(caller)
        answer = await ask(server.http_address, f"/v1/endpoints?{query}")
        assert (answer.status, answer.headers["content-type"]) == (400, "application/json")
        assert list(answer.data) == ["error"]
        assert told in answer.data["error"]
        assert len(answer.data["error"].splitlines()) == 1
        assert len(answer.data["error"]) < 400, "what was sent is not sent back whole"
        assert (await ask(server.http_address, "/v1/endpoints")).status == 200


async def test_what_is_no_request_at_all_harms_nobody(registry: Any) -> None:
    async with registry(http_bind=HTTP) as (server, caller):
        await a_small_mesh(caller)
        for target, statuses in (
            (b"/v1/endpoints?agent=\xff\xfe", {400}),
            (b"/v1/nothing", {404}),
            (b"/v1/endpoints/", {307}),  # Starlette leads to the page
            (b"/v1/../metrics", {404}),
            (b"/", {404}),
        ):
            assert (await ask(server.http_address, target)).status in statuses, target[:40]
        for method, status in (("POST", 405), ("DELETE", 405), ("PUT", 405)):
            assert (await ask(server.http_address, "/v1/endpoints", method)).status == status
        assert keys(await ask(server.http_address, "/v1/endpoints")) == ["llm/10.0.0.3:1", "text/10.0.0.1:1"]


async def test_a_megabyte_of_query_is_cut_off(registry: Any) -> None:
    async with registry(http_bind=HTTP) as (server, _):
        with contextlib.suppress(ConnectionError):  # the answer may be lost with the connection
            answer = await ask(server.http_address, b"/v1/endpoints?agent=" + b"a" * 1_000_000)
            assert answer.status == 400
        assert (await ask(server.http_address, "/v1/endpoints")).status == 200


async def test_head_has_the_status_and_no_body(registry: Any) -> None:
    async with registry(http_bind=HTTP) as (server, _):
        for page in ("/v1/endpoints", "/v1/agents", "/prometheus/targets", "/metrics", "/healthz", "/readyz"):
            answer = await ask(server.http_address, page, "HEAD")
            assert (answer.status, answer.body) == (200, b""), page


class ColdRegistry(RegistryServer):
    """One that was restarted a moment ago."""

    cold = True

    @property
    def warm(self) -> bool:
        return not self.cold


async def test_while_it_is_cold_it_is_alive_and_tells_nothing_of_who_is_there() -> None:
    async with ColdRegistry(storage=MemoryStorage(), http_bind=HTTP) as server:
        for page in ("/prometheus/targets", "/v1/endpoints", "/v1/agents", "/v1/agents?limit=x", "/readyz"):
            answer = await ask(server.http_address, page)
            assert (answer.status, answer.headers["retry-after"]) == (503, "1"), page
            assert answer.body.count(b"\n") == 1, "one line"
        for page in ("/metrics", "/healthz"):
            assert (await ask(server.http_address, page)).status == 200, page
        server.cold = False
        for page in ("/prometheus/targets", "/v1/endpoints", "/v1/agents", "/readyz"):
            assert (await ask(server.http_address, page)).status == 200, page


async def test_a_registry_that_stops_is_ready_no_more(registry: Any) -> None:
    async with registry(http_bind=HTTP) as (server, caller):
        watch = caller.watch()
        await watch.read()
        assert (await ask(server.http_address, "/readyz")).body == b"ready\n"
        stopping = asyncio.ensure_future(server.stop())
        answer = await ask(server.http_address, "/readyz")
        assert (answer.status, answer.body) == (503, b"not serving\n")
        await stopping


async def longest_turn(while_this: Awaitable[Any]) -> tuple[Any, float]:
    """What came of it, and how many seconds of CPU the loop spent at most before it did something else."""
    task, longest = asyncio.ensure_future(while_this), 0.0
    gc.disable()  # how a registry keeps its collector short is `registry.process`'s part
    try:
        while not task.done():
            before = time.thread_time()
            await SYSTEM_CLOCK.sleep(0)
            longest = max(longest, time.thread_time() - before)
    finally:
        gc.enable()
    return await task, longest


class FullStorage(MemoryStorage):
    """As after a restart in a large mesh: each endpoint a process of its own, a hundred agents."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count

    async def load(self) -> Stored:
        known = await super().load()
        hosts = [f"10.1.{n // 250}.{n % 250}" for n in range(self._count)]
        endpoints = [Endpoint(f"agent-{n % 100}", f"{at}:1", metrics_address=f"{at}:2") for n, at in enumerate(hosts)]
        entries = tuple(Entry(endpoint, f"{n:064x}", 60.0) for n, endpoint in enumerate(endpoints))
        return Stored(known.store_id, 7, entries, (), ())


class WarmRegistry(RegistryServer):
    """One that waits for nobody to be heard of again."""

    @property
    def warm(self) -> bool:
        return True


@pytest.mark.parametrize("page", ["/v1/endpoints?limit=1000", "/v1/agents", "/prometheus/targets"])
async def test_a_page_about_a_crowd_does_not_hold_up_the_registry(page: str) -> None:
    async with WarmRegistry(storage=FullStorage(50_000), http_bind=HTTP) as server:
        answer, longest = await longest_turn(ask(server.http_address, page))
    assert answer.status == 200
    sizes = {"/v1/endpoints?limit=1000": "endpoints", "/v1/agents": "agents"}
    rows = answer.data[sizes[page]] if page in sizes else answer.data
    assert len(rows) == {"/v1/endpoints?limit=1000": MAX_LIMIT, "/v1/agents": 100}.get(page, 50_001)
    assert longest < 0.1, "leases are renewed by the loop that makes pages"


async def test_however_many_ask_for_pages_a_turn_is_a_turn() -> None:
    async with WarmRegistry(storage=FullStorage(5_000), http_bind=HTTP) as server:
        asking = asyncio.gather(*(ask(server.http_address, "/v1/agents") for _ in range(40)))
        answers, longest = await longest_turn(asking)
    assert {(answer.status, len(answer.data["agents"])) for answer in answers} == {(200, 100)}
    assert longest < 0.1, "forty pages are forty times the work, not a stop forty times as long"


async def test_who_reads_slowly_keeps_no_other_page_waiting() -> None:
    async with WarmRegistry(storage=FullStorage(20_000), http_bind=HTTP) as server:
        host, _, port = server.http_address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
        writer.write(b"GET /prometheus/targets HTTP/1.1\r\nHost: x:1\r\n\r\n")
        assert (await reader.readline()).split()[1] == b"200"  # and no more of six megabytes
        assert (await ask(server.http_address, "/v1/endpoints")).status == 200
        assert len((await ask(server.http_address, "/prometheus/targets")).data) == 20_001
        writer.transport.abort()


async def test_a_page_that_nobody_sizes_is_bounded() -> None:
    async with WarmRegistry(storage=FullStorage(2_000), http_bind=HTTP) as server:
        answer = await ask(server.http_address, "/v1/endpoints")
    assert len(answer.data["endpoints"]) == DEFAULT_LIMIT
