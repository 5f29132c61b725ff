"""What every store promises, asked of each kind of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from google.protobuf import any_pb2

from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.pipelines.errors import NotResumable, RunExists, UnknownDefinition, UnknownPipeline, UnknownRun
from atomesh.pipelines.machine import this_process
from atomesh.pipelines.owner import Host, Owner
from atomesh.pipelines.record import AttemptRecord, LogRecord, RunRecord, RunStatus, StageRecord, StageStatus
from atomesh.pipelines.store import Resumption, Retention, RunStore, StoreSettings
from atomesh.text.v1 import text_pb2
from atomesh.v1 import context_pb2, pipeline_pb2

Opened = Callable[..., AbstractAsyncContextManager[RunStore]]

NOW = SYSTEM_CLOCK.wall()
HERE = Host("here", "b00t", "1", lambda pid: "100" if pid == 4711 else "")
ALIVE = str(Owner("here", 4711, "b00t.1.100"))
DEAD = str(Owner("here", 4712, "b00t.1.100"))


def run(id: str = "run-1", age: float = 0.0, **fields: Any) -> RunRecord:
    """One that has begun, `age` seconds ago."""
    given: dict[str, Any] = {"pipeline": "report", "version": "1.0.0", "owner": ALIVE, "stages": []} | fields
    return RunRecord(id=id, started_at=NOW - age, **given)


def over(run: RunRecord, status: RunStatus = RunStatus.SUCCESS) -> RunRecord:
    """The same, ended half a second after its begin."""
    run.status, run.ended_at, run.seconds = status, run.started_at + 0.5, 0.5
    return run


def stage(id: str = "summary", **fields: Any) -> StageRecord:
    """One that went well."""
    given: dict[str, Any] = {"status": StageStatus.SUCCESS, "started_at": NOW, "seconds": 0.2} | fields
    return StageRecord(stage=id, agent="text-processor", **given)


def resumption(run: RunRecord) -> Resumption:
    """What it needs to go on."""
    packed = any_pb2.Any()
    packed.Pack(text_pb2.TextInput(content="words"))
    context = context_pb2.Context(request_id="r1")
    return Resumption(run.id, '{"name": "report"}', packed, context, run.owner, run.started_at)


async def kept(store: RunStore, *runs: RunRecord) -> None:
    """Hands them over and waits until they are written."""
    for one in runs:
        store.begin(one)
        if one.status.ended:
            store.end(one)
    await store.flush()


async def ids(store: RunStore, **asked: Any) -> list[str]:
    """Of the runs in a list."""
    return [found.id for found in await store.list_runs(**asked)]


async def test_runs_are_found_by_the_beginning_of_their_ids(opened: Opened) -> None:
    async with opened() as store:
        await kept(store, *(run(name) for name in ("ab1", "ab2", "AB3", "a_4", "b5")))
        assert await store.find_runs("ab") == ["ab1", "ab2"], "case matters"
        assert await store.find_runs("a_") == ["a_4"], "no character stands for others"
        assert await store.find_runs("ab1") == ["ab1"]
        assert await store.find_runs("%") == await store.find_runs("ab11") == []
        assert len(await store.find_runs("", 2)) == 2


async def test_a_run_is_read_as_it_ended(opened: Opened) -> None:
    output = text_pb2.TextInput(content="the output")
    record = run(
        stages=[
            stage(
                attempts=[AttemptRecord(1, "text-processor", NOW, "127.0.0.1:7500", 0.2, 0.01, "OK")],
                outputs=(output,),
                output_bytes=output.ByteSize(),
                endpoint="127.0.0.1:7500",
            )
        ],
        output=output,
        output_bytes=output.ByteSize(),
        user_id="ann",
        log=[LogRecord(NOW, "summary", 1, "CONNECTION_LOST", "cut off")],
    )
    async with opened() as store:
        await kept(store, over(record))
        assert await store.get_run("run-1") == record.to_proto(64 * 1024), "nothing may be lost on the way"


async def test_a_run_under_way_is_seen_as_running(opened: Opened) -> None:
    async with opened() as store:
        await kept(store, run())
        found = await store.get_run("run-1")
        assert (found.status, found.owner) == (pipeline_pb2.RUN_STATUS_RUNNING, ALIVE)
        assert not found.HasField("ended_at")
        assert await ids(store, statuses=[RunStatus.RUNNING]) == ["run-1"]


async def test_a_reader_sees_what_was_handed_over_before(opened: Opened) -> None:
    async with opened() as store:
        store.begin(record := run())
        store.end(over(record))
        assert (await store.get_run("run-1")).status == pipeline_pb2.RUN_STATUS_SUCCESS


async def test_a_run_that_is_not_there_is_unknown(opened: Opened) -> None:
    async with opened() as store:
        with pytest.raises(UnknownRun, match="no run nope; `atomesh runs ls`"):
            await store.get_run("nope")
        with pytest.raises(UnknownRun):
            await store.list_runs(before="nope")
        with pytest.raises(UnknownRun):
            await store.claim("nope", ALIVE)


async def test_lists_are_newest_first_without_stages_and_go_on_page_by_page(opened: Opened) -> None:
    async with opened() as store:
        await kept(store, *[over(run(f"r{n}", age=10 - n, stages=[stage()])) for n in range(10)])
        first = await store.list_runs(limit=4)
        assert [found.id for found in first] == ["r9", "r8", "r7", "r6"]
        assert not first[0].stages, "lists are without stages"
        assert first[0].summary.stages == 1, "but with the figures"
        assert await ids(store, limit=4, before="r6") == ["r5", "r4", "r3", "r2"]
        assert await ids(store, limit=4, before="r2") == ["r1", "r0"]


async def test_runs_that_began_at_once_are_all_listed_over_pages(opened: Opened) -> None:
    async with opened() as store:
        await kept(store, *[over(run(f"r{n}")) for n in range(5)])
        page = await ids(store, limit=2)
        seen = list(page)
        while page:
            page = await ids(store, limit=2, before=page[-1])
            seen += page
        assert seen == ["r4", "r3", "r2", "r1", "r0"], "no run may fall between two pages, or be on both"


async def test_lists_are_narrowed_by_pipeline_and_status(opened: Opened) -> None:
    async with opened() as store:
        await kept(
            store,
            over(run("a", 3, pipeline="one")),
            over(run("b", 2, pipeline="two")),
            over(run("c", 1, pipeline="one"), RunStatus.FAILED),
        )
        assert await ids(store, pipeline="one") == ["c", "a"]
        assert await ids(store, pipeline="one", statuses=[RunStatus.SUCCESS, RunStatus.PARTIAL]) == ["a"]
        assert await ids(store, pipeline="none") == []


async def test_outputs_above_the_cap_are_left_out_with_their_size(opened: Opened) -> None:
    large, small = text_pb2.TextInput(content="x" * 100), text_pb2.TextInput(content="y")
    stages = [stage("a", outputs=(large,), output_bytes=102), stage("b", outputs=(small,), output_bytes=3)]
    async with opened(StoreSettings(max_output=50)) as store:
        await kept(store, over(run(stages=stages, output=large, output_bytes=102)))
        found = await store.get_run("run-1")
        assert not found.HasField("output")
        assert found.output_bytes == 102
        assert [len(one.output) for one in found.stages] == [0, 1]


async def test_no_output_is_kept_where_that_is_switched_off(opened: Opened) -> None:
    empty = text_pb2.TextInput()
    async with opened(StoreSettings(max_output=0)) as store:
        await kept(store, over(run(stages=[stage(outputs=(empty,))], output=empty)))
        found = await store.get_run("run-1")
        assert not found.HasField("output"), "an empty output is an output too"
        assert not found.stages[0].output


async def test_an_ended_run_stays_as_it_ended(opened: Opened) -> None:
    async with opened() as store:
        await kept(store, over(run(), RunStatus.FAILED))
        await kept(store, over(run()))
        assert (await store.get_run("run-1")).status == pipeline_pb2.RUN_STATUS_FAILED


async def test_the_newest_runs_are_kept_and_those_under_way(opened: Opened) -> None:
    async with opened(StoreSettings(Retention(runs=3))) as store:
        await kept(store, run("under-way", 100))
        await kept(store, *[over(run(f"r{n}", age=10 - n)) for n in range(6)])
    async with opened(StoreSettings(Retention(runs=3))) as store:
        left = await ids(store)
    if left:  # memory keeps nothing beyond its own life
        assert left == ["r5", "r4", "r3", "under-way"]


async def test_old_runs_go(opened: Opened) -> None:
    day = 86_400.0
    async with opened(StoreSettings(Retention(days=2))) as store:
        await kept(store, over(run("old", 3 * day)), over(run("new", day)))
    async with opened(StoreSettings(Retention(days=2))) as store:
        await store.flush()
        assert "old" not in await ids(store)


async def test_a_durable_run_is_resumed_with_what_it_began_with(opened: Opened) -> None:
    async with opened(host=HERE) as store:
        record = run(owner=DEAD, durable=True)
        given = resumption(record)
        await store.begin_durable(record, given)
        assert (await store.get_run("run-1")).durable
        assert await store.claim("run-1", ALIVE) == given
        assert (await store.get_run("run-1")).owner == ALIVE, "the new owner is shown"


async def test_a_second_run_of_one_id_is_refused(opened: Opened) -> None:
    async with opened() as store:
        await kept(store, over(run()))
        with pytest.raises(RunExists, match="a run run-1 already"):
            await store.begin_durable(run(durable=True), resumption(run()))
        await store.begin_durable(run("run-2", durable=True), resumption(run("run-2")))
        with pytest.raises(RunExists):
            await store.begin_durable(run("run-2", durable=True), resumption(run("run-2")))


async def test_only_one_takes_a_run_over(opened: Opened) -> None:
    async with opened(host=HERE) as store:
        await store.begin_durable(run(owner=DEAD, durable=True), resumption(run(owner=DEAD)))
        await store.claim("run-1", ALIVE)
        with pytest.raises(NotResumable, match="still run by pid 4711 on here"):
            await store.claim("run-1", ALIVE)


async def test_a_run_is_not_taken_over_from_who_lives(opened: Opened) -> None:
    async with opened() as store:
        me = str(this_process("127.0.0.1:7500"))
        await store.begin_durable(run(owner=me, durable=True), resumption(run(owner=me)))
        with pytest.raises(NotResumable, match=r"still run by 127\.0\.0\.1:7500 \(pid"):
            await store.claim("run-1", "somebody")


async def test_a_run_that_its_owner_gave_up_is_anybodys_at_once(opened: Opened) -> None:
    async with opened() as store:
        me = str(this_process("127.0.0.1:7500"))
        await store.begin_durable(run(owner=me, durable=True), resumption(run(owner=me)))
        await store.release("run-1", "somebody else")
        with pytest.raises(NotResumable, match="still run by"):
            await store.claim("run-1", "somebody")
        await store.release("run-1", me)
        assert (await store.get_run("run-1")).status == pipeline_pb2.RUN_STATUS_RUNNING
        await store.claim("run-1", me)
        await store.release("nobody", me)


async def test_what_has_ended_or_keeps_no_checkpoints_is_not_resumed(opened: Opened) -> None:
    async with opened(host=HERE) as store:
        await store.begin_durable(record := run(owner=DEAD, durable=True), resumption(run(owner=DEAD)))
        store.end(over(record, RunStatus.CANCELLED))
        with pytest.raises(NotResumable, match="has ended"):
            await store.claim("run-1", ALIVE)
        await kept(store, run("run-2", owner=DEAD))
        with pytest.raises(NotResumable, match="keeps no checkpoints"):
            await store.claim("run-2", ALIVE)


async def test_the_end_by_who_lost_the_run_counts_for_nothing(opened: Opened) -> None:
    async with opened(host=HERE) as store:
        record = run(owner=DEAD, durable=True)
        await store.begin_durable(record, resumption(record))
        await store.claim("run-1", ALIVE)
        store.end(over(record, RunStatus.FAILED))
        assert (await store.get_run("run-1")).status == pipeline_pb2.RUN_STATUS_RUNNING
        store.end(over(run(owner=ALIVE, durable=True)))
        assert (await store.get_run("run-1")).status == pipeline_pb2.RUN_STATUS_SUCCESS


async def test_pipelines_are_stored_listed_and_deleted(opened: Opened) -> None:
    async with opened() as store:
        for name in ("b", "a", "B"):
            await store.put_pipeline(pipeline_pb2.StoredPipeline(name=name, text="stages: []"))
        await store.put_pipeline(pipeline_pb2.StoredPipeline(name="a", text="newer"))
        assert [found.name for found in await store.list_pipelines()] == ["B", "a", "b"]
        assert (await store.get_pipeline("a")).text == "newer", "the last one holds"
        await store.delete_pipeline("a")
        with pytest.raises(UnknownPipeline, match="no pipeline a is stored"):
            await store.get_pipeline("a")
        with pytest.raises(UnknownPipeline):
            await store.delete_pipeline("a")


async def test_definitions_are_stored_listed_and_deleted(opened: Opened) -> None:
    definition = pipeline_pb2.Definition(name="mine", module="m", class_name="C", cpus=0.5, memory_bytes=1 << 29)
    definition.configuration.update({"temperature": 0.5})
    async with opened() as store:
        await store.put_definition(definition)
        assert await store.get_definition("mine") == definition
        assert await store.list_definitions() == [definition]
        await store.delete_definition("mine")
        with pytest.raises(UnknownDefinition, match="no agent mine is defined"):
            await store.delete_definition("mine")
        with pytest.raises(UnknownDefinition):
            await store.get_definition("mine")
