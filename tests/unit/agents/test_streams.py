"""An agent that answers in chunks: what it yields is its contract, and it goes no faster than its chunks are taken."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import Any, Generic, TypeVar

import pytest
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from atomesh.agents import Agent, AgentFailed, ExecutionContext, StreamingAgent, run_once
from atomesh.agents.served import ServedAgent
from atomesh.agents.spec import resolve
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.core.context import current_scope
from atomesh.core.contract import describe
from atomesh.core.errors import AgentCrashed, AtomeshError, DeadlineExceeded, InvalidArgument, InvalidOutput
from atomesh.text.v1.text_pb2 import Keyword, TextInput, TextOutput

Serve = Callable[..., ServedAgent]
Calls = Callable[..., Any]
Items = AsyncIterator[Keyword | TextOutput]
Work = AsyncGenerator[Keyword | TextOutput, None]


class Talker(StreamingAgent[TextInput, Keyword, TextOutput]):
    """Yields each word, then all of them; or does what the test gives it."""

    name = "talker"
    slots = 1

    def __init__(self, work: Callable[..., AsyncGenerator[Any, None]] | None = None) -> None:
        self._work = work
        self.asked = 0
        self.ended = 0

    async def stream(self, input: TextInput, context: ExecutionContext, /) -> Items:
        try:
            if self._work is not None:
                async with contextlib.aclosing(self._work(input, context)) as items:
                    async for item in items:
                        yield item
                return
            for word in input.content.split():
                self.asked += 1
                yield Keyword(text=word)
            yield TextOutput(result=input.content)
        finally:
            self.ended += 1


class Taker:
    """Where chunks go, one at a time when told so."""

    def __init__(self, *, held: bool = False) -> None:
        self.taken: list[str] = []
        self.room = asyncio.Semaphore(0 if held else 1_000_000)

    async def __call__(self, chunk: Message) -> None:
        await self.room.acquire()
        assert isinstance(chunk, Keyword)
        self.taken.append(chunk.text)


async def yields(*items: Any) -> AsyncGenerator[Any, None]:
    for item in items:
        yield item


async def failure(served: ServedAgent, call: Any, send: Any = None) -> AtomeshError:
    with pytest.raises(AtomeshError) as caught:
        await served.run(call, send)
    assert served.admission.in_flight == 0, "a slot is free when its stream has ended"
    return caught.value


async def settle() -> None:
    for _ in range(10):
        await SYSTEM_CLOCK.sleep(0)


async def test_chunks_come_in_order_and_the_output_last(served: Serve, call: Calls) -> None:
    taker = Taker()
    done = await served(Talker()).run(call("one two three"), taker)
    assert taker.taken == ["one", "two", "three"]
    assert done.output == TextOutput(result="one two three")


async def test_who_wants_no_chunks_gets_the_output_alone(served: Serve, call: Calls) -> None:
    agent = Talker()
    assert (await served(agent).run(call("one two"))).output == TextOutput(result="one two")
    assert await run_once(Talker(), TextInput(content="a b", operation="sentiment")) == TextOutput(result="a b")
    assert await agent.execute(TextInput(content="x"), ExecutionContext.for_test()) == TextOutput(result="x")


async def test_an_agent_without_chunks_takes_a_send_and_never_uses_it(served: Serve, call: Calls) -> None:
    class Plain(Agent[TextInput, TextOutput]):
        name = "plain"

        async def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
            return TextOutput(result=input.content)

    taker = Taker()
    assert (await served(Plain()).run(call("hello"), taker)).output == TextOutput(result="hello")
    assert taker.taken == []


async def test_the_next_chunk_is_asked_for_when_the_last_was_taken(served: Serve, call: Calls) -> None:
    agent, taker = Talker(), Taker(held=True)
    running = asyncio.create_task(served(agent).run(call("a b c d"), taker))
    for taken in range(4):
        await settle()
        assert agent.asked == taken + 1, "an agent must not work ahead of its caller"
        taker.room.release()
    await running


async def test_its_scope_is_the_execution_at_every_step(served: Serve, call: Calls) -> None:
    async def work(_: TextInput, context: ExecutionContext) -> Work:
        for word in ("a", "b"):
            assert current_scope() is context
            yield Keyword(text=word)
        yield TextOutput()

    await served(Talker(work)).run(call(), Taker())
    assert current_scope() is None


BAD: dict[str, tuple[Callable[[], AsyncGenerator[Any, None]], type[AtomeshError], str, Message | None]] = {
    "no output": (lambda: yields(Keyword(text="a")), AgentCrashed, "ended after 1 chunks without its output", None),
    "nothing at all": (lambda: yields(), AgentCrashed, "ended after 0 chunks", None),
    "another message": (
        lambda: yields(TextInput()),
        AgentCrashed,
        "yielded TextInput, its contract says Keyword and last TextOutput",
        None,
    ),
    "no message": (lambda: yields("word"), AgentCrashed, "yielded str", None),
    "a chunk against the rules": (
        lambda: yields(Keyword(text="a"), Keyword(text="b", score=7)),
        InvalidOutput,
        "invalid chunk 2: score: ",
        Keyword(text="b", score=7),
    ),
    "a chunk after the output": (
        lambda: yields(TextOutput(result="paid for"), Keyword()),
        InvalidOutput,
        "went on after its output, with Keyword",
        TextOutput(result="paid for"),
    ),
    "two outputs": (
        lambda: yields(TextOutput(result="one"), TextOutput(result="two")),
        InvalidOutput,
        "went on after its output, with TextOutput",
        TextOutput(result="one"),
    ),
    "an output against the rules": (
        lambda: yields(TextOutput(result="paid for", confidence=7)),
        InvalidOutput,
        "confidence",
        TextOutput(result="paid for", confidence=7),
    ),
    "a chunk that no message can hold": (
        lambda: yields(Keyword(text="x" * (4 << 20))),
        AgentCrashed,
        "chunk 1 has 4194309 bytes, and 4193280 can be sent",
        None,
    ),
}


@pytest.mark.parametrize("bad", BAD)
async def test_a_stream_that_is_not_its_contract_is_the_agents_fault(served: Serve, call: Calls, bad: str) -> None:
    items, kind, said, output = BAD[bad]
    agent = Talker(lambda *_: items())
    error = await failure(served(agent), call(), Taker())
    assert isinstance(error, kind)
    assert said in error.message
    assert error.executed is True
    assert getattr(error, "output", None) == output, "paid work must not be thrown away"
    assert agent.ended == 1


async def test_an_authors_own_error_after_chunks_arrives_as_it_was_raised(served: Serve, call: Calls) -> None:
    async def work(*_: Any) -> Work:
        yield Keyword(text="a")
        raise AgentFailed("out of paper", reason="NO_PAPER")

    taker = Taker()
    error = await failure(served(Talker(work)), call(), taker)
    assert (error.reason, taker.taken) == ("NO_PAPER", ["a"])


@pytest.mark.parametrize("where", ["in its work", "at its yield"])
async def test_a_caller_that_leaves_ends_the_work_before_the_slot_is_free(
    served: Serve, call: Calls, where: str
) -> None:
    log: list[str] = []

    async def work(*_: Any) -> Work:
        try:
            if where == "in its work":
                await asyncio.Event().wait()
            yield Keyword(text="a")
        except BaseException as error:
            log.append(type(error).__name__)
            raise
        finally:
            await settle()  # cleaning up may take a while
            log.append(f"in flight {here.admission.in_flight}")

    here = served(Talker(work))
    running = asyncio.create_task(here.run(call(), Taker(held=True)))
    await settle()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert log == ["CancelledError" if where == "in its work" else "GeneratorExit", "in flight 1"]
    assert here.admission.in_flight == 0
    outcome = {"agent": "talker", "outcome": "cancelled"}
    assert here.registry.get_sample_value("atomesh_agent_executions_total", outcome) == 1  # type: ignore[attr-defined] # the fixture's


async def test_work_that_catches_its_cancellation_is_not_asked_for_more(served: Serve, call: Calls) -> None:
    async def work(*_: Any) -> Work:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                yield Keyword(text="I go on")

    taker = Taker()
    running = asyncio.create_task(served(Talker(work)).run(call(), taker))
    await settle()
    running.cancel()
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await running
    assert taker.taken == []


async def test_a_cleanup_that_fails_is_logged_and_hides_nothing(
    served: Serve, call: Calls, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(*_: Any) -> Work:
        try:
            yield Keyword(text="a", score=7)
        finally:
            raise ValueError("cannot close")

    error = await failure(served(Talker(work)), call(), Taker())
    assert isinstance(error, InvalidOutput)
    (record,) = [record for record in caplog.records if "did not close" in record.message]
    assert record.exc_info is not None
    assert "cannot close" in str(record.exc_info[1])


async def test_an_iterator_of_the_authors_own_is_as_good_as_a_generator(served: Serve, call: Calls) -> None:
    class Own:
        def __init__(self) -> None:
            self.items: Iterator[Any] = iter([Keyword(text="a"), TextOutput(result="a")])

        def __aiter__(self) -> "Own":
            return self

        async def __anext__(self) -> Any:
            try:
                return next(self.items)
            except StopIteration:
                raise StopAsyncIteration from None

    class Talks(StreamingAgent[TextInput, Keyword, TextOutput]):
        name = "talks"

        def stream(self, input: TextInput, context: ExecutionContext, /) -> Items:
            return Own()

    taker = Taker()
    assert (await served(Talks()).run(call(), taker)).output == TextOutput(result="a")
    assert taker.taken == ["a"]


@pytest.mark.virtual_time
async def test_the_deadline_ends_a_stream_in_the_middle(served: Serve, call: Calls) -> None:
    async def work(*_: Any) -> Work:
        while True:
            await SYSTEM_CLOCK.sleep(1)
            yield Keyword(text="a")

    agent, taker = Talker(work), Taker()
    error = await failure(served(agent, default_timeout=3.5), call(timeout=None), taker)
    assert isinstance(error, DeadlineExceeded)
    assert (error.executed, taker.taken, agent.ended) == (True, ["a"] * 3, 1)


async def test_a_drain_that_cuts_it_off_says_so(served: Serve, call: Calls) -> None:
    here = served(Talker())
    running = asyncio.create_task(failure(here, call("a b"), Taker(held=True)))
    await settle()
    assert here.cancel_running("cut off by a drain after 1 s") == 1
    assert "cut off by a drain after 1 s" in (await running).message


async def test_it_is_not_idle_while_an_output_is_on_its_way(served: Serve) -> None:
    here = served(Talker())
    with here.delivering():
        idle = asyncio.create_task(here.idle())
        await settle()
        assert not idle.done(), "a drain must wait for outputs behind chunks that nobody has read yet"
    await idle


# -- what the class says ------------------------------------------------------

C = TypeVar("C", bound=Message)


class Half(StreamingAgent[TextInput, C, TextOutput], Generic[C]):
    """A base of somebody's own, with a chunk to be filled in."""

    name = "half"

    async def stream(self, input: TextInput, context: ExecutionContext, /) -> AsyncIterator[C | TextOutput]:
        yield TextOutput()


