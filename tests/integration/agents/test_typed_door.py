"""The typed door: a generated stub in any language, its context in headers, whatever is in them."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest

from atomesh.agents import AgentFailed, ExecutionContext
from atomesh.core import headers
from atomesh.core.context import Context
from atomesh.core.errors import InvalidArgument, UnknownAgent
from atomesh.rpc.channel import from_rpc_error
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

Serving = Callable[..., Any]
HOSTILE = ["Zoë", "a\nb", "x\r\ny: z", " padded ", "\x00", "日本", "A,B", "%"]


async def test_a_generated_stub_needs_no_any_and_gets_the_request_id(serving: Serving) -> None:
    async with serving() as (_, caller):
        call = caller.typed.Execute(caller.input("plain"))
        assert (await call).result == "plain"
        assert len(dict(await call.trailing_metadata())["x-request-id"]) == 32


@pytest.mark.parametrize("value", HOSTILE)
async def test_hostile_text_as_context_arrives_unharmed(serving: Serving, echo: Any, value: str) -> None:
    seen: list[ExecutionContext] = []

    async def work(_: TextInput, context: ExecutionContext) -> None:
        seen.append(context)

    sent = Context(value, value, value, {value: value, "UPPER": value}, "00-ab-cd-01", value, None, ("a",))
    async with serving(echo(work)) as (_, caller):
        call = caller.typed.Execute(caller.input(), metadata=headers.encode(sent))
        await call
        trailers = dict(await call.trailing_metadata())
    assert seen[0].context == sent
    assert headers.lookup(tuple(trailers.items()), "x-request-id-bin") in ("", value)


async def test_an_error_carries_the_request_id_in_a_trailer_of_its_own(serving: Serving, echo: Any) -> None:
    async def work(*_: Any) -> None:
        raise AgentFailed("no")

    async with serving(echo(work)) as (_, caller):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await caller.typed.Execute(caller.input(), metadata=(("x-request-id", "req-9"),))
    assert dict(caught.value.trailing_metadata() or ())["x-request-id"] == "req-9"
    assert from_rpc_error(caught.value).origin.request_id == "req-9"


@pytest.mark.parametrize(
    "metadata",
    [
        (("x-user-id-bin", b"\xff\xfe"),),
        (("x-user-id", "a"), ("x-user-id", "b")),
        (("x-atomesh-context-bin", b"\xff\xff"),),
        (("x-request-id", "r" * 129),),
    ],
)
async def test_bad_headers_are_an_invalid_argument_and_no_crash(serving: Serving, metadata: Any) -> None:
    async with serving() as (_, caller):
        error = await caller.error(caller.typed.Execute(caller.input(), metadata=metadata))
        assert type(error) is InvalidArgument
        assert "\n" not in error.message
        assert (await caller.typed.Execute(caller.input("on"))).result == "on"


async def test_where_two_agents_share_the_service_a_header_names_one(serving: Serving, echo: Any) -> None:
    class Other(echo):  # type: ignore[misc] # a class from a fixture
        name = "other"

    async def shouts(input: TextInput, _: Any) -> Any:
        return TextOutput(result=input.content.upper())

    async with serving([echo(), Other(shouts)]) as (_, caller):
        named = await caller.typed.Execute(caller.input("a"), metadata=(("x-atomesh-agent", "other"),))
        assert named.result == "A"
        unnamed = await caller.error(caller.typed.Execute(caller.input()))
        assert isinstance(unnamed, InvalidArgument)
        assert "echo and other are served here" in unnamed.message
        assert "x-atomesh-agent" in unnamed.message
        unknown = await caller.error(caller.typed.Execute(caller.input(), metadata=(("x-atomesh-agent", "x"),)))
        assert isinstance(unknown, UnknownAgent)
