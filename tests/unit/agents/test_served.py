"""A call's way through one agent: slots, deadlines, cancellation, errors. No wire, and mostly no time."""

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from atomesh.agents import Agent, AgentFailed, ContextProvider, ExecutionContext, InvalidInput, Violation, run_once
from atomesh.agents.calls import Done
from atomesh.agents.served import ServedAgent
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.core.context import Context, current_scope
from atomesh.core.errors import (
    AgentCrashed,
    AtomeshError,
    ConnectionLost,
    DeadlineExceeded,
    Draining,
    InvalidOutput,
    NoEndpoint,
    NoFreeSlot,
    Origin,
)
from atomesh.text.v1.text_pb2 import Keyword, TextInput, TextOutput

Serve = Callable[..., ServedAgent]
Calls = Callable[..., Any]


class Scripted(Agent[TextInput, TextOutput]):
    """Does what the test gives it."""

    name = "scripted"
    slots = 2

    def __init__(self, work: Callable[..., Any] | None = None) -> None:
        self._work = work

    async def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
        given = await self._work(input, context) if self._work else None
        return given if given is not None else TextOutput(result=input.content)


async def failed(agent: Agent[Any, Any], content: str = "x", context: Context | None = None) -> AtomeshError:
    with pytest.raises(AtomeshError) as caught:
        await run_once(agent, TextInput(content=content, operation="sentiment"), context=context)
    return caught.value


def text(done: Done) -> str:
    assert isinstance(done.output, TextOutput)
    return done.output.result


async def sleeps(_: TextInput, __: ExecutionContext) -> None:
    await SYSTEM_CLOCK.sleep(100)


@pytest.mark.virtual_time
async def test_an_execution_gives_its_output_and_how_long_it_took(served: Serve, call: Calls) -> None:
    async def work(*_: Any) -> None:
        await SYSTEM_CLOCK.sleep(2)

    here = served(Scripted(work))
    done = await here.run(call("hello"))
    assert (text(done), done.waited, done.took) == ("hello", 0.0, 2.0)
    assert here.admission.load().busy == 2.0


@pytest.mark.virtual_time
async def test_an_error_says_where_it_arose(served: Serve, call: Calls) -> None:
    async def work(*_: Any) -> None:
        raise AgentFailed("no such ticket", reason="NO_TICKET", details={"ticket": 7})

    asked = call()
    with pytest.raises(AgentFailed) as caught:
        await served(Scripted(work)).run(asked)
    error = caught.value
    assert error.origin == Origin("scripted", "127.0.0.1:1", "instance-1", asked.context.request_id, 1e9)
    assert (error.reason, error.data) == ("NO_TICKET", {"ticket": 7})


