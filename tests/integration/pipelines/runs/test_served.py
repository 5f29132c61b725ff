"""A pipeline as an agent: found, described, called, streamed, cancelled and explained over the wire."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import grpc.aio
import pytest
from google.protobuf import any_pb2

from atomesh.agents import AgentFailed
from atomesh.core import Selector, errors
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.core.contract import pack
from atomesh.pipelines import RunFailed, RunStatus
from atomesh.rpc import RegistryClient
from atomesh.rpc.channel import from_rpc_error
from atomesh.text.v1.text_pb2 import TextInput, TextOutput
from atomesh.v1 import agent_pb2, agent_pb2_grpc, pipeline_pb2

Houses = Callable[[], Any]
Stage = Callable[..., dict[str, Any]]
INPUT = TextInput(content="x", operation="sentiment")
DOWNSTREAM = 1.0
"""Seconds within which a cancellation must have reached the leaf: 0.1 is promised, the rest is for slow machines."""
PATIENCE = 5.0


async def broken(*_: Any) -> None:
    raise AgentFailed("no such ticket", reason="NO_TICKET")


async def forever(*_: Any) -> None:
    await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def stub(address: str) -> Any:
    async with grpc.aio.insecure_channel(address) as channel:
        yield agent_pb2_grpc.AgentServiceStub(channel)


async def test_it_is_called_as_any_agent_and_its_reply_tells_of_the_run(house: Houses, stage: Stage) -> None:
    async with house() as h:
        for name in "abc":
            await h.agent(name)
        await h.pipeline(stage("a"), stage("b", "a"), stage("c", "a"), output={"b": "$b.result", "c": "$c.result"})
        reply = await h.mesh.execute("report", INPUT)
        assert (reply.output.b, reply.output.c) == ("x>a>b", "x>a>c"), "its message is read from its contract alone"
        notes = dict(reply.info.notes)
        assert notes["run_status"] == "SUCCESS"
        assert len(notes["run_id"]) == 32
        assert [line.split()[:2] for line in notes["run_stages"].split("; ")] == [
            ["a", "success"],
            ["b", "success"],
            ["c", "success"],
        ]


async def test_a_partial_run_says_so_in_its_reply(house: Houses, stage: Stage) -> None:
    async with house() as h:
        await h.agent("a", broken)
        await h.pipeline(stage("a", on_error="skip", default={"result": "none"}))
        reply = await h.mesh.execute("report", INPUT)
        assert reply.output.result == "none"
        assert reply.info.notes["run_status"] == "PARTIAL"
        assert "a skipped" in reply.info.notes["run_stages"]


async def test_a_stock_client_needs_nothing_but_any(house: Houses, stage: Stage) -> None:
    async with house() as h:
        await h.agent("a")
        server = await h.pipeline(stage("a"), output={"said": "$a.result"})
        async with stub(server.address) as agent:
            response = await agent.Execute(agent_pb2.ExecuteRequest(input=pack(INPUT)), timeout=PATIENCE)
            described = (await agent.Describe(agent_pb2.DescribeRequest(agent="report"), timeout=PATIENCE)).agents[0]
        assert response.output.type_url == "type.googleapis.com/atomesh.pipelines.report.Output"
        assert response.info.notes["run_status"] == "SUCCESS"
        assert described.contract.output_type == "atomesh.pipelines.report.Output"
        loaded = (await h.mesh.contract("report")).output
        assert loaded.FromString(response.output.value).said == "x>a"


async def test_it_is_registered_with_its_contract(house: Houses, stage: Stage) -> None:
    async with house() as h:
        await h.agent("a", idempotent=True)
        await h.pipeline(stage("a"), version="2.1.0", capabilities=["reporting"], slots=7)
        async with RegistryClient(h.registry.address) as registry:
            (endpoint,) = (await registry.discover(Selector(capabilities=("reporting",)))).endpoints
        assert (endpoint.agent, endpoint.version, endpoint.slots) == ("report", "2.1.0", 7)
        assert endpoint.idempotent, "each of its stages may run twice"
        assert (endpoint.input_type, endpoint.output_type) == (
            "atomesh.text.v1.TextInput",
            "atomesh.text.v1.TextOutput",
        )
        assert endpoint.labels["atomesh-pipeline"] == "2.1.0"


async def test_a_version_with_more_in_its_output_may_be_served_beside_the_last(house: Houses, stage: Stage) -> None:
    async with house() as h:
        for name in "ab":
            await h.agent(name)
        await h.pipeline(stage("a"), output={"said": "$a.result"}, version="1.0.0")
        await h.pipeline(
            stage("a"), stage("b", "a"), output={"extra": "$b.result", "said": "$a.result"}, version="1.1.0"
        )
        for version in ("<1.1", ">=1.1"):
            assert (await h.mesh.call("report", INPUT, version=version)).said == "x>a"


async def test_a_stream_gives_each_event_and_then_the_output(house: Houses, stage: Stage) -> None:
    async with house() as h:
        for name in "ab":
            await h.agent(name)
        await h.pipeline(stage("a"), stage("b", "a"))
        async with h.mesh.stream("report", INPUT) as stream:
            chunks = [chunk async for chunk in stream]
            output = await stream.result()
        assert [chunk.WhichOneof("event") for chunk in chunks] == [
            "run_started",
            "stage_started",
            "stage_ended",
            "stage_started",
            "stage_ended",
            "run_ended",
        ]
        assert output.result == "x>a>b"
        ended = chunks[-1].run_ended
        assert ended.status == pipeline_pb2.RUN_STATUS_SUCCESS
        assert {chunk.run_id for chunk in chunks} == {ended.id}
        assert not any(one.output for one in ended.stages), "outputs of stages are not for who calls the pipeline"


async def test_a_streams_error_is_that_of_the_call(house: Houses, stage: Stage) -> None:
    async with house() as h:
        await h.agent("a", broken)
        await h.pipeline(stage("a"))
        events: list[str] = []

        async def read() -> None:
            async with h.mesh.stream("report", INPUT) as stream:
                async for chunk in stream:
                    events.append(chunk.WhichOneof("event"))

        with pytest.raises(AgentFailed) as caught:
            await read()
        assert caught.value.reason == "RUN_FAILED"
        assert caught.value.data["failed_stage"] == "a"
        assert events == ["run_started", "stage_started", "attempt_failed", "stage_ended", "run_ended"]


async def test_a_stock_client_streams_too(house: Houses, stage: Stage) -> None:
    async with house() as h:
        await h.agent("a")
        server = await h.pipeline(stage("a"))
        async with stub(server.address) as agent:
            request = agent_pb2.ExecuteStreamRequest(request=agent_pb2.ExecuteRequest(input=pack(INPUT)))
            parts = [part async for part in agent.ExecuteStream(request, timeout=PATIENCE)]
        event = pipeline_pb2.RunEvent()
        assert parts[0].chunk.Unpack(event)
        assert event.WhichOneof("event") == "run_started"
        assert TextOutput.FromString(parts[-1].response.output.value).result == "x>a"
        assert parts[-1].response.info.notes["run_id"] == event.run_id


@pytest.mark.parametrize("stock", [False, True])
async def test_its_error_carries_run_stage_and_trace(house: Houses, stage: Stage, stock: bool) -> None:
    async with house() as h:
        await h.agent("a")
        await h.agent("b", broken)
        server = await h.pipeline(stage("a"), stage("b", "a"), stage("c", "b", agent="a"))
        error: errors.AtomeshError
        if stock:
            async with stub(server.address) as agent:
                with pytest.raises(grpc.aio.AioRpcError) as rpc:
                    await agent.Execute(agent_pb2.ExecuteRequest(input=pack(INPUT)), timeout=PATIENCE)
            error = from_rpc_error(rpc.value)
        else:
            with pytest.raises(AgentFailed) as caught:
                await h.mesh.call("report", INPUT)
            error = caught.value
        assert isinstance(error, AgentFailed)
        assert error.reason == "RUN_FAILED"
        assert error.executed is True
        assert "stage b of report failed: no such ticket (run " in error.message
        assert (error.data["failed_stage"], error.data["error_type"]) == ("b", "NO_TICKET")
        assert error.data["run_id"] in error.message
        assert [line.split()[:2] for line in error.data["stages"]] == [
            ["a", "success"],
            ["b", "failed"],
            ["c", "pending"],
        ]
        assert error.origin.agent == "report"


async def test_a_failed_pipeline_of_many_long_stages_still_explains_itself(house: Houses) -> None:
    async def long(*_: Any) -> None:
        raise AgentFailed("\u00e9" * 900, reason="LONG")

    async with house() as h:
        await h.agent("a")
        await h.agent("bad", long)
        names = [f"s{number:02}_{'x' * 59}" for number in range(60)]
        stages = [{"id": name, "agent": "a", "input": "$input"} for name in names[:-1]]
        await h.pipeline(*stages, {"id": names[-1], "agent": "bad", "input": "$input", "after": names[:-1]})
        with pytest.raises(AgentFailed) as caught:
            await h.mesh.call("report", INPUT)
        assert caught.value.reason == "RUN_FAILED"
        assert caught.value.data["failed_stage"] == names[-1]


async def test_what_breaks_the_rules_of_its_input_is_refused_before_a_run_begins(house: Houses, stage: Stage) -> None:
    async with house() as h:
        agent = await h.agent("a")
        await h.pipeline(stage("a"))
        with pytest.raises(errors.InvalidInput):
            await h.mesh.call("report", TextInput(content="", operation="dance"))
        with pytest.raises(errors.WrongType):
            await h.mesh.call("report", any_pb2.Any())
        assert agent.seen == []


@pytest.mark.parametrize("how", ["call", "stream", "stock"])
async def test_cancelling_the_call_reaches_the_leaf_at_once(house: Houses, stage: Stage, how: str) -> None:
    async with house() as h:
        leaf = await h.agent("leaf", forever)
        server = await h.pipeline(stage("leaf"))

        async def streamed() -> None:
            async with h.mesh.stream("report", INPUT) as stream:
                await stream.result()

        async def stock() -> None:
            async with stub(server.address) as agent:
                await agent.Execute(agent_pb2.ExecuteRequest(input=pack(INPUT)), timeout=PATIENCE)

        calls = {"call": lambda: h.mesh.call("report", INPUT), "stream": streamed, "stock": stock}
        task = asyncio.ensure_future(calls[how]())
        async with asyncio.timeout(PATIENCE):
            await leaf.begun.acquire()
        cancelled_at = SYSTEM_CLOCK.now()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(PATIENCE):
            while not leaf.cancelled_at:
                await SYSTEM_CLOCK.sleep(0.002)
        assert leaf.cancelled_at[0] - cancelled_at < DOWNSTREAM
        (runner,) = h.runners
        async with asyncio.timeout(PATIENCE):
            while runner.running:
                await SYSTEM_CLOCK.sleep(0.002)


async def test_cancelling_the_run_tells_its_caller_and_reaches_the_leaf_at_once(house: Houses, stage: Stage) -> None:
    async with house() as h:
        leaf = await h.agent("leaf", forever)
        await h.pipeline(stage("leaf"))
        task = asyncio.ensure_future(h.mesh.call("report", INPUT))
        async with asyncio.timeout(PATIENCE):
            await leaf.begun.acquire()
        (runner,) = h.runners
        cancelled_at = SYSTEM_CLOCK.now()
        runner.cancel(next(iter(runner.running)))
        with pytest.raises(AgentFailed, match="was cancelled") as caught:
            await task
        assert caught.value.reason == "RUN_CANCELLED"
        async with asyncio.timeout(PATIENCE):
            while not leaf.cancelled_at:
                await SYSTEM_CLOCK.sleep(0.002)
        assert leaf.cancelled_at[0] - cancelled_at < DOWNSTREAM


async def test_the_callers_deadline_is_the_runs(house: Houses, stage: Stage) -> None:
    async with house() as h:
        leaf = await h.agent("leaf", forever)
        await h.pipeline(stage("leaf"), timeout=100)
        with pytest.raises(errors.AtomeshError):
            await h.mesh.call("report", INPUT, timeout=0.3)
        async with asyncio.timeout(PATIENCE):
            while not leaf.cancelled_at:
                await SYSTEM_CLOCK.sleep(0.002)
        assert leaf.seen[0].via == ("report",)


async def test_an_input_of_ten_megabytes_is_one_clear_line(house: Houses) -> None:
    async with house() as h:
        agent = await h.agent("a")
        plan = await h.plan(
            {"id": "a", "agent": "a", "input": {"content": "$input.text", "operation": "sentiment"}},
            input_fields={"text": "string"},
        )
        runner = await h.runner()
        text: Any = plan.contract.input(text="x" * 10_000_000)
        with pytest.raises(RunFailed) as caught:
            await runner.run(plan, text)
        record = caught.value.run
        assert caught.value.failed_with in ("MESSAGE_TOO_LARGE", "INVALID_INPUT")
        assert "\n" not in caught.value.message
        assert len(caught.value.message) < 400
        assert record.status is RunStatus.FAILED
        assert record.stages[0].attempt_count == 1, "it will not be smaller the next time"
        assert record.input_bytes > 10_000_000
        assert agent.seen == []
