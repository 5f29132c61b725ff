"""The client for scripts: calls, errors, several threads, Ctrl-C, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from atomesh.agents import Agent, AgentFailed, AgentServer, ExecutionContext
from atomesh.balancer import BlockingClient
from atomesh.core import Contract, errors
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

ECHO = Contract("echo", TextInput, TextOutput)
Text = Callable[..., TextInput]


@contextlib.contextmanager
def blocking(*addresses: str) -> Iterator[BlockingClient]:
    with BlockingClient(endpoints=addresses) as mesh:
        yield mesh


async def in_thread(work: Callable[[], Any]) -> Any:
    """What a script does, while this test's loop serves its agents."""
    return await asyncio.to_thread(work)


async def test_calls_by_name_and_by_contract(echo: Any, text: Text) -> None:
    async with AgentServer(echo()) as server:

        def script() -> None:
            with blocking(server.address) as mesh:
                assert mesh.call("echo", text("hi")).result == "hi"
                assert mesh.call(ECHO, text("hi"), timeout=5).result == "hi"
                reply = mesh.execute(ECHO, text("hi"))
                assert (reply.output.result, reply.info.endpoint) == ("hi", server.address)

        await in_thread(script)


async def test_errors_are_those_of_the_tree(echo: Any, text: Text) -> None:
    async def work(*_: Any) -> None:
        raise AgentFailed("no", reason="NO", details={"n": 1})

    async with AgentServer(echo(work)) as server:

        def script() -> None:
            with blocking(server.address) as mesh:
                with pytest.raises(AgentFailed) as caught:
                    mesh.call(ECHO, text())
                assert (caught.value.reason, caught.value.data) == ("NO", {"n": 1})
                with pytest.raises(errors.UnknownAgent):
                    mesh.call("nobody", text())

        await in_thread(script)


def test_what_cannot_be_made_is_told_where_it_was_asked_for() -> None:
    with pytest.raises(errors.InvalidArgument, match="not an address"):
        BlockingClient("nowhere")


def test_all_of_them_share_one_thread() -> None:
    with BlockingClient("127.0.0.1:1"):
        before = threading.active_count()
        for _ in range(20):
            with BlockingClient("127.0.0.1:1"):
                assert threading.active_count() == before


async def test_several_threads_share_one(echo: Any, text: Text) -> None:
    async with AgentServer(echo(), slots=4) as server:

        def script() -> None:
            with blocking(server.address) as mesh, ThreadPoolExecutor(8) as pool:
                answers = pool.map(lambda n: mesh.call(ECHO, text(f"call {n}")).result, range(100))
                assert list(answers) == [f"call {n}" for n in range(100)]

        await in_thread(script)


async def test_after_the_end_a_call_is_refused_and_closing_again_is_fine(echo: Any, text: Text) -> None:
    async with AgentServer(echo()) as server:

        def script() -> None:
            with blocking(server.address) as mesh:
                mesh.call(ECHO, text())
            mesh.close()
            with pytest.raises(errors.Cancelled, match="the client is closed"):
                mesh.call(ECHO, text())

        await in_thread(script)


async def test_closing_in_one_thread_ends_the_calls_of_others(echo: Any, holding: Any, text: Text) -> None:
    hold = holding()
    async with AgentServer(echo(hold), slots=2) as server:
        mesh: BlockingClient = await in_thread(lambda: BlockingClient(endpoints=[server.address]))
        calls = [asyncio.create_task(asyncio.to_thread(mesh.call, ECHO, text(), idempotent=True)) for _ in range(5)]
        for _ in range(2):
            await hold.begun.acquire()
        await asyncio.gather(*(asyncio.to_thread(mesh.close) for _ in range(3)))
        async with asyncio.timeout(2):
            ends = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(end, errors.Cancelled | errors.ConnectionLost) for end in ends), ends
        hold.let_go.set()


async def test_ctrl_c_in_the_calling_thread_ends_the_call(
    echo: Any, holding: Any, text: Text, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = holding()

    async with AgentServer(echo(hold)) as server:
        mesh: BlockingClient = await in_thread(lambda: BlockingClient(endpoints=[server.address]))
        begun = threading.Event()
        schedule = asyncio.run_coroutine_threadsafe

        def interrupted(work: Any, loop: Any) -> Any:
            """As the interpreter does it: the exception comes out of the wait, in the calling thread."""
            future = schedule(work, loop)
            result = future.result

            def wait(timeout: float | None = None) -> Any:
                with contextlib.suppress(TimeoutError):
                    return result(0.3)
                raise KeyboardInterrupt

            future.result = wait  # type: ignore[method-assign] # a signal can be had in the main thread alone
            begun.set()
            return future

        monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", interrupted)

        def script() -> None:
            with pytest.raises(KeyboardInterrupt):
                mesh.call(ECHO, text())

        await in_thread(script)
        monkeypatch.undo()
        await until(lambda: hold.cancelled == 1)
        await in_thread(mesh.close)


async def test_a_plain_def_agent_may_use_it_and_hands_its_context_on(echo: Any, text: Text) -> None:
    leaf = echo()
    async with AgentServer(leaf) as server:
        mesh: BlockingClient = await in_thread(lambda: BlockingClient(endpoints=[server.address]))

        class Front(Agent[TextInput, TextOutput]):
            name = "front"

            def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
                return mesh.call(ECHO, input)

        async with AgentServer(Front()) as front:

            def script() -> None:
                with blocking(front.address) as outer:
                    assert outer.call("front", text("hi"), timeout=7).result == "hi"

            await in_thread(script)
        (seen,) = leaf.seen
        assert seen.via == ("front",)
        assert 5 < seen.deadline - SYSTEM_CLOCK.now() < 7
        await in_thread(mesh.close)