def test_the_contract_has_the_chunks_that_the_class_names() -> None:
    class Whole(Half[Keyword]):
        pass

    for agent in (Talker(), Whole()):
        assert resolve(agent).contract.descriptor == describe(TextInput, TextOutput, Keyword)
    description = resolve(Talker()).describe("instance-1")
    assert description.contract.chunk_type == "atomesh.text.v1.Keyword"


async def _nothing(self: Any, input: Any, context: Any) -> AsyncIterator[Any]:
    yield None


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "no types": (lambda: type("A", (StreamingAgent,), {"name": "a", "stream": _nothing}), "YourChunk"),
    "chunks like the output": (
        lambda: _typed(TextInput, StringValue, StringValue),
        "chunks of the type of its output, google.protobuf.StringValue",
    ),
    "chunks that are no message": (lambda: _typed(TextInput, str, StringValue), "str in its contract"),
    "stream takes too little": (
        lambda: _typed(TextInput, Int32Value, StringValue, lambda self, input: None),
        "it is called with an input and a context",
    ),
    "stream is a plain generator": (
        lambda: _typed(TextInput, Int32Value, StringValue, _plain_generator),
        "is no async generator; write it as async def, and yield in it",
    ),
    "stream is a coroutine": (
        lambda: _typed(TextInput, Int32Value, StringValue, _coroutine),
        "is no async generator; write it as async def, and yield in it",
    ),
}


def _plain_generator(self: Any, input: Any, context: Any) -> Iterator[Any]:
    yield None


async def _coroutine(self: Any, input: Any, context: Any) -> None:
    return None


def _typed(taken: Any, chunk: Any, given: Any, stream: Any = _nothing) -> Any:
    base: Any = StreamingAgent

    class Made(base[taken, chunk, given]):  # type: ignore[misc] # that is what is tested
        name = "made"

    Made.stream = stream
    Made.__abstractmethods__ = frozenset()
    return Made


@pytest.mark.parametrize("wrong", WRONG)
def test_a_class_that_cannot_stream_is_refused_at_the_start(wrong: str) -> None:
    make, said = WRONG[wrong]
    with pytest.raises(InvalidArgument) as refused:
        resolve(make()())
    assert said in refused.value.message
    assert "\n" not in refused.value.message
