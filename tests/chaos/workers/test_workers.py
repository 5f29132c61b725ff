"""`serve --workers N` with real processes: killed, drained, orphaned, and unable to start."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atomesh.balancer import Client
from atomesh.core import AtomeshError, Contract
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

HERE = Path(__file__).parent
PATIENCE = 30.0
STEADY = Contract("steady", TextInput, TextOutput)

pytestmark = pytest.mark.timeout(120)


async def running(client: Client, calls: int) -> list[asyncio.Task[TextOutput]]:
    """So many calls in flight, each of one and a half seconds."""
    tasks = [
        asyncio.create_task(client.call(STEADY, TextInput(content="sleep 1.5", operation="summarize")))
        for _ in range(calls)
    ]
    await SYSTEM_CLOCK.sleep(0.5)
    assert not any(task.done() for task in tasks)
    return tasks


async def test_a_killed_worker_is_back_in_seconds_and_no_idempotent_call_fails(
    workers: Callable[[], Any], ports: Callable[[int], int]
) -> None:
    async with workers() as mesh, Client(mesh.registry) as client:
        port = ports(3)
        command = await mesh.serve("Steady", 3, "--bind", f"127.0.0.1:{port}")
        before = await command.ready(3)
        assert [event["address"] for event in before] == [f"127.0.0.1:{port + number}" for number in range(3)]
        over, failed, done = asyncio.Event(), [], 0

        async def calls() -> None:
            nonlocal done
            while not over.is_set():
                try:
                    await client.call(STEADY, TextInput(content="hello", operation="summarize"))
                    done += 1
                except AtomeshError as error:
                    failed.append(error)

        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(calls())
            await SYSTEM_CLOCK.sleep(0.5)
            killed = before[1]
            begun = SYSTEM_CLOCK.now()
            os.kill(killed["pid"], signal.SIGKILL)
            told = await command.event()
            back = await command.event()
            took = SYSTEM_CLOCK.now() - begun
            await SYSTEM_CLOCK.sleep(0.5)
            over.set()
        assert (told["event"], told["worker"], told["reason"]) == ("restarting", "steady/2", "ended by SIGKILL")
        assert (back["event"], back["worker"], back["starts"]) == ("ready", "steady/2", 2)
        assert took < 10, "half a second and a start of Python is seconds"
        assert back["instance_id"] != killed["instance_id"]
        assert await mesh.instances() == {
            event["address"]: event["instance_id"] for event in (before[0], back, before[2])
        }, "the dead one's lease is superseded, the others are as they were"
        assert failed == [], f"{len(failed)} of {len(failed) + done} calls failed"
        assert done > 100
        command.process.send_signal(signal.SIGTERM)
        assert await command.ended() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_finishes_all_calls_in_flight_and_leaves_no_process(
    workers: Callable[[], Any], number: signal.Signals
) -> None:
    async with workers() as mesh, Client(mesh.registry) as client:
        command = await mesh.serve("Steady", 3)
        pids = [event["pid"] for event in await command.ready(3)]
        calls = await running(client, 24)
        command.process.send_signal(number)
        answers = await asyncio.gather(*calls)
        assert [answer.result for answer in answers] == ["sleep 1.5"] * 24, "what runs must be finished"
        assert await command.ended() == 0
        assert mesh.alive(pids) == [], "it ends after its workers"
        assert await mesh.instances() == {}, "their leases are given back"


async def test_a_second_signal_forces_all_and_says_so_with_1(workers: Callable[[], Any]) -> None:
    async with workers() as mesh, Client(mesh.registry) as client:
        command = await mesh.serve("Steady", 2)
        pids = [event["pid"] for event in await command.ready(2)]
        call = asyncio.create_task(client.call(STEADY, TextInput(content="sleep 60", operation="summarize")))
        await SYSTEM_CLOCK.sleep(0.5)
        os.kill(pids[0], signal.SIGSTOP)  # it hears neither
        command.process.send_signal(signal.SIGTERM)
        await SYSTEM_CLOCK.sleep(0.5)
        assert command.process.returncode is None, "the first signal waits for what runs"
        command.process.send_signal(signal.SIGTERM)
        assert await command.ended() == 1
        assert mesh.alive(pids) == []
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)


@pytest.mark.parametrize("seconds", [0.5, 0.8, 1.2])
async def test_a_signal_while_workers_start_ends_all_of_them(workers: Callable[[], Any], seconds: float) -> None:
    async with workers() as mesh:
        command = await mesh.serve("Steady", 2, "--log-level", "error")
        await SYSTEM_CLOCK.sleep(seconds)
        command.process.send_signal(signal.SIGTERM)
        code = await command.ended()
        # Before Python has got as far as to take the signal over, it ends by it, and there is no worker yet.
        assert code in (0, -signal.SIGTERM), command.log()


async def test_workers_end_with_a_supervisor_that_was_killed(workers: Callable[[], Any]) -> None:
    async with workers() as mesh:
        command = await mesh.serve("Steady", 3)
        pids = [event["pid"] for event in await command.ready(3)]
        command.process.send_signal(signal.SIGKILL)
        await command.process.wait()
        await mesh.gone(pids)
        assert await mesh.instances() == {}, "they drain: nothing is left in the registry for a ttl"


async def test_a_drained_worker_stays_ended_and_with_the_last_the_command_ends(workers: Callable[[], Any]) -> None:
    async with workers() as mesh:
        command = await mesh.serve("Steady", 2)
        first, second = await command.ready(2)
        await mesh.drain(first["address"])
        told = await command.event()
        assert (told["event"], told["worker"], told["exit_code"]) == ("ended", "steady/1", 0)
        await SYSTEM_CLOCK.sleep(1.5)
        assert list(await mesh.instances()) == [second["address"]], "ended on purpose is not started again"
        await mesh.drain(second["address"])
        assert (await command.event())["event"] == "ended"
        assert await command.ended() == 0


@pytest.mark.parametrize("workers_count", [1, 3])
async def test_an_agent_that_fails_in_its_start_is_told_in_one_line(
    workers: Callable[[], Any], workers_count: int
) -> None:
    async with workers() as mesh:
        (mesh.state / "mood").touch()
        command = await mesh.serve("Moody", workers_count, "--log-level", "warning")
        code, line = await command.one_line()
        assert code == 1
        assert "the database is away" in line, "the command ends as without workers"


async def test_a_port_in_use_ends_the_command_and_the_workers_that_could_start(
    workers: Callable[[], Any], ports: Callable[[int], int]
) -> None:
    async with workers() as mesh:
        port = ports(2)
        other = await mesh.serve("Steady", 1, "--bind", f"127.0.0.1:{port + 1}")
        taken = await other.event()
        assert "worker" not in taken, "one worker is as without"
        command = await mesh.serve("Steady", 2, "--bind", f"127.0.0.1:{port}", "--log-level", "error")
        events = [await command.event() for _ in range(2)]
        pids = [event["pid"] for event in events if event["event"] == "ready"]
        assert await command.ended() == 1
        last = command.log().splitlines()[-1]
        assert "worker 2 of 2 did not start 5 times in a row" in last
        assert f"cannot listen on {taken['address']}" in last
        assert len(pids) == 1
        assert mesh.alive(pids) == []


async def test_a_worker_that_cannot_come_back_is_tried_while_a_sibling_serves(workers: Callable[[], Any]) -> None:
    async with workers() as mesh:
        command = await mesh.serve("Moody", 2)
        first, second = await command.ready(2)
        (mesh.state / "mood").touch()
        os.kill(first["pid"], signal.SIGKILL)
        crashes = [await command.event() for _ in range(3)]
        assert {event["event"] for event in crashes} == {"restarting"}
        assert crashes[0]["seconds"] < crashes[2]["seconds"], "it backs off"
        assert second["address"] in await mesh.instances(), "the sibling goes on"
        (mesh.state / "mood").unlink()
        while (event := await command.event())["event"] != "ready":
            assert event["event"] == "restarting"
        assert event["worker"] == "moody/1"
        command.process.send_signal(signal.SIGTERM)
        assert await command.ended() == 0


async def test_what_a_worker_leaves_behind_does_not_keep_it_from_being_restarted(workers: Callable[[], Any]) -> None:
    async with workers() as mesh:
        left = mesh.state / "left"
        try:
            command = await mesh.serve("Parent", 2, env={"LEFT_BEHIND": str(left)})
            first, _ = await command.ready(2)
            os.kill(first["pid"], signal.SIGKILL)
            told = [await command.event()]
            assert told[0]["event"] == "restarting", "its child still holds its output open"
            while told[-1]["event"] != "ready":
                told.append(await command.event())
            # Any free port is one that an outgoing connection may take meanwhile; then it gets another.
            assert told[-1]["address"] == first["address"] or len(told) > 2, "it comes back where it was"
            command.process.send_signal(signal.SIGTERM)
            assert await command.ended() == 0
        finally:
            pids = [int(line) for line in left.read_text().split()]
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await mesh.gone(pids)


async def test_whatever_a_worker_prints_comes_out_under_its_name_and_blocks_nobody(
    workers: Callable[[], Any],
) -> None:
    async with workers() as mesh, Client(mesh.registry) as client:
        command = await mesh.serve("Steady", 2, env={"PYTHONUNBUFFERED": "1"})
        await command.ready(2)
        for size in (5, 300_000, 300_000, 6):
            await client.call(STEADY, TextInput(content=f"print {size}", operation="summarize"), timeout=10)
        command.process.send_signal(signal.SIGTERM)
        assert await command.ended() == 0
        lines = command.log().splitlines()
        assert {line for line in lines if line.endswith((": 5", ": xxxxx"))} <= {
            f"steady/{number}: {said}" for number in (1, 2) for said in ("5", "xxxxx")
        }
        assert sum(line.count("x") for line in lines if line.startswith("steady/") and "xx" in line) >= 600_000
        logged = [json.loads(line) for line in lines if line.startswith("{")]
        assert {record.get("worker") for record in logged if record["logger"] == "atomesh.agents"} == {
            "steady/1",
            "steady/2",
        }


async def test_a_reader_that_goes_away_does_not_end_what_is_served(workers: Callable[[], Any]) -> None:
    async with workers() as mesh:
        serve = f"{sys.executable} -m atomesh serve worker_agents:Steady --workers 2 --registry {mesh.registry} --json"
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", f"{serve} > >(head -n 1) & trap 'kill $!' TERM; wait $!; wait $!; echo ended $? >&2"),
            cwd=HERE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            first = json.loads(await process.stdout.readline())
            while len(await mesh.instances()) < 2:
                await SYSTEM_CLOCK.sleep(0.05)
        await SYSTEM_CLOCK.sleep(1)
        os.kill(first["pid"], signal.SIGKILL)
        async with asyncio.timeout(PATIENCE):
            while first["instance_id"] in (served := await mesh.instances()).values() or len(served) < 2:
                await SYSTEM_CLOCK.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, err = await process.communicate()
        assert err.decode().splitlines()[-1] == "ended 0"


async def test_plain_output_says_in_one_line_what_is_up_where(workers: Callable[[], Any]) -> None:
    async with workers() as mesh:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "atomesh", "serve", "worker_agents:Steady", "--log-format", "text"),
            *("--workers", "2", "--registry", mesh.registry, "--slots", "3"),
            cwd=HERE,
            env=dict(os.environ),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            assert process.stdout is not None
            async with asyncio.timeout(PATIENCE):
                line = (await process.stdout.readline()).decode()
            assert line.startswith("steady: 2 workers on 127.0.0.1:")
            assert all(address.rpartition(":")[2] in line for address in await mesh.instances()), "with each address"
            assert f"registered with {mesh.registry}" in line
            process.send_signal(signal.SIGTERM)
            out, err = await process.communicate()
            assert (process.returncode, out) == (0, b""), "no more than one line"
            assert all(line.startswith(("steady/", "Steady/")) for line in err.decode().splitlines())
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()
