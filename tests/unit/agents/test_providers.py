"""Providers start in order, close in the reverse whatever happens, and give each execution its own."""

from typing import Any

import pytest

from atomesh.agents import Agent, ContextProvider, ExecutionContext, run_once
from atomesh.core.errors import AgentCrashed, Conflict
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

INPUT = TextInput(content="x", operation="sentiment")


class Recorded(ContextProvider[str]):
    """Writes down what happens to it; fails where it is told to."""

    def __init__(self, log: list[str], fails: str = "") -> None:
        self.log = log
        self.fails = fails

    def _note(self, what: str) -> None:
        self.log.append(f"{type(self).__name__} {what}")
        if self.fails == what:
            raise OSError(f"{what} went wrong\nin two lines")

    async def start(self) -> None:
        self._note("start")

    def provide(self, context: ExecutionContext, /) -> Any:
        self._note("provide")
        return f"{type(self).__name__} for {context.user_id or context.agent}"

    async def close(self) -> None:
        self._note("close")


class First(Recorded):
    pass


class Second(Recorded):
    async def provide(self, context: ExecutionContext, /) -> str:
        return str(super().provide(context))


class Asks(Agent[TextInput, TextOutput]):
    name = "asks"

    async def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
        return TextOutput(result=f"{context[First]}, {context[Second]}")


def agent(*providers: ContextProvider[Any]) -> Asks:
    made = Asks()
    made.providers = providers  # type: ignore[misc] # per test, not per class
    return made


async def test_they_start_in_order_are_asked_before_each_execution_and_close_last_first() -> None:
    log: list[str] = []
    output = await run_once(agent(First(log), Second(log)), INPUT)
    assert output.result == "First for asks, Second for asks"
    assert log == ["First start", "Second start", "First provide", "Second provide", "Second close", "First close"]


async def test_one_that_does_not_start_is_named_in_one_line_and_the_others_are_closed() -> None:
    log: list[str] = []
    with pytest.raises(Conflict) as refused:
        await run_once(agent(First(log), Second(log, fails="start")), INPUT)
    assert refused.value.message == (
        "agent asks: its provider Second did not start: OSError: start went wrong in two lines"
    )
    assert log == ["First start", "Second start", "First close"]


async def test_one_that_does_not_close_keeps_no_other_open(caplog: pytest.LogCaptureFixture) -> None:
    log: list[str] = []
    await run_once(agent(First(log), Second(log, fails="close")), INPUT)
    assert log[-2:] == ["Second close", "First close"]
    assert "its provider Second did not close" in caplog.text


async def test_one_that_fails_to_provide_is_the_agents_crash() -> None:
    log: list[str] = []
    with pytest.raises(AgentCrashed):
        await run_once(agent(First(log, fails="provide"), Second(log)), INPUT)


async def test_one_line_replaces_one_in_a_test() -> None:
    log: list[str] = []
    output = await run_once(agent(First(log), Second(log)), INPUT, providers={First: Second(log)})
    assert output.result == "Second for asks, Second for asks"
    assert "First start" not in log


async def test_asking_for_one_that_is_not_declared_says_how_to_declare_it() -> None:
    context = ExecutionContext.for_test(provided={First: "given"})
    assert context[First] == "given"
    with pytest.raises(KeyError, match=r"declare providers = \(Second\(\),\)"):
        context[Second]


async def test_an_agent_that_does_not_start_closes_its_providers() -> None:
    log: list[str] = []

    class Broken(Asks):
        async def start(self) -> None:
            raise RuntimeError("no model")

    made = Broken()
    made.providers = (First(log),)  # type: ignore[misc] # per test, not per class
    with pytest.raises(Conflict, match="agent asks did not start: RuntimeError: no model"):
        await run_once(made, INPUT)
    assert log == ["First start", "First close"]


async def test_execute_can_be_called_directly() -> None:
    context = ExecutionContext.for_test(provided={First: "1", Second: "2"})
    assert (await Asks().execute(INPUT, context)).result == "1, 2"
    assert context.request_id
