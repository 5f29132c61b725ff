"""Durable runs whose process was killed: taken up by the next host, or left to whoever can."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import grpc.aio
import pytest

from atomesh.agents import Agent, AgentServer, ExecutionContext
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.core.errors import AtomeshError
from atomesh.pipelines.store import open_store
from atomesh.rpc.channel import from_rpc_error, open_channel
from atomesh.text.v1.text_pb2 import TextInput, TextOutput
from atomesh.v1 import pipeline_pb2, pipeline_pb2_grpc

if TYPE_CHECKING:
    from tests.integration.pipelines.service.conftest import House

PATIENCE = 30.0
STEPS = """
name: steps
durable: true
stages:
  before: {{agent: upper}}
  gate: {{agent: gate, idempotent: {repeatable}, input: {{content: $before.result, operation: summarize}}}}
  after: {{agent: upper, input: {{content: $gate.result, operation: summarize}}}}
"""


class Opens(Protocol):
    def __call__(self, *pipelines: str, **options: Any) -> AbstractAsyncContextManager[House]: ...


class Other(Agent[TextInput, TextOutput]):
    name = "other"

    async def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
        return TextOutput()


@contextlib.asynccontextmanager
async def killed_amid(at: House, folder: Path, pipeline: str) -> AsyncIterator[str]:
    """A process that serves the pipeline is killed while its run `r` waits in the gate; where its store is."""
    (folder / "steps.yaml").write_text(pipeline)
    where = str(folder / "killed.db")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ATOMESH_", "XDG_"))}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "atomesh", "pipeline", "serve", str(folder / "steps.yaml"), "--json"),
        *("--store", where, "--registry", at.registry),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**kept, "HOME": str(folder)},
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            ready = await process.stdout.readline()
        assert ready, (await process.communicate())[1].decode()
        async with open_channel(json.loads(ready)["address"]) as channel:
            stub: Any = pipeline_pb2_grpc.PipelineServiceStub(channel)
            call = stub.Run(pipeline_pb2.RunRequest(pipeline="steps", input=at.text(), run_id="r"), timeout=PATIENCE)
            async with asyncio.timeout(PATIENCE):
                await at.gate.began.wait()
            process.send_signal(signal.SIGKILL)
            await process.communicate()
            with contextlib.suppress(grpc.aio.AioRpcError):
                _ = [event async for event in call]
        async with asyncio.timeout(PATIENCE):
            await at.gate.cut_off.wait()
        yield where
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def resumed(at: House, **fields: Any) -> pipeline_pb2.Run:
    """How a run ended that was resumed through the service; raises what the stream ends with."""
    last = pipeline_pb2.RunEvent()
    try:
        async for response in at.stub.ResumeRun(
            pipeline_pb2.ResumeRunRequest(**{"run_id": "r", **fields}), timeout=PATIENCE
        ):
            last = response.event
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from None
    assert last.WhichOneof("event") == "run_ended"
    return last.run_ended


def output_of(run: pipeline_pb2.Run) -> str:
    found = TextOutput()
    run.output.Unpack(found)
    return found.result


async def test_a_host_goes_on_with_what_was_interrupted_and_repeats_nothing_finished(
    house: Opens, tmp_path: Path
) -> None:
    pipeline = STEPS.format(repeatable="true")
    async with house("loud") as at, killed_amid(at, tmp_path, pipeline) as where:
        calls, again = at.upper.calls, SYSTEM_CLOCK.wall()
        at.gate.open.set()
        async with at.another(pipeline, store=where) as other:
            assert other.host.resumed == 1
            run = await other.ended("r")
            assert run.status == pipeline_pb2.RUN_STATUS_SUCCESS, run.error
            assert output_of(run) == "HELLO"
            assert at.upper.calls == calls + 1, "the last stage runs, the first one was finished"
            assert len(at.gate.request_ids) == 2
            assert other.host.server.address in run.owner
            assert run.started_at.ToNanoseconds() < again * 1e9, "a run began when it first began"
            assert run.duration.ToNanoseconds() >= (run.ended_at.ToNanoseconds() - run.started_at.ToNanoseconds()) - 1e6
        async with at.another(pipeline, store=where) as third:
            assert third.host.resumed == 0, "what has ended is not resumed"


async def test_what_must_not_run_twice_waits_for_a_word_and_then_goes_on(house: Opens, tmp_path: Path) -> None:
    pipeline = STEPS.format(repeatable="false")
    async with house("loud") as at, killed_amid(at, tmp_path, pipeline) as where:
        at.gate.open.set()
        async with at.another(pipeline, store=where) as other:
            run = await other.ended("r")
            assert run.status == pipeline_pb2.RUN_STATUS_RUNNING, "it waits"
            assert len(at.gate.request_ids) == 1, "nobody said that it may run twice"
            with pytest.raises(AtomeshError, match="--repeat-interrupted"):
                await resumed(other)
            store = open_store(where)
            await store.open()
            taken = await store.claim("r", "somebody else")
            assert taken.run_id == "r", "whoever gives the word may be another process"
            await store.release("r", "somebody else")
            await store.close()
            run = await resumed(other, repeat_interrupted=True)
            assert run.status == pipeline_pb2.RUN_STATUS_SUCCESS
            assert len(at.gate.request_ids) == 2


async def test_a_run_whose_agents_are_away_is_left_for_later(house: Opens, tmp_path: Path) -> None:
    pipeline = STEPS.format(repeatable="true")
    other_line = "name: other-line\nstages: {only: {agent: other}}"
    async with house("loud") as at, killed_amid(at, tmp_path, pipeline) as where:
        at.gate.open.set()
        await at.host.stop()
        await at.agents.stop()
        async with AgentServer(Other(), registry=at.registry) as there, asyncio.timeout(PATIENCE):
            await there.registered.wait()
            async with at.another(other_line, store=where) as other:
                assert other.host.resumed == 0
                with pytest.raises(AtomeshError, match="no agent 'upper'"):
                    await resumed(other)
                async with AgentServer([at.upper, at.gate], registry=at.registry) as back:
                    await back.registered.wait()
                    run = await resumed(other)
        assert run.status == pipeline_pb2.RUN_STATUS_SUCCESS, "it was not lost to who could not run it"


async def test_a_process_without_checkpoints_leaves_the_run_to_others(house: Opens, tmp_path: Path) -> None:
    pipeline = STEPS.format(repeatable="true")
    async with house("loud") as at, killed_amid(at, tmp_path, pipeline) as where:
        at.gate.open.set()
        async with at.another("loud", store=where, name="louder", durable=False) as other:
            with pytest.raises(AtomeshError, match="keeps no checkpoints"):
                await resumed(other)
            async with at.another(pipeline, store=where) as third:
                assert third.host.resumed == 1
                assert (await third.ended("r")).status == pipeline_pb2.RUN_STATUS_SUCCESS


async def test_a_host_that_stops_hands_its_durable_runs_over(house: Opens, tmp_path: Path) -> None:
    where = str(tmp_path / "runs.db")
    async with house("durable", store=where) as at:
        call = asyncio.create_task(at.told("durable", run_id="r"))
        await at.gate.began.wait()
        await at.host.stop()
        await call
    async with house("durable", store=where) as at:
        at.gate.open.set()
        assert at.host.resumed == 1, "it need not wait for the death of a process that gave it up"
        run = await at.ended("r")
        assert run.status == pipeline_pb2.RUN_STATUS_RUNNING, "the gate was cut off and must not run twice"


async def test_of_many_who_resume_a_run_one_does(house: Opens, tmp_path: Path) -> None:
    pipeline = STEPS.format(repeatable="true")
    async with (
        house("loud") as at,
        killed_amid(at, tmp_path, pipeline) as where,
        at.another("loud", store=where, name="louder") as other,
    ):
        assert other.host.resumed == 1
        async with asyncio.timeout(PATIENCE):
            while len(at.gate.request_ids) < 2:
                await SYSTEM_CLOCK.sleep(0.01)
        tries = [asyncio.create_task(resumed(other)) for _ in range(5)]
        ended = await asyncio.gather(*tries, return_exceptions=True)
        assert [getattr(error, "reason", error) for error in ended] == ["NOT_RESUMABLE"] * 5
        assert len(at.gate.request_ids) == 2, "one process after the killed one came to the gate"


async def test_what_cannot_be_resumed_says_why(house: Opens, tmp_path: Path) -> None:
    async with house("loud", "durable", store=str(tmp_path / "runs.db")) as at:
        at.gate.open.set()
        await at.run("loud", run_id="r")
        with pytest.raises(AtomeshError, match="run r has ended \\(SUCCESS\\)"):
            await resumed(at)
        at.gate.open.clear()
        at.gate.began.clear()
        call = asyncio.create_task(at.run("durable", run_id="d"))
        await at.gate.began.wait()
        for run_id, said in (("nobody", "nobody"), ("d", "under way here")):
            with pytest.raises(AtomeshError, match=said):
                await resumed(at, run_id=run_id)
        at.gate.open.set()
        await call
