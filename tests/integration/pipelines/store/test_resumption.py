"""A runner that is killed with SIGKILL in the middle of a durable run, and another that goes on with it."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import sys
from collections import Counter
from pathlib import Path

import pytest

from atomesh.agents import Agent, AgentServer, ExecutionContext
from atomesh.balancer import Client
from atomesh.pipelines import Runner, plan_pipeline
from atomesh.pipelines.durable import open_checkpoints
from atomesh.pipelines.errors import Interrupted
from atomesh.pipelines.machine import this_process
from atomesh.pipelines.model import PipelineSpec
from atomesh.pipelines.store import open_store
from atomesh.registry import MemoryStorage, RegistryServer
from atomesh.text.v1.text_pb2 import TextInput, TextOutput
from atomesh.v1 import pipeline_pb2

PIPELINE = """
name: three
durable: true
input_type: atomesh.text.v1.TextInput
stages:
  - {id: first, agent: steady, input: {content: $input.content, operation: summarize}}
  - {id: second, agent: gate, input: {content: $first.result, operation: summarize}}
  - {id: third, agent: steady, input: {content: $second.result, operation: summarize}}
"""

RUNS = """
import asyncio, sys
from atomesh.balancer import Client
from atomesh.pipelines import Runner, plan_pipeline
from atomesh.pipelines.durable import open_checkpoints
from atomesh.pipelines.machine import this_process
from atomesh.pipelines.store import open_store
from atomesh.text.v1.text_pb2 import TextInput

async def main(registry, where, text):
    store, checkpoints = open_store(where), open_checkpoints(where)
    await store.open()
    await checkpoints.open()
    async with Client(registry) as mesh:
        runner = Runner(mesh, store=store, checkpoints=checkpoints, owner=str(this_process()))
        plan = await plan_pipeline(mesh, text)
        await runner.run(plan, TextInput(content="a", operation="summarize"), run_id="run-1")

asyncio.run(main(*sys.argv[1:]))
"""


class Steady(Agent[TextInput, TextOutput]):
    name = "steady"

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()

    async def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
        self.seen[input.content] += 1
        return TextOutput(result=input.content + "+")


class Gate(Agent[TextInput, TextOutput]):
    """Not idempotent, and closed at first."""

    name = "gate"
    slots = 4

    def __init__(self) -> None:
        self.began, self.open = asyncio.Event(), asyncio.Event()
        self.done = 0

    async def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
        self.began.set()
        await self.open.wait()
        self.done += 1
        return TextOutput(result=input.content)


def checkpointed(path: Path) -> list[str]:
    database = sqlite3.connect(path)
    try:
        return [row[0] for row in database.execute("SELECT workflow_uuid FROM workflow_status ORDER BY 1")]
    finally:
        database.close()


async def test_after_kill_9_a_run_goes_on_behind_its_last_finished_stage(tmp_path: Path) -> None:
    where, steady, gate = tmp_path / "runs.db", Steady(), Gate()
    async with (
        RegistryServer(storage=MemoryStorage()) as registry,
        AgentServer([steady, gate], registry=registry.address) as server,
    ):
        await asyncio.wait_for(server.registered.wait(), 30)
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", RUNS, registry.address, str(where), PIPELINE)
        await asyncio.wait_for(gate.began.wait(), 30)
        child.send_signal(signal.SIGKILL)
        await child.wait()
        assert len(checkpointed(tmp_path / "runs.checkpoints.db")) == 2, "one is finished, one was under way"
        gate.open.set()

        store, checkpoints = open_store(where), open_checkpoints(where)
        await store.open()
        await checkpoints.open()
        me = str(this_process())
        async with Client(registry.address) as mesh, Runner(mesh, store=store, checkpoints=checkpoints) as runner:
            runner.owner = me
            taken = await store.claim("run-1", me)
            plan = await plan_pipeline(mesh, PipelineSpec.model_validate(json.loads(taken.spec)))
            with pytest.raises(Interrupted, match="stage second of run run-1"):
                await runner.resume(plan, taken)
            taken = await store.claim("run-1", me)  # it was given up, to whoever has a word to say
            outcome = await runner.resume(plan, taken, repeat_interrupted=True)
        assert outcome.output == TextOutput(result="a++")
        assert (await store.get_run("run-1")).status == pipeline_pb2.RUN_STATUS_SUCCESS
        await checkpoints.close()
        await store.close()
    assert steady.seen == {"a": 1, "a+": 1}, "a stage that was finished must not run again"
    assert checkpointed(tmp_path / "runs.checkpoints.db") == [], "of a run that has ended no checkpoint is left"
