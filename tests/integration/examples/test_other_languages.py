"""The service configs of docs/other-languages.md, given to a stock client, do what it says."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import grpc
import pytest

from atomesh.agents import Agent, AgentServer, ExecutionContext
from atomesh.core import headers
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.text.v1.text_pb2 import TextInput, TextOutput
from atomesh.text.v1.text_pb2_grpc import TextProcessorServiceStub

PAGE = (Path(__file__).parents[3] / "docs" / "other-languages.md").read_text()
RETRIES, BALANCING = (json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL))
SERVED = "text-processor"


class Slow(Agent[TextInput, TextOutput]):
    """One call at a time, 10 ms each, and a list of what ran."""

    name = SERVED
    slots = 1

    def __init__(self) -> None:
        self.ran: list[str] = []

    async def execute(self, input: TextInput, context: ExecutionContext) -> TextOutput:
        self.ran.append(context.request_id)
        await SYSTEM_CLOCK.sleep(0.01)
        return TextOutput(result=context.instance_id)


def stock(target: str, config: dict[str, Any]) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(target, options=(("grpc.service_config", json.dumps(config)),))


async def call(stub: Any, request_id: str) -> str:
    """The instance that answered, or the error's code."""
    pairs = (("x-request-id", request_id),)
    try:
        answer = await stub.Execute(TextInput(content="a", operation="sentiment"), metadata=pairs, timeout=10)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return str(answer.result)


@pytest.mark.parametrize(("config", "lost"), [(RETRIES, False), ({}, True)], ids=["as documented", "without it"])
async def test_refused_calls_are_tried_again_and_none_runs_twice(config: dict[str, Any], lost: bool) -> None:
    agent = Slow()
    async with AgentServer(agent, bind="127.0.0.1:0") as server, stock(server.address, config) as channel:
        stub = TextProcessorServiceStub(channel)
        await call(stub, "first")  # connected, and the endpoint knows how long a call takes
        ended = await asyncio.gather(*(call(stub, f"call-{number}") for number in range(60)))
        await server.drain()
    refused = ended.count("RESOURCE_EXHAUSTED")
    assert bool(refused) is lost, f"33 fit and 60 came at once: {refused} were refused for good"
    assert len(agent.ran) == len(set(agent.ran)) == 61 - refused, "refused is not executed, and nothing runs twice"


async def test_an_endpoint_that_drains_gets_no_new_calls_and_refuses_none() -> None:
    async with (
        AgentServer(Slow(), bind="127.0.0.1:0") as stays,
        AgentServer(Slow(), bind="127.0.0.1:0") as goes,
        stock(f"ipv4:{stays.address},{goes.address}", BALANCING) as channel,
    ):
        stub = TextProcessorServiceStub(channel)
        before = {await call(stub, f"before-{number}") for number in range(40)}
        draining = asyncio.create_task(goes.drain())
        during = [await call(stub, f"during-{number}") for number in range(40)]
        await draining
        after = {await call(stub, f"after-{number}") for number in range(10)}
    both = {stays.instance_id, goes.instance_id}
    assert before == both
    assert set(during) <= both, "an endpoint that drains takes what is on its way"
    assert after == {stays.instance_id}


def test_every_header_is_on_the_page() -> None:
    own = {headers.REQUEST_ID, headers.CONTEXT, headers.AGENT, headers.NO_WAIT, *headers._FIELDS}
    assert {name for name in own if f"`{name}`" not in PAGE} == set()
