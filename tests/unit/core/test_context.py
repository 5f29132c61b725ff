"""What travels with a call, and how code that runs in one finds it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from typing import Any

import pytest

from atomesh.core.context import Context, Scope, current_scope, enter
from atomesh.core.errors import InvalidArgument
from atomesh.v1 import context_pb2

HOSTILE = [
    "Zoë",
    "🦊👩‍👩‍👧",
    "\u202eevil\u202c",
    "a\x00b",
    "line\nbreak\r\n",
    "\x1b[31m",
    " ",
    "ﬀ",
    "\U0010ffff",
    "'; DROP",
    "%s{0}",
]


def _sent(context: Context) -> Context:
    return Context.from_proto(context_pb2.Context.FromString(context.to_proto().SerializeToString()))


@pytest.mark.parametrize("text", HOSTILE)
def test_any_unicode_text_survives_the_wire_in_every_field(text: str) -> None:
    context = Context(text, text, text, {text: text}, text, text, 1_700_000_000.25, (text, text))
    assert _sent(context) == context


def test_every_field_is_carried() -> None:
    given: dict[str, Any] = {
        "request_id": "r",
        "user_id": "u",
        "session_id": "s",
        "metadata": {"k": "v"},
        "traceparent": "t",
        "idempotency_key": "i",
        "timestamp": 1_700_000_000.123456,
        "via": ("a", "b"),
    }
    assert set(given) == {field.name for field in fields(Context)}, "a new field needs to be carried too"
    for name, value in given.items():
        assert getattr(_sent(Context(**{name: value})), name) == value
    assert _sent(Context()) == Context()
    assert Context().to_proto().SerializeToString() == b"", "what is unset must cost nothing"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("request_id", "\ud800"),
        ("user_id", "a\udfffb"),
        ("session_id", "\udc80"),
        ("traceparent", "\ud83e"),  # half an emoji
        ("idempotency_key", "\ud800"),
        ("via", ("a", "\ud800")),
        ("metadata", {"\ud800": "v"}),
        ("metadata", {"k": "\ud800"}),
    ],
)
def test_a_lone_surrogate_is_refused_by_the_name_of_its_field(name: str, value: Any) -> None:
    with pytest.raises(InvalidArgument, match=f"context {name} holds a lone surrogate") as refused:
        Context(**{name: value}).to_proto()
    assert str(refused.value).encode(), "the message itself must be sendable"


@pytest.mark.parametrize(("name", "value"), [("user_id", 7), ("metadata", {"k": 7}), ("via", (b"a", 3))])
def test_what_is_no_text_is_refused_by_the_name_of_its_field(name: str, value: Any) -> None:
    with pytest.raises(InvalidArgument, match=f"context {name} holds"):
        Context(**{name: value}).to_proto()


@pytest.mark.parametrize(
    ("seconds", "nanos"), [(2**63 - 1, 999_999_999), (-(2**63), 0), (0, 2**31 - 1), (0, -(2**31)), (253402300799, 0)]
)
def test_a_hostile_timestamp_can_always_be_sent_on(seconds: int, nanos: int) -> None:
    proto = context_pb2.Context()
    proto.timestamp.seconds, proto.timestamp.nanos = seconds, nanos
    context = Context.from_proto(proto)
    assert _sent(context) == _sent(_sent(context)), "a nested call carries it too"


def test_a_request_id_is_made_once_and_kept() -> None:
    made = Context(user_id="u").with_request_id()
    assert len(made.request_id) == 32
    assert made.user_id == "u"
    assert made.with_request_id() is made
    assert Context().with_request_id().request_id != made.request_id


def test_a_child_call_is_another_piece_of_work() -> None:
    scope = Scope(Context(request_id="r", idempotency_key="debit-7"), deadline=10.0, agent="middle")
    assert scope.child().request_id == "r"
    assert scope.child().idempotency_key == "", "two calls under one key would be taken for one"


def test_a_child_call_says_through_whom_it_came() -> None:
    outer = Context(request_id="r", user_id="u", via=("front",))
    child = Scope(outer, deadline=10.0, agent="middle").child()
    assert child == replace(outer, via=("front", "middle"))
    assert Scope(outer, deadline=10.0).child() is outer, "a caller that is no agent adds nobody"


def test_outside_of_an_execution_there_is_no_scope_and_an_inner_one_ends() -> None:
    outer, inner = Scope(Context("o"), 1.0), Scope(Context("i"), 1.0)
    assert current_scope() is None
    with enter(outer):
        with contextlib.suppress(RuntimeError), enter(inner):
            assert current_scope() is inner
            raise RuntimeError("out")
        assert current_scope() is outer, "an exception must not leave its scope behind"
    assert current_scope() is None


async def test_tasks_inherit_the_scope_they_were_started_in_and_no_other() -> None:
    async def seen() -> str:
        await asyncio.sleep(0)  # noqa: TID251 # a turn of the loop, not a time
        scope = current_scope()
        return scope.context.request_id if scope else ""

    async def execution(name: str) -> tuple[str, ...]:
        with enter(Scope(Context(name), 1.0)):
            inner = [asyncio.create_task(seen()) for _ in range(3)]
            return tuple(await asyncio.gather(*inner, seen()))

    results = await asyncio.gather(*(execution(str(number)) for number in range(20)))
    assert results == [(str(number),) * 4 for number in range(20)], "concurrent executions must not mix"
    assert await seen() == ""


async def test_a_thread_sees_the_scope_where_its_context_is_handed_over() -> None:
    def seen() -> Scope | None:
        return current_scope()

    with enter(scope := Scope(Context("r"), 1.0)):
        assert await asyncio.to_thread(seen) is scope
        with ThreadPoolExecutor(1) as pool:
            copied = contextvars.copy_context()
            assert await asyncio.get_running_loop().run_in_executor(pool, copied.run, seen) is scope
            assert await asyncio.get_running_loop().run_in_executor(pool, seen) is None
        found: list[Scope | None] = []
        thread = threading.Thread(target=lambda: found.append(current_scope()))
        thread.start()
        thread.join()
        assert found == [None], "a plain thread is a stranger: whoever starts one copies the context"
