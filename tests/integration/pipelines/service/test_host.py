"""A pipeline served as an agent: its contract, its errors, its end; and what a host does with durable runs."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from grpc_reflection.v1alpha import reflection_pb2
from prometheus_client import generate_latest

from atomesh.balancer import Client
from atomesh.core import Selector
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.core.errors import AgentFailed, AtomeshError, InvalidArgument
from atomesh.pipelines.host import PipelineHost
from atomesh.rpc import RegistryClient
from atomesh.rpc.channel import open_channel
from atomesh.text.v1.text_pb2 import TextInput, TextOutput
from atomesh.v1 import agent_pb2, agent_pb2_grpc, pipeline_pb2

if TYPE_CHECKING:
    from tests.integration.pipelines.service.conftest import House

PATIENCE = 30.0
INPUT = TextInput(content="hello", operation="summarize")


class Opens(Protocol):
    def __call__(self, *pipelines: str, **options: Any) -> AbstractAsyncContextManager[House]: ...


async def registered(host: PipelineHost) -> None:
    async with asyncio.timeout(PATIENCE):
        await host.server.registered.wait()


async def test_a_pipeline_is_an_agent_like_any_other(house: Opens) -> None:
    async with house("loud", zone="z1") as at:
        await registered(at.host)
        async with open_channel(at.host.server.address) as channel:
            stub: Any = agent_pb2_grpc.AgentServiceStub(channel)
            described = (await stub.Describe(agent_pb2.DescribeRequest(agent="loud"), timeout=PATIENCE)).agents[0]
        assert described.description == "Says it louder."
        assert described.contract.input_type == "atomesh.text.v1.TextInput"
        assert described.contract.output_type == "atomesh.text.v1.TextOutput"
        assert described.contract.descriptor_set, "whoever has no stub reads its types"
        assert [capability.name for capability in described.capabilities] == ["shouting"]
        async with RegistryClient(at.registry) as registry:
            (endpoint,) = (await registry.discover(Selector(capabilities=("shouting",)))).endpoints
        assert (endpoint.agent, endpoint.zone, endpoint.idempotent) == ("loud", "z1", True)
        assert endpoint.labels["atomesh-pipeline"] == "1.0.0"
        async with Client(at.registry) as mesh:
            reply: Any = await mesh.execute("loud", INPUT)
        assert reply.output == TextOutput(result="HELLO")
        notes = reply.info.notes
        assert notes["run_status"] == "SUCCESS"
        assert notes["run_stages"].startswith("first success")
        kept = await at.get(notes["run_id"])
        assert kept.request_id == reply.info.request_id, "the run's record is found from the call"


async def test_stock_tools_find_the_service_and_its_metrics(house: Opens) -> None:
    async with house("loud", "broken-line") as at:
        await at.run("loud")
        await at.run("broken-line")
        async with open_channel(at.host.server.address) as channel:
            ask: Any = channel.stream_stream(
                "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
                response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
            )
            call = ask(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
            answer = await call.read()
            call.cancel()
        listed = [service.name for service in answer.list_services_response.service]
        assert {"atomesh.v1.PipelineService", "atomesh.v1.AgentService"} <= set(listed)
        page = generate_latest(at.host.server.metrics).decode()
        assert 'atomesh_pipeline_runs_total{pipeline="loud",status="success"} 1.0' in page
        assert 'atomesh_pipeline_runs_total{pipeline="broken-line",status="failed"} 1.0' in page
        assert 'atomesh_pipeline_running{pipeline="loud"} 0.0' in page


async def test_a_pipeline_that_must_not_run_twice_says_so(house: Opens) -> None:
    async with house("gated") as at:
        await registered(at.host)
        async with RegistryClient(at.registry) as registry:
            (endpoint,) = (await registry.discover(Selector(agent="gated"))).endpoints
        assert endpoint.idempotent is False, "one of its stages must not"


async def test_its_error_carries_the_run_the_stage_and_the_trace(house: Opens) -> None:
    async with house("broken-line") as at:
        await registered(at.host)
        async with Client(at.registry) as mesh:
            with pytest.raises(AgentFailed) as caught:
                await mesh.call("broken-line", INPUT)
        error: Any = caught.value
        assert error.reason == "RUN_FAILED"
        assert (error.data["failed_stage"], error.data["error_type"]) == ("second", "NO_TICKET")
        kept = await at.get(error.data["run_id"])
        assert kept.status == pipeline_pb2.RUN_STATUS_FAILED
        assert kept.error.stage == "second"


async def test_called_as_a_stream_it_tells_of_its_run_and_then_gives_its_output(house: Opens) -> None:
    async with house("loud", "broken-line") as at:
        await registered(at.host)
        async with Client(at.registry) as mesh:
            async with mesh.stream("loud", INPUT) as stream:
                told = [chunk.WhichOneof("event") async for chunk in stream]
            assert told == ["run_started", *["stage_started", "stage_ended"] * 2, "run_ended"]
            assert stream.output == TextOutput(result="HELLO")
            told = []

            async def failing() -> None:
                async with mesh.stream("broken-line", INPUT) as stream:
                    async for chunk in stream:
                        told.append(chunk.WhichOneof("event"))

            with pytest.raises(AgentFailed, match="no such ticket"):
                await failing()
            assert told[-1] == "run_ended"


async def test_a_run_that_is_cancelled_from_elsewhere_ends_the_call(house: Opens) -> None:
    async with house("gated") as at:
        await registered(at.host)
        async with Client(at.registry) as mesh:
            call = asyncio.create_task(mesh.call("gated", INPUT))
            await at.gate.began.wait()
            (run_id,) = at.host.runner.running
            await at.ask("CancelRun", pipeline_pb2.CancelRunRequest(run_id=run_id))
            with pytest.raises(AtomeshError, match=f"run {run_id} .*was cancelled"):
                await call
        assert at.gate.cut_off.is_set()


@pytest.mark.parametrize("door", ["agent", "service"])
async def test_a_drain_finishes_runs_under_way_and_takes_no_new_ones(house: Opens, door: str) -> None:
    async with house("gated") as at:
        await registered(at.host)
        async with Client(at.registry) as mesh:
            if door == "agent":
                call = asyncio.create_task(mesh.call("gated", INPUT))
            else:
                call = asyncio.create_task(at.run("gated"))
            await at.gate.began.wait()
            drain = asyncio.create_task(at.host.server.drain(PATIENCE))
            async with asyncio.timeout(PATIENCE):
                while not at.host.server.agents["gated"].admission.draining:
                    await SYSTEM_CLOCK.sleep(0.01)
            await SYSTEM_CLOCK.sleep(0.1)
            assert not drain.done(), "a drain waits for what runs"
            events, error = await at.told("gated", run_id="late")
            assert events == [], "nothing new begins in a process that drains"
            assert error is not None
            assert error.reason == "DRAINING"
            at.gate.open.set()
            await call
            await drain
        assert at.gate.done == 1
        assert not at.gate.cut_off.is_set()


async def test_a_drain_cuts_off_what_does_not_end_within_its_grace(house: Opens) -> None:
    async with house("gated") as at:
        await registered(at.host)
        call = asyncio.create_task(at.told("gated", run_id="endless"))
        await at.gate.began.wait()
        async with asyncio.timeout(PATIENCE):
            await at.host.server.drain(0.1)
            await at.host.stop()
            await call
            await at.gate.cut_off.wait()
        kept = await at.store.get_run("endless")
        assert kept.status == pipeline_pb2.RUN_STATUS_CANCELLED


async def test_two_pipelines_of_one_name_are_refused(house: Opens) -> None:
    with pytest.raises(InvalidArgument, match="two pipelines here are named loud"):
        async with house("loud", "name: loud\nstages: {other: {agent: broken}}"):
            pytest.fail("one of them would never be called")


async def test_no_pipeline_is_nothing_to_serve(house: Opens) -> None:
    with pytest.raises(InvalidArgument, match="atomesh pipeline add FILE"):
        async with house():
            pytest.fail("there is nothing")


async def test_an_address_that_is_in_use_leaves_nothing_behind(house: Opens) -> None:
    async with house("loud") as at:
        taken = at.host.server.address
        with pytest.raises(AtomeshError, match="cannot listen on"):
            async with house("loud", bind=taken):
                pytest.fail("two cannot have one address")


async def test_stopping_leaves_a_durable_run_to_be_resumed(house: Opens, tmp_path: Any) -> None:
    where = str(tmp_path / "runs.db")
    async with house("durable", store=where) as at:
        call = asyncio.create_task(at.told("durable", run_id="d"))
        await at.gate.began.wait()
        await at.host.stop()
        await call
        kept = await at.store.get_run("d")
        assert kept.status == pipeline_pb2.RUN_STATUS_RUNNING, "it has not ended; whoever has the store may resume it"
        assert not kept.HasField("ended_at")
