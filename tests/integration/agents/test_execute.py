"""Execute, Describe, Health, reflection and HTTP of a served agent, as a stock client sees them."""

import asyncio
import urllib.request
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from atomesh.agents import AgentFailed, AgentServer, ExecutionContext
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.core.context import Context
from atomesh.core.contract import ContractDescriptor, pack
from atomesh.core.errors import (
    AgentCrashed,
    AtomeshError,
    Conflict,
    InvalidArgument,
    InvalidInput,
    InvalidOutput,
    MessageTooLarge,
    NotFound,
    UnknownAgent,
    WrongInstance,
    WrongType,
)
from atomesh.rpc.channel import from_rpc_error
from atomesh.text.v1.text_pb2 import Keyword, TextInput, TextOutput
from atomesh.v1 import agent_pb2

Serving = Callable[..., Any]


async def test_an_answer_tells_where_and_how_long_it_ran(serving: Serving) -> None:
    async with serving() as (server, caller):
        response = await caller.stub.Execute(caller.request(context=Context(request_id="req-1").to_proto()))
        info = response.info
        assert (info.agent, info.version, info.endpoint) == ("echo", "1.0.0", server.address)
        assert (info.instance_id, info.request_id) == (server.instance_id, "req-1")
        assert 0 < info.execution_time.nanos < 1e9
        assert abs(info.started_at.seconds - SYSTEM_CLOCK.wall()) < 5
        assert (info.load.slots, info.load.in_flight, info.load.queued) == (4, 0, 0)


async def test_a_request_id_is_made_up_where_the_caller_gives_none(serving: Serving) -> None:
    async with serving() as (_, caller):
        assert len((await caller.stub.Execute(caller.request())).info.request_id) == 32


async def test_context_reaches_the_agent(serving: Serving, echo: Any) -> None:
    seen: list[ExecutionContext] = []

    async def work(_: TextInput, context: ExecutionContext) -> None:
        seen.append(context)

    sent = Context("req", "Zoë", "s\n1", {"KEY": "välue"}, "00-a-b-01", "idem", 1700000000.5, ("a", "b"))
    async with serving(echo(work)) as (_, caller):
        await caller.execute(context=sent.to_proto(), timeout=7)
    assert seen[0].context == sent
    assert 6 < seen[0].deadline - SYSTEM_CLOCK.now() < 7.1, "grpc-timeout is rounded up a little"


async def test_an_authors_error_arrives_as_it_was_raised(serving: Serving, echo: Any) -> None:
    async def work(*_: Any) -> None:
        raise AgentFailed("no ticket", reason="NO_TICKET", retryable=True, details={"ticket": 7})

    async with serving(echo(work)) as (server, caller):
        error = await caller.error(caller.execute(context=Context(request_id="r1").to_proto()))
    assert isinstance(error, AgentFailed)
    assert (error.message, error.reason, error.retryable, error.data) == ("no ticket", "NO_TICKET", True, {"ticket": 7})
    assert (error.origin.agent, error.origin.endpoint, error.origin.request_id) == ("echo", server.address, "r1")
    assert error.origin.time is not None


