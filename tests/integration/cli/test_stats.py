"""`atomesh stats` against meshes that answer, meshes that do not, and strangers among their targets."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse

from atomesh.agents import Agent, AgentServer, ExecutionContext
from atomesh.agents.builtin.text.agent import TextProcessor
from atomesh.balancer import Client
from atomesh.cli import _stats_asked
from atomesh.cli._errors import CliError, ExitCode
from atomesh.cli._stats_asked import ask_mesh
from atomesh.cli._stats_sums import folded
from atomesh.core import Contract
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.core.contract import describe
from atomesh.core.endpoint import Endpoint
from atomesh.core.errors import AgentFailed
from atomesh.registry import MemoryStorage, RegistryServer
from atomesh.rpc.http import HttpServer, metrics_page
from atomesh.rpc.registry_client import RegistryClient
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

HERE = "127.0.0.1:0"
INPUT = TextInput(content="I love it.", operation="sentiment")


class Grumpy(Agent[TextInput, TextOutput]):
    name = "grumpy"

    async def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
        raise AgentFailed("no")


@contextlib.asynccontextmanager
async def a_mesh() -> AsyncIterator[RegistryServer]:
    """Two processes of text-processor, one of them with grumpy; four calls, one of which failed."""
    async with contextlib.AsyncExitStack() as stack:
        registry = await stack.enter_async_context(RegistryServer(storage=MemoryStorage(), http_bind=HERE))
        for agents in ([TextProcessor()], [TextProcessor(), Grumpy()]):
            server = AgentServer(agents, registry=registry.address, http_bind=HERE)
            await stack.enter_async_context(server)
            async with asyncio.timeout(20):
                await server.registered.wait()
        async with Client(registry.address) as client:
            for _ in range(3):
                await client.call(Contract("text-processor", TextInput, TextOutput), INPUT)
            with pytest.raises(AgentFailed):
                await client.call(Contract("grumpy", TextInput, TextOutput), INPUT)
        yield registry


@contextlib.asynccontextmanager
async def pages(**pages: Callable[[Request], Any]) -> AsyncIterator[str]:
    """An HTTP server of somebody's; `_` in a name is `/`."""
    server = HttpServer(bind=HERE, pages={f"/{name.replace('_', '/')}": page for name, page in pages.items()})
    await server.start()
    try:
        yield server.address
    finally:
        await server.stop()


def text_page(text: str, status: int = 200, **headers: str) -> Callable[[Request], Any]:
    async def page(request: Request) -> Response:
        return PlainTextResponse(text, status_code=status, headers=headers)

    return page


async def test_it_sums_up_a_mesh(atomesh: Callable[..., Any]) -> None:
    async with a_mesh() as registry:
        ended = await atomesh("stats", "--registry-http", registry.http_address, "--json")
        shown = await atomesh("stats", "--registry-http", registry.http_address)
    assert (ended.code, ended.err) == (0, "")
    told = json.loads(ended.out)
    assert list(told) == ["registry", "agents", "all", "targets"]
    assert told["registry"]["registrations"]["registered"] == 3
    assert told["registry"]["leases"]["serving"] == 3
    text, grumpy = told["agents"]["text-processor"], told["agents"]["grumpy"]
    assert (text["processes"], text["executions"], text["errors"]) == (2, 3, 0)
    assert text["mean_seconds"] > 0
    assert (grumpy["executions"], grumpy["errors"], grumpy["outcomes"]["failed"]) == (1, 1, 1)
    assert (told["all"]["executions"], told["all"]["errors"]) == (4, 1)
    assert told["targets"] == {"asked": 2, "silent": []}
    assert shown.code == 0
    assert "registrations  3 registered" in shown.out
    assert shown.out.splitlines()[-1].split()[:3] == ["all", "3", "4"]