async def test_an_unexpected_exception_tells_the_caller_nothing_and_the_log_everything(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def work(*_: Any) -> None:
        raise ValueError("the password is hunter2")

    context = Context(request_id="req-7", user_id="u", session_id="s", traceparent="t")
    error = await failed(Scripted(work), context=context)
    assert isinstance(error, AgentCrashed)
    assert "hunter2" not in str(error)
    assert "req-7" in error.message
    record = caplog.records[-1]
    assert record.exc_info is not None
    assert "hunter2" in str(record.exc_info[1])
    for name, value in {"request_id": "req-7", "user_id": "u", "session_id": "s", "traceparent": "t"}.items():
        assert getattr(record, name) == value, "the log must be found by what the caller knows"


async def test_a_bad_output_is_an_error_that_carries_it() -> None:
    async def work(*_: Any) -> TextOutput:
        return TextOutput(result="paid for", confidence=7.0)

    error = await failed(Scripted(work))
    assert isinstance(error, InvalidOutput)
    assert error.output == TextOutput(result="paid for", confidence=7.0), "paid work must not be thrown away"
    assert [violation.field for violation in error.violations] == ["confidence"]
    assert error.executed is True


async def test_a_wrong_type_of_output_names_both_types() -> None:
    async def work(*_: Any) -> Any:
        return Keyword(text="x")

    error = await failed(Scripted(work))
    assert isinstance(error, AgentCrashed)
    assert "returned Keyword, its contract says TextOutput" in error.message


async def test_a_plain_def_that_returns_a_coroutine_is_told_to_be_async() -> None:
    class Forgot(Agent[TextInput, TextOutput]):
        name = "forgot"

        def execute(self, input: TextInput, context: ExecutionContext, /) -> Any:
            return SYSTEM_CLOCK.sleep(0)

    assert "declare it async def" in (await failed(Forgot())).message


async def test_a_bad_input_is_refused_unexecuted_with_every_field(caplog: pytest.LogCaptureFixture) -> None:
    ran = []
    error = await failed(Scripted(lambda *_: ran.append(1)), content="")
    assert isinstance(error, InvalidInput)
    assert error.executed is False
    assert [violation.field for violation in error.violations] == ["content"]
    assert not ran, "the agent must not see an input that breaks its contract"


async def test_an_authors_own_invalid_input_passes_and_was_executed() -> None:
    async def work(*_: Any) -> None:
        raise InvalidInput(violations=[Violation("content", "is about nothing")])

    error = await failed(Scripted(work))
    assert isinstance(error, InvalidInput)
    assert error.executed is True


@pytest.mark.parametrize(
    "nested",
    [
        NoEndpoint("nobody serves x", origin=Origin("x")),
        NoFreeSlot("full", origin=Origin("x")),
        InvalidInput("bad", origin=Origin("x")),
        AgentCrashed("x crashed", origin=Origin("x")),
    ],
)
async def test_a_refusal_of_a_nested_call_is_not_handed_on_as_if_nothing_had_run(nested: AtomeshError) -> None:
    async def work(*_: Any) -> None:
        raise nested

    error = await failed(Scripted(work))
    assert isinstance(error, AgentCrashed)
    assert error.executed is True, "trying elsewhere is not harmless: this agent has run"
    assert nested.reason in error.message


async def test_a_nested_agents_own_error_passes_with_its_origin_but_is_not_tried_again_by_each_layer() -> None:
    async def work(*_: Any) -> None:
        raise AgentFailed("later", reason="BUSY", retryable=True, origin=Origin("leaf", "10.0.0.1:1"))

    error = await failed(Scripted(work))
    assert isinstance(error, AgentFailed)
    assert (error.reason, error.origin.agent, error.retryable) == ("BUSY", "leaf", False)


async def test_an_agents_own_retryable_error_stays_retryable() -> None:
    async def work(*_: Any) -> None:
        raise AgentFailed("later", retryable=True)

    assert (await failed(Scripted(work))).retryable


async def test_something_cancelled_inside_an_agent_is_its_crash_and_not_a_callers_cancellation() -> None:
    async def work(*_: Any) -> None:
        raise asyncio.CancelledError

    error = await failed(Scripted(work))
    assert isinstance(error, AgentCrashed)
    assert "had been cancelled" in error.message


@pytest.mark.virtual_time
async def test_who_gives_no_deadline_is_answered_at_the_default_one(served: Serve, call: Calls) -> None:
    here = served(Scripted(sleeps), default_timeout=3.0)
    loop = asyncio.get_running_loop()
    with pytest.raises(DeadlineExceeded) as caught:
        await here.run(call(timeout=None))
    assert loop.time() == 3.0
    assert caught.value.executed is True
    assert here.admission.in_flight == 0


@pytest.mark.virtual_time
async def test_work_that_ignores_its_deadline_keeps_its_slot_but_its_caller_is_answered(
    served: Serve, call: Calls
) -> None:
    async def stubborn(*_: Any) -> None:
        try:
            await SYSTEM_CLOCK.sleep(100)
        except asyncio.CancelledError:
            await SYSTEM_CLOCK.sleep(5)

    here, asked = served(Scripted(stubborn), default_timeout=1.0), call(timeout=None)
    running = asyncio.create_task(here.run(asked))
    await SYSTEM_CLOCK.sleep(2)
    assert [type(error) for error in asked.answered] == [DeadlineExceeded], "the caller must not wait for it"
    assert asked.answered[0].origin.agent == "scripted"
    assert here.admission.in_flight == 1, "a slot is free when its work has really ended"
    await running
    assert here.admission.in_flight == 0


@pytest.mark.virtual_time
async def test_a_call_after_its_deadline_is_refused_unexecuted(served: Serve, call: Calls) -> None:
    with pytest.raises(DeadlineExceeded) as caught:
        await served(Scripted()).run(call(timeout=-0.1))
    assert caught.value.executed is False


@pytest.mark.virtual_time
async def test_full_slots_refuse_who_does_not_wait_and_queue_who_does(served: Serve, call: Calls) -> None:
    async def work(*_: Any) -> None:
        await SYSTEM_CLOCK.sleep(0.4)

    here = served(Scripted(work))
    first = [asyncio.create_task(here.run(call())) for _ in range(2)]
    await SYSTEM_CLOCK.sleep(0.1)
    with pytest.raises(NoFreeSlot):
        await here.run(call(no_wait=True))
    done = await here.run(call())
    assert done.waited == pytest.approx(0.3)
    await asyncio.gather(*first)


@pytest.mark.virtual_time
async def test_nobody_waits_for_a_slot_longer_than_a_second(served: Serve, call: Calls) -> None:
    here = served(Scripted(sleeps))
    first = [asyncio.create_task(here.run(call())) for _ in range(2)]
    await SYSTEM_CLOCK.sleep(0)
    with pytest.raises(NoFreeSlot) as caught:
        await here.run(call())
    assert asyncio.get_running_loop().time() == pytest.approx(1.0)
    assert caught.value.executed is False
    for task in first:
        task.cancel()
    await asyncio.gather(*first, return_exceptions=True)


class Slow(ContextProvider[str]):
    async def provide(self, context: ExecutionContext, /) -> str:
        await SYSTEM_CLOCK.sleep(0)
        await SYSTEM_CLOCK.sleep(0)
        return "given"


class ManyAwaits(Agent[TextInput, TextOutput]):
    name = "many-awaits"
    slots = 1
    providers = (Slow(),)

    async def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
        try:
            for _ in range(3):
                await SYSTEM_CLOCK.sleep(0)
        finally:
            await SYSTEM_CLOCK.sleep(0)
        return TextOutput(result=context[Slow])


@pytest.mark.parametrize("waiting", [False, True], ids=["free", "queued"])
async def test_a_call_cancelled_at_any_await_leaks_no_slot(served: Serve, call: Calls, waiting: bool) -> None:
    cancelled = 0
    for turns in range(40):
        here = served(ManyAwaits(), SYSTEM_CLOCK)
        others = [asyncio.create_task(here.run(call()))] if waiting else []
        await SYSTEM_CLOCK.sleep(0)
        task = asyncio.create_task(here.run(call()))
        for _ in range(turns):
            await SYSTEM_CLOCK.sleep(0)
        task.cancel()
        await asyncio.gather(task, *others, return_exceptions=True)
        cancelled += task.cancelled()
        assert here.admission.in_flight == 0, f"cancelled after {turns} turns of the loop, a slot leaked"
        assert here.admission.queued == 0
        assert not here._running
        assert text(await here.run(call())) == "given", "the slot must be usable again"
    assert cancelled > 5


@pytest.mark.virtual_time
async def test_a_caller_that_leaves_is_counted_as_such(served: Serve, call: Calls) -> None:
    here = served(Scripted(sleeps))
    task = asyncio.create_task(here.run(call()))
    await SYSTEM_CLOCK.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    count = here.registry.get_sample_value(  # type: ignore[attr-defined] # put there by the fixture
        "atomesh_agent_executions_total", {"agent": "scripted", "outcome": "cancelled"}
    )
    assert count == 1


@pytest.mark.virtual_time
async def test_what_the_endpoint_itself_cuts_off_may_have_run_and_says_so(served: Serve, call: Calls) -> None:
    here = served(Scripted(sleeps))
    running = [asyncio.create_task(here.run(call())) for _ in range(3)]  # two run, one waits
    await SYSTEM_CLOCK.sleep(0.1)
    assert here.cancel_running("cut off") == 3
    ends = await asyncio.gather(*running, return_exceptions=True)
    assert [type(end) for end in ends] == [ConnectionLost, ConnectionLost, Draining]
    assert here.admission.in_flight == 0


@pytest.mark.virtual_time
async def test_idle_returns_when_the_last_slot_is_given_back(served: Serve, call: Calls) -> None:
    async def work(*_: Any) -> None:
        await SYSTEM_CLOCK.sleep(3)

    here = served(Scripted(work))
    task = asyncio.create_task(here.run(call()))
    await SYSTEM_CLOCK.sleep(0)
    await here.idle()
    assert asyncio.get_running_loop().time() == 3.0
    await task
    await here.idle()


async def test_the_scope_of_an_execution_is_current_inside_it_and_only_there() -> None:
    seen = []

    async def work(_: TextInput, context: ExecutionContext) -> None:
        seen.append((current_scope(), context))

    await run_once(Scripted(work), TextInput(content="x", operation="sentiment"), context=Context(user_id="Zoë"))
    scope, context = seen[0]
    assert scope is context
    assert scope.child().via == ("scripted",)
    assert (context.user_id, context.agent) == ("Zoë", "scripted")
    assert 29 < context.remaining() <= 30
    assert current_scope() is None


class Parallel(Agent[TextInput, TextOutput]):
    """All of its slots must run at once for it to get on."""

    name = "parallel"
    slots = 16

    def __init__(self) -> None:
        self.together = threading.Barrier(16)
        self.scopes: list[Any] = []

    def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
        self.together.wait(10)
        self.scopes.append((current_scope(), context, threading.current_thread().name))
        return TextOutput(result=context.user_id)


async def test_sixteen_slots_of_a_plain_def_run_sixteen_at_once_each_with_its_context(
    served: Serve, call: Calls
) -> None:
    agent = Parallel()
    here = served(agent, SYSTEM_CLOCK)
    users = [f"user-{number}" for number in range(16)]
    done = await asyncio.gather(*(here.run(call(context=Context(user_id=user))) for user in users))
    assert [text(one) for one in done] == users
    assert len({thread for _, _, thread in agent.scopes}) == 16
    for scope, context, _ in agent.scopes:
        assert scope is context, "a nested call from the thread must find its context and deadline"
        assert 0 < context.remaining() <= 10
    await here.close()


async def test_a_thread_keeps_its_slot_until_it_returns_whatever_its_caller_does(served: Serve, call: Calls) -> None:
    let_go = threading.Event()

    class Stuck(Agent[TextInput, TextOutput]):
        name = "stuck"
        slots = 1

        def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
            let_go.wait(10)
            return TextOutput()

    here = served(Stuck(), SYSTEM_CLOCK, default_timeout=0.05)
    with pytest.raises(DeadlineExceeded):
        await here.run(call(timeout=None))
    assert here.admission.in_flight == 1, "the work goes on, so its slot is taken"
    with pytest.raises(NoFreeSlot):
        await here.run(call(no_wait=True))
    let_go.set()
    await asyncio.wait_for(here.idle(), 5)
    load = here.admission.load()
    assert (load.executions, load.failures) == (1, 1)
    await here.close()


async def test_a_slow_exception_of_a_thread_whose_caller_left_is_not_lost_in_the_loop(
    served: Serve, call: Calls, caplog: pytest.LogCaptureFixture
) -> None:
    class Late(Agent[TextInput, TextOutput]):
        name = "late"

        def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
            threading.Event().wait(0.1)
            raise ValueError("too late")

    caplog.set_level(logging.INFO)
    here = served(Late(), SYSTEM_CLOCK, default_timeout=0.02)
    with pytest.raises(DeadlineExceeded):
        await here.run(call(timeout=None))
    await asyncio.wait_for(here.idle(), 5)
    assert "its thread has returned" in caplog.text
    await here.close()