async def test_a_crash_leaves_no_trace_on_the_wire(
    serving: Serving, echo: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(*_: Any) -> None:
        raise ValueError("hunter2")

    async with serving(echo(work)) as (_, caller):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await caller.execute()
    error = from_rpc_error(caught.value)
    assert isinstance(error, AgentCrashed)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "hunter2" not in repr(caught.value)
    assert error.origin.request_id in caplog.text
    assert "hunter2" in caplog.text


async def test_a_bad_output_arrives_with_the_work_in_it(serving: Serving, echo: Any) -> None:
    async def work(*_: Any) -> TextOutput:
        return TextOutput(result="paid", confidence=9)

    async with serving(echo(work)) as (_, caller):
        error = await caller.error(caller.execute())
    assert isinstance(error, InvalidOutput)
    assert error.output == TextOutput(result="paid", confidence=9)
    assert [violation.field for violation in error.violations] == ["confidence"]


async def test_a_bad_output_too_large_for_a_trailer_is_still_the_right_error(serving: Serving, echo: Any) -> None:
    async def work(*_: Any) -> TextOutput:
        return TextOutput(result="x" * 20_000, confidence=9)

    async with serving(echo(work)) as (_, caller):
        error = await caller.error(caller.execute())
    assert isinstance(error, InvalidOutput)
    assert "TextOutput left out" in error.message


@pytest.mark.parametrize(
    ("request_", "kind", "said"),
    [
        (agent_pb2.ExecuteRequest(), InvalidArgument, "input: value is required"),
        (agent_pb2.ExecuteRequest(input=pack(Keyword(text="x"))), WrongType, "expected atomesh.text.v1.TextInput"),
        (
            agent_pb2.ExecuteRequest(input=any_pb2.Any(type_url="https://evil.example/steal", value=b"")),
            WrongType,
            "type steal",
        ),
        (
            agent_pb2.ExecuteRequest(
                input=any_pb2.Any(type_url="x/atomesh.text.v1.TextInput", value=b"\x0a\x02\xff\xfe")
            ),
            WrongType,
            "do not parse",
        ),
        (agent_pb2.ExecuteRequest(input=pack(TextInput())), InvalidInput, "content"),
        (agent_pb2.ExecuteRequest(agent="other", input=pack(TextInput())), UnknownAgent, "there is echo"),
        (agent_pb2.ExecuteRequest(agent="x" * 65, input=pack(TextInput())), InvalidArgument, "agent"),
        (agent_pb2.ExecuteRequest(instance_id="gone-since", input=pack(TextInput())), WrongInstance, "gone-since"),
        (
            agent_pb2.ExecuteRequest(context=Context(user_id="u" * 257).to_proto(), input=pack(TextInput())),
            InvalidArgument,
            "context.user_id",
        ),
    ],
)
async def test_a_bad_request_is_refused_unexecuted_in_one_line(
    serving: Serving, request_: agent_pb2.ExecuteRequest, kind: type[AtomeshError], said: str
) -> None:
    async with serving() as (_, caller):
        error = await caller.error(caller.stub.Execute(request_))
        assert type(error) is kind
        assert said in error.message
        assert "\n" not in error.message
        assert error.executed is False
        assert await caller.execute("still here") == "still here"


@pytest.mark.parametrize("raw", [b"\xff\xff\xff", b"\x0a\x02\xff\xfe"], ids=["garbage", "bad UTF-8"])
async def test_bytes_that_are_no_message_are_an_invalid_argument(serving: Serving, raw: bytes) -> None:
    async with serving() as (_, caller):
        for method in ("/atomesh.v1.AgentService/Execute", "/atomesh.text.v1.TextProcessorService/Execute"):
            error = await caller.error(caller.channel.unary_unary(method)(raw))
            assert isinstance(error, InvalidArgument), method
            assert "do not parse" in error.message


async def test_a_message_over_the_limit_is_refused_and_harms_nobody(serving: Serving) -> None:
    async with serving() as (_, caller):
        error = await caller.error(caller.typed.Execute(caller.input("x" * 5_000_000)))
        assert isinstance(error, MessageTooLarge)
        assert await caller.execute() == "hello"


async def test_a_very_long_error_of_an_author_still_arrives_as_it(serving: Serving, echo: Any) -> None:
    async def work(*_: Any) -> None:
        raise AgentFailed("ü" * 30_000, reason="LONG", details={"much": "y" * 30_000})

    async with serving(echo(work)) as (_, caller):
        error = await caller.error(caller.execute())
    assert isinstance(error, AgentFailed), "gRPC refuses trailers over 8 KiB: the error must be cut to fit"
    assert error.reason == "LONG"


async def test_describe_tells_contract_slots_and_capabilities(serving: Serving, echo: Any) -> None:
    class Able(echo):  # type: ignore[misc] # a class from a fixture
        """Able to do things."""

        capabilities = ("validation",)

    async with serving(Able(), slots=7, zone="north", labels={"a": "b"}) as (server, caller):
        (agent,) = (await caller.stub.Describe(agent_pb2.DescribeRequest())).agents
        assert (agent.name, agent.slots, agent.zone, dict(agent.labels)) == ("echo", 7, "north", {"a": "b"})
        assert agent.description == "Able to do things."
        assert [capability.name for capability in agent.capabilities] == ["validation"]
        assert agent.typed_service == "atomesh.text.v1.TextProcessorService"
        assert agent.instance_id == server.instance_id
        contract = ContractDescriptor.from_proto(agent.contract)
        assert (contract.input_type, contract.output_type) == (
            "atomesh.text.v1.TextInput",
            "atomesh.text.v1.TextOutput",
        )
        error = await caller.error(caller.stub.Describe(agent_pb2.DescribeRequest(agent="nobody")))
        assert isinstance(error, UnknownAgent)


async def test_health_counts_executions_failures_and_refusals(serving: Serving, echo: Any) -> None:
    async def work(input: TextInput, _: Any) -> None:
        if input.content == "bad":
            raise AgentFailed("bad")

    async with serving(echo(work)) as (_, caller):
        await caller.execute()
        await caller.error(caller.execute("bad"))
        (health,) = (await caller.stub.Health(agent_pb2.HealthRequest())).agents
        assert health.state == agent_pb2.SERVING_STATE_SERVING
        assert (health.load.executions, health.load.failures, health.load.in_flight) == (2, 1, 0)
        assert health.uptime.nanos or health.uptime.seconds


async def test_standard_health_knows_the_process_each_agent_and_each_typed_service(serving: Serving) -> None:
    async with serving() as (server, caller):
        stub: Any = health_pb2_grpc.HealthStub(caller.channel)
        serving_now = health_pb2.HealthCheckResponse.SERVING
        for name in ("", "echo", "atomesh.text.v1.TextProcessorService"):
            assert (await stub.Check(health_pb2.HealthCheckRequest(service=name))).status == serving_now
        assert isinstance(await caller.error(stub.Check(health_pb2.HealthCheckRequest(service="x"))), NotFound)
        listed = await stub.List(health_pb2.HealthListRequest())
        assert {"", "echo"} <= set(listed.statuses)
        assert server.state("echo").name == "SERVING"


async def test_reflection_lists_the_typed_service_in_both_versions(serving: Serving) -> None:
    async with serving() as (_, caller):
        for service in ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"):
            ask = caller.channel.stream_stream(
                f"/{service}/ServerReflectionInfo",
                request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
                response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
            )
            call = ask(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
            names = {found.name for found in (await call.read()).list_services_response.service}
            call.cancel()
            assert {"atomesh.v1.AgentService", "atomesh.text.v1.TextProcessorService"} <= names
    assert reflection_pb2_grpc.ServerReflectionStub is not None


async def test_metrics_and_readiness_over_http(serving: Serving) -> None:
    def get(path: str) -> tuple[int, str]:
        with urllib.request.urlopen(f"http://{server.http_address}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()

    async with serving(http_bind="127.0.0.1:0") as (server, caller):
        await caller.execute()
        await caller.error(caller.execute(""))
        _, metrics = await asyncio.to_thread(get, "/metrics")
        assert (await asyncio.to_thread(get, "/healthz"))[0] == 200
        assert await asyncio.to_thread(get, "/readyz") == (200, "ok\n")
    for line in (
        'atomesh_agent_executions_total{agent="echo",outcome="ok"} 1.0',
        'atomesh_agent_refusals_total{agent="echo",reason="INVALID_INPUT"} 1.0',
        'atomesh_agent_execution_seconds_count{agent="echo"} 1.0',
        'atomesh_agent_slots{agent="echo"} 4.0',
        'atomesh_agent_in_flight{agent="echo"} 0.0',
        'grpc_code="InvalidArgument",grpc_method="Execute",grpc_service="atomesh.v1.AgentService"',
        "atomesh_event_loop_lag_seconds_bucket",
    ):
        assert line in metrics


async def test_several_agents_in_one_process_are_told_apart_by_name(serving: Serving, echo: Any) -> None:
    class Other(echo):  # type: ignore[misc] # a class from a fixture
        name = "other"

    async with serving([echo(), Other()]) as (_, caller):
        response = await caller.stub.Execute(caller.request(agent="other"))
        assert response.info.agent == "other"
        error = await caller.error(caller.execute())
        assert isinstance(error, InvalidArgument)
        assert "name one of echo, other" in error.message


async def test_two_agents_of_one_name_are_refused(echo: Any) -> None:
    with pytest.raises(InvalidArgument, match="two agents here are named echo"):
        AgentServer([echo(), echo()])


async def test_a_port_in_use_is_said_in_one_line_and_nothing_is_left_running(serving: Serving, echo: Any) -> None:
    closed = []

    class Noted(echo):  # type: ignore[misc] # a class from a fixture
        async def close(self) -> None:
            closed.append(self.name)

    async with serving() as (server, _):
        second = AgentServer(Noted(), bind=server.address)
        with pytest.raises(Conflict, match="cannot listen on"):
            await second.start()
        assert closed == ["echo"], "what was started must be closed again"


async def test_a_class_instead_of_an_agent_says_what_to_write(echo: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"write Echo\(\)"):
        AgentServer(echo)