async def test_strangers_among_the_targets_are_told_and_hold_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_stats_asked, "LARGEST_PAGE", 2**20)
    asked: list[str] = []

    over = asyncio.Event()

    async def hang(request: Request) -> Response:
        await over.wait()
        return PlainTextResponse("")

    async def trickle(request: Request) -> Response:
        async def drops() -> AsyncIterator[bytes]:
            while not over.is_set():
                yield b"# a comment that has no end\n"
                await SYSTEM_CLOCK.sleep(0.05)

        return StreamingResponse(drops())

    async def huge(request: Request) -> Response:
        return PlainTextResponse("x" * 2**21)

    async def elsewhere(request: Request) -> Response:
        return RedirectResponse(f"http://{request.headers['host']}/secret")

    async def secret(request: Request) -> Response:
        asked.append("secret")
        return PlainTextResponse("")

    strangers: dict[str, dict[str, Any]] = {
        "no answer within 0.5 s": {"metrics": hang},
        "no answer within": {"metrics": trickle},
        "larger than": {"metrics": huge},
        "307 for /metrics": {"metrics": elsewhere, "secret": secret},
        "its page is no page of metrics": {"metrics": text_page("<html>{")},
        "404 for /metrics": {},
        "500 for /metrics": {"metrics": text_page("", 500)},
    }
    expected = {}
    async with a_mesh() as registry, contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(RegistryClient(registry.address))
        for reason, their in strangers.items():
            expected[await stack.enter_async_context(pages(**their))] = reason
        expected |= {"127.0.0.1:1": "nothing listens there", registry.address: "does not speak HTTP"}
        for number, address in enumerate(expected):
            stranger = Endpoint("stranger", f"127.0.0.1:{number + 1}", "instance-1", metrics_address=address)
            await client.register(stranger, describe(TextInput, TextOutput))
        async with asyncio.timeout(15):
            heard = await ask_mesh(registry.http_address, 0.5)
        over.set()
    told = {each.address: each.reason for each in heard.unasked}
    assert told.keys() == expected.keys()
    for address, reason in expected.items():
        assert reason in told[address], (reason, told[address])
    assert {each.agents for each in heard.unasked} == {"stranger"}
    assert asked == [], "a target that points elsewhere is not followed"
    assert folded(heard.pages)["text-processor"].executions == 3, "the others are summed up all the same"


async def _not_told(address: str) -> str:
    with pytest.raises(CliError) as raised:
        await ask_mesh(address, 1.0)
    assert raised.value.code is ExitCode.UNAVAILABLE
    return raised.value.message


async def test_where_no_registry_is_it_says_so() -> None:
    own = CollectorRegistry()
    async with RegistryServer(storage=MemoryStorage()) as grpc_only:
        assert "does not speak HTTP" in await _not_told(grpc_only.address)
    told = await _not_told("127.0.0.1:1")
    assert "nothing listens there" in told
    assert "--registry-http" in told, "what to do next"
    async with pages(metrics=metrics_page(own)) as address:
        assert "404 for /prometheus/targets" in await _not_told(address)
    for listed in ("[]", "null", "7", '[{"targets": 3}]', '[{"targets": ["a:1"], "labels": {}}]', "{", "[[]]", '"x"'):
        async with pages(metrics=metrics_page(own), prometheus_targets=text_page(listed)) as address:
            assert "not as a registry does" in await _not_told(address), listed


async def test_a_registry_that_is_not_warm_yet_is_told_as_that() -> None:
    cold = text_page("not warm yet\n", 503, **{"retry-after": "1"})
    async with pages(metrics=metrics_page(CollectorRegistry()), prometheus_targets=cold) as address:
        told = await _not_told(address)
    assert told == f"the registry at {address} holds its answers: it is not warm yet; ask again in 1 s"


async def test_what_is_typed_wrong_is_one_line(atomesh: Callable[..., Any]) -> None:
    for arguments, code, said in (
        ((), 4, "no registry tells its metrics at 127.0.0.1:1"),
        (("--timeout", "0"), 2, "--timeout is 0"),
        (("--registry-http", "nowhere"), 2, "is not an address"),
        (("--registry", "nowhere"), 2, "is not an address"),
    ):
        env = {} if "--registry" in arguments else {"ATOMESH_REGISTRY_HTTP": "127.0.0.1:1"}
        ended = await atomesh("stats", *arguments, env=env)
        assert ended.code == code, arguments
        assert said in ended.one_line()


async def test_proxies_of_the_environment_are_not_asked(atomesh: Callable[..., Any]) -> None:
    async with a_mesh() as registry:
        proxy = {"http_proxy": "http://127.0.0.1:1", "ALL_PROXY": "http://127.0.0.1:1"}
        ended = await atomesh("stats", "--registry-http", registry.http_address, "--json", env=proxy)
    assert ended.code == 0, ended.err
