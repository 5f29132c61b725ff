"""`call`, `describe`, `agents`, `drain`, `doctor` against a mesh, and everything that a user gets wrong there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atomesh.rpc import Credentials

INPUT = json.dumps({"content": "It works. I love it.", "operation": "sentiment"})
NOBODY = "127.0.0.1:1"


async def test_a_call_prints_its_output_as_json_and_its_info_beside_it(
    mesh: Callable[..., Any], atomesh: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "input.json").write_text(INPUT)
    async with mesh() as running:
        at = ("--registry", running.registry)
        ended = await atomesh("call", "text-processor", INPUT, *at, "--info", "--request-id", "r-7")
        assert ended.code == 0, ended.err
        assert json.loads(ended.out)["result"] == "positive"
        assert "request r-7" in ended.err
        assert running.server.address in ended.err
        from_file = await atomesh("call", "text-processor", f"@{tmp_path / 'input.json'}", *at)
        assert json.loads(from_file.out)["sentiment"]["label"] == "positive"
        from_stdin = await atomesh(
            "call", "text-processor", "-", "--endpoint", running.server.address, stdin=INPUT.encode()
        )
        assert from_stdin.code == 0, "an address serves instead of a registry"
        both = await atomesh(
            "call", "hostile", '{"content": "x", "operation": "sentiment"}', *at, "--json", "--meta", "k=v"
        )
        output = json.loads(both.out)["output"]
        assert (output["result"], output["metadata"]) == ("\x1b]0;owned\x07\x9b", {"k": "v"})
        assert output["word_count"] == 0, "a zero is an answer"
        assert "\x1b" not in both.out, "control characters of an agent must not reach a terminal"
        assert "\x9b" not in both.out


async def test_what_is_wrong_with_a_call_is_one_line_and_a_code(
    mesh: Callable[..., Any], atomesh: Callable[..., Any]
) -> None:
    async with mesh() as running:
        at = ("--registry", running.registry)
        for arguments, code, said in (
            (("text-processor", '{"contnt": "x"}', *at), 2, "did you mean content?"),
            (("text-processor", "{", *at), 2, "is not JSON"),
            (("text-processor", '{"content": "x", "operation": "shout"}', *at), 2, 'unknown operation "shout"'),
            (("text-procesor", INPUT, *at), 3, "did you mean text-processor?"),
            (("slow", INPUT, *at, "--deadline", "0.3"), 5, ""),
            (("failing", INPUT, *at), 1, "no such ticket"),
            (("text-processor", INPUT, *at, "--policy", "least_conections"), 2, "did you mean least_connections?"),
            (("text-processor", INPUT, "--registry", NOBODY), 4, "no registry answers at 127.0.0.1:1"),
            (("text-processor", INPUT, "--endpoint", NOBODY), 4, "no agent 'text-processor' answers at 127.0.0.1:1"),
            (("text-processor", INPUT, "--registry", running.server.address), 4, "is not a registry"),
        ):
            ended = await atomesh("call", *arguments)
            assert (ended.code, ended.out) == (code, ""), f"{arguments}: {ended.err}"
            assert said in ended.one_line()
            assert "\x1b" not in ended.err, "control characters of an agent must not reach a terminal"


async def test_agents_and_describe_show_what_is_registered(
    mesh: Callable[..., Any], atomesh: Callable[..., Any]
) -> None:
    async with mesh(zone="z1", labels={"tier": "gold"}) as running:
        at = ("--registry", running.registry)
        listed = json.loads((await atomesh("agents", "--json", "--capability", "content_analysis", *at)).out)
        [endpoint] = listed["endpoints"]
        assert (endpoint["agent"], endpoint["address"]) == ("text-processor", running.server.address)
        assert (endpoint["state"], endpoint["zone"], endpoint["labels"]) == ("SERVING", "z1", {"tier": "gold"})
        assert endpoint["registered_at"] is not None
        table = await atomesh("agents", *at)
        for word in ("text-processor", "slow", running.server.address, "serving", "z1", "content_analysis"):
            assert word in table.out, f"{word} belongs in the table"
        assert "no endpoint matches" in (await atomesh("agents", "--zone", "z2", *at)).err
        described = await atomesh("describe", "text-processor", *at)
        assert "message atomesh.text.v1.TextInput {" in described.out
        assert "content_analysis" in described.out
        assert json.loads((await atomesh("describe", "slow", "--json", *at)).out)["contract"]["input_type"] == (
            "atomesh.text.v1.TextInput"
        )
        unknown = await atomesh("describe", "text-procesor", *at)
        assert unknown.code == 3
        assert "did you mean text-processor?" in unknown.one_line()


async def test_drain_finds_an_endpoint_by_address_or_instance_and_waits_until_it_is_gone(
    mesh: Callable[..., Any], atomesh: Callable[..., Any]
) -> None:
    async with mesh() as running:
        at = ("--registry", running.registry)
        for wanted, said in (
            ("feedfeed", "no endpoint with the address or instance id"),
            (running.registry, "is no endpoint"),
        ):
            ended = await atomesh("drain", wanted, *at)
            assert ended.code == 3
            assert said in ended.one_line()
        nobody = await atomesh("drain", NOBODY, *at)
        assert nobody.code == 4
        assert "nothing answers at 127.0.0.1:1" in nobody.one_line()
        one = await atomesh("drain", running.server.address, "--agent", "slow", *at, "--json")
        assert one.code == 0, one.err
        assert json.loads(one.out)["gone"] is True
        assert (await atomesh("call", "text-processor", INPUT, *at)).code == 0, "the others of the process go on"
        assert (await atomesh("drain", running.server.instance_id[:8], *at)).code == 0
        left = json.loads((await atomesh("agents", "--all", "--json", *at)).out)["endpoints"]
        assert left == [], "what has drained is gone from the registry"


async def test_a_guarded_endpoint_drains_only_with_its_token(
    mesh: Callable[..., Any], atomesh: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "right").write_text("sesame\n")
    (tmp_path / "wrong").write_text("open\n")
    async with mesh(credentials=Credentials(token="sesame")) as running:
        wanted = ("drain", running.server.address, "--registry", running.registry)
        for more, said in (
            ((), "needs the token"),
            (("--token-file", str(tmp_path / "wrong")), "not the one of the server"),
        ):
            ended = await atomesh(*wanted, *more)
            assert ended.code == 2
            assert said in ended.one_line()
        right = await atomesh(*wanted, "--token-file", str(tmp_path / "right"))
        assert right.code == 0, right.err


async def test_process_text_goes_through_the_mesh_or_does_it_here(
    mesh: Callable[..., Any], atomesh: Callable[..., Any], tmp_path: Path
) -> None:
    said = ("--operation", "sentiment", "--text", "I love it.")
    async with mesh() as running:
        through = await atomesh("process-text", *said, "--registry", running.registry)
        assert (through.code, through.out, through.err) == (0, "positive\n", "")
    alone = await atomesh("process-text", *said, "--registry", NOBODY, "--output", str(tmp_path / "out.txt"))
    assert alone.code == 0
    assert (tmp_path / "out.txt").read_text() == "positive\n"
    assert "in this process" in alone.err.splitlines()[0], "it says that it did without a mesh"
    piped = await atomesh("process-text", "--file", "-", "--registry", NOBODY, "--json", stdin=b"One. Two is longer.")
    assert json.loads(piped.out)["metadata"]["operation"] == "summarize"
    blank = await atomesh("process-text", "--text", "  ", "--registry", NOBODY)
    assert blank.code == 2
    assert "only white space" in blank.err.splitlines()[-1]


async def test_doctor_tells_a_registry_from_what_is_none(mesh: Callable[..., Any], atomesh: Callable[..., Any]) -> None:
    async with mesh() as running:
        well = await atomesh("doctor", "--registry", running.registry, "--json")
        assert well.code == 0, well.out
        checks = {check["check"]: check["level"] for check in json.loads(well.out)["checks"]}
        assert checks["registry"] == checks["agents"] == checks["clock"] == "ok"
        other = await atomesh("doctor", "--registry", running.server.address)
        assert other.code == 1
        assert "something else than a registry answers" in other.out
    gone = await atomesh("doctor", "--registry", NOBODY)
    assert gone.code == 1
    assert "none answers at 127.0.0.1:1" in gone.out
    assert "atomesh up" in gone.out, "it says what to do"


@pytest.mark.parametrize("verb", [("agents",), ("registry", "--memory"), ("serve", "text-processor")])
async def test_an_expired_certificate_is_refused_before_anything_starts(
    atomesh: Callable[..., Any], certificate: Callable[..., tuple[str, str]], verb: tuple[str, ...]
) -> None:
    cert, key = certificate(2019, 2020)
    ended = await atomesh(*verb, "--tls-cert", cert, "--tls-key", key)
    assert ended.code == 2
    assert "expired on 2020-01-01" in ended.one_line()
