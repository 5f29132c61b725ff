"""`up`, `registry`, `serve`: real processes, ready, used, and ended in every way."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from atomesh.core.clock import SYSTEM_CLOCK

UP = ("up", "--memory", "--registry-bind", "127.0.0.1:0", "--http-bind", "127.0.0.1:0", "--endpoints", "2", "--json")
REGISTRY = ("registry", "--bind", "127.0.0.1:0", "--http-bind", "127.0.0.1:0", "--json")
INPUT = '{"content": "I love it.", "operation": "sentiment"}'
PATIENCE = 30.0


async def ready(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        line = await process.stdout.readline()
    assert line, "it must say that it is ready"
    said: dict[str, Any] = json.loads(line)
    return said


async def ended(process: asyncio.subprocess.Process) -> int:
    async with asyncio.timeout(PATIENCE):
        return await process.wait()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:  # a line of the kernel's, at once
        return file.read().rpartition(")")[2].split()[0] != "Z"


async def gone(pids: list[int]) -> bool:
    async with asyncio.timeout(PATIENCE):
        while any(alive(pid) for pid in pids):
            await SYSTEM_CLOCK.sleep(0.05)
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_up_is_ready_serves_and_stops_all_cleanly(
    verb: Callable[..., Any], atomesh: Callable[..., Any], number: signal.Signals
) -> None:
    async with verb(*UP) as process:
        said = await ready(process)
        at = ("--registry", said["registry"]["address"])
        listed = json.loads((await atomesh("agents", "--json", *at)).out)["endpoints"]
        assert {e["address"] for e in listed} == {agent["address"] for agent in said["agents"]}
        called = await atomesh("call", "text-processor", INPUT, *at)
        assert json.loads(called.out)["result"] == "positive"
        process.send_signal(number)
        assert await ended(process) == 0, "Ctrl-C is the way to end it"
        assert not any(alive(child["pid"]) for child in (said["registry"], *said["agents"]))


async def test_children_of_up_end_with_it_however_it_ends(verb: Callable[..., Any]) -> None:
    async with verb(*UP) as process:
        said = await ready(process)
        process.send_signal(signal.SIGKILL)
        await ended(process)
        assert await gone([child["pid"] for child in (said["registry"], *said["agents"])]), "no child is orphaned"


async def test_up_says_when_a_child_dies_and_goes_on(verb: Callable[..., Any], atomesh: Callable[..., Any]) -> None:
    async with verb(*UP) as process:
        said = await ready(process)
        first, second = said["agents"]
        os.kill(first["pid"], signal.SIGKILL)
        async with asyncio.timeout(PATIENCE):
            line = (await process.stderr.readline()).decode()
        assert f"agent-1 ({first['address']}, pid {first['pid']}) ended by SIGKILL" in line
        assert "not restarted" in line
        called = await atomesh("call", "text-processor", INPUT, "--registry", said["registry"]["address"], "--json")
        assert json.loads(called.out)["info"]["endpoint"] == second["address"], "the other goes on"
        process.send_signal(signal.SIGINT)
        assert await ended(process) == 0


async def test_a_port_in_use_is_told_in_one_line(verb: Callable[..., Any], atomesh: Callable[..., Any]) -> None:
    async with verb(*REGISTRY, "--memory") as process:
        address = (await ready(process))["address"]
        for arguments in (
            ("registry", "--memory", "--bind", address, "--http-bind", "127.0.0.1:0"),
            ("up", "--memory", "--registry-bind", address, "--http-bind", "127.0.0.1:0"),
            ("serve", "text-processor", "--bind", address, "--registry", address),
        ):
            clash = await atomesh(*arguments, "--log-level", "error")
            assert clash.code == 1
            assert f"cannot listen on {address}" in clash.one_line()


async def test_a_registrys_state_survives_its_end_and_belongs_to_one_registry(
    verb: Callable[..., Any], atomesh: Callable[..., Any], tmp_path: Any
) -> None:
    state = ("--data-dir", str(tmp_path / "state"))
    async with verb(*REGISTRY, *state) as process:
        said = await ready(process)
        assert said["state"] == str(tmp_path / "state" / "registry.sqlite3")
        store = json.loads((await atomesh("agents", "--json", "--registry", said["address"])).out)["position"][
            "store_id"
        ]
        second = await atomesh(*REGISTRY, *state, "--log-level", "error")
        assert second.code != 0
        assert "state" in second.one_line()
        process.send_signal(signal.SIGTERM)
        assert await ended(process) == 0
    async with verb(*REGISTRY, *state) as process:
        said = await ready(process)
        again = json.loads((await atomesh("agents", "--json", "--registry", said["address"])).out)["position"][
            "store_id"
        ]
        assert again == store
        process.send_signal(signal.SIGINT)
        assert await ended(process) == 0


async def test_serve_without_a_registry_serves_says_so_and_drains_on_sigterm(
    verb: Callable[..., Any], atomesh: Callable[..., Any]
) -> None:
    async with verb("serve", "text-processor", "--registry", "127.0.0.1:1", "--slots", "2", "--json") as process:
        said = await ready(process)
        assert said["registered"] is False
        called = await atomesh("call", "text-processor", INPUT, "--endpoint", said["address"])
        assert json.loads(called.out)["result"] == "positive"
        process.send_signal(signal.SIGTERM)
        assert await ended(process) == 0
        assert process.stderr is not None
        records = [json.loads(line) for line in (await process.stderr.read()).splitlines()]
        assert any("serving without a registry" in record["message"] for record in records)
        assert all({"level", "logger", "timestamp"} <= set(record) for record in records)


async def test_the_demo_loses_nothing(atomesh: Callable[..., Any]) -> None:
    played = await atomesh("demo", "--documents", "1000", "--json")
    report = json.loads(played.out)
    assert played.code == 0, report["problems"]
    assert (report["failures"], report["wrong"], report["checked"]) == (0, 0, 1000)
    assert [row["became"] for row in report["endpoints"]] == ["killed", "drained", "serving", "serving"]
    assert all(row["calls"] for row in report["endpoints"]), "every endpoint took part"
    filed = report["pipeline"]
    assert (filed["twice"], filed["lost"], filed["problems"]) == (0, 0, []), "an agent that must not run twice did not"
    assert filed["filed"] + filed["cut_off"] == filed["documents"] == 1000


async def test_with_tls_and_a_token_strangers_are_told_what_they_lack(
    verb: Callable[..., Any], atomesh: Callable[..., Any], certificate: Callable[..., tuple[str, str]], tmp_path: Any
) -> None:
    cert, key = certificate(2020, 2100)
    (tmp_path / "token").write_text("sesame")
    tls = ("--tls-cert", cert, "--tls-key", key, "--tls-ca", cert)
    async with verb(*UP, *tls, "--token-file", str(tmp_path / "token")) as process:
        said = await ready(process)
        at = ("--registry", said["registry"]["address"])
        known = await atomesh("call", "text-processor", INPUT, *at, *tls)
        assert json.loads(known.out)["result"] == "positive", known.err
        stranger = await atomesh("agents", *at)
        assert stranger.code == 4
        assert "--tls-ca" in stranger.one_line()
        asked = await atomesh("doctor", *at)
        assert "--tls-ca" in asked.out, "the doctor sees that something listens there and that TLS may be it"
        address = said["agents"][0]["address"]
        without = await atomesh("drain", address, *at, *tls)
        assert without.code == 2
        assert "--token-file" in without.one_line()
        process.send_signal(signal.SIGINT)
        assert await ended(process) == 0


async def test_a_second_signal_does_not_wait(verb: Callable[..., Any]) -> None:
    async with verb(*UP) as process:
        said = await ready(process)
        stopped = said["agents"][0]["pid"]
        os.kill(stopped, signal.SIGSTOP)  # it will not drain: it does not even hear that it should
        process.send_signal(signal.SIGINT)
        await SYSTEM_CLOCK.sleep(0.3)
        assert process.returncode is None, "what drains is waited for"
        process.send_signal(signal.SIGINT)
        assert await ended(process) == 0
        assert not alive(stopped)


async def test_an_agent_that_the_registry_refuses_says_why(verb: Callable[..., Any], tmp_path: Any) -> None:
    (tmp_path / "token").write_text("sesame")
    registry = ("registry", "--memory", "--bind", "127.0.0.1:0", "--http-bind", "127.0.0.1:0", "--json")
    async with verb(*registry, "--token-file", str(tmp_path / "token")) as process:
        at = (await ready(process))["address"]
        async with verb("serve", "text-processor", "--registry", at, "--json") as agent:
            said = await ready(agent)
            assert said["registered"] is False
            assert "--token-file" in said["refusals"][0], "it serves, but nobody will find it: the reason must be said"
            agent.send_signal(signal.SIGTERM)
            assert await ended(agent) == 0
        process.send_signal(signal.SIGTERM)
        assert await ended(process) == 0
