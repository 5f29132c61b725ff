"""What is typed: verbs, flags, help, and how fast that is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

VERBS = [
    "up",
    "registry",
    "serve",
    "agents",
    "describe",
    "call",
    "process-text",
    "drain",
    "stats",
    "proto",
    "config",
    "doctor",
    "version",
    "demo",
]


def test_an_unknown_verb_is_told_with_the_nearest(atomesh: Callable[..., Any]) -> None:
    ended = atomesh("cal")
    assert ended.code == 2
    assert "did you mean 'call'" in ended.one_line().lower()


def test_an_unknown_flag_is_told_with_where_to_look(atomesh: Callable[..., Any]) -> None:
    ended = atomesh("agents", "--jsn")
    assert ended.code == 2
    assert "atomesh agents --help" in ended.one_line()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("call", "text-processor"), "JSON|@FILE|-"),
        (("serve",), "MODULE:CLASS"),
        (("serve", "text-processor", "--slots", "many"), "slots"),
        (("demo", "--documents", "3"), "documents"),
        (("drain", "127.0.0.1:1", "--grace", "-1"), "0 to 3600"),
        (("agents", "--label", "tier"), "KEY=VALUE"),
        (("agents", "--version", "new"), "semver"),
        (("agents", "--registry", "nowhere"), "is not an address"),
        (("agents", "--registry", "127.0.0.1:70000"), "is not an address"),
        (("agents", "--registry", "192.0.2.1:7400"), "--insecure"),
        (("agents", "--tls-cert", __file__), "--tls-key"),
        (("agents", "--token-file", "/nonexistent"), "cannot be read"),
        (("agents", "--tls-ca", __file__), "not a PEM certificate"),
        (("call", "x", "{}", "--endpoint", "here"), "is not an address"),
        (("call", "x", "{}", "--endpoint", "127.0.0.1:1", "--policy", "round_robbin"), "did you mean round_robin?"),
        (("call", "x", "{}", "--endpoint", "127.0.0.1:1", "--meta", "novalue"), "KEY=VALUE"),
        (("call", "x", "{}", "--deadline", "0"), "deadline"),
        (("call", "x", "@/nonexistent"), "cannot be read"),
        (("registry", "--memory", "--bind", "nowhere"), "is not an address"),
        (("registry", "--memory", "--bind", "0.0.0.0:0"), "--insecure"),
        (("registry", "--memory", "--min-ttl", "9", "--max-ttl", "8"), "ttl"),
        (("registry", "--data-dir", "/proc/nothing/here"), "--data-dir"),
        (("proto", "compile", "/nonexistent"), "no directory"),
        (("config", "show", "--config", "/nonexistent"), "no configuration file"),
        (("describe", "NO GOOD NAME"), "agent name"),
    ],
)
def test_each_mistake_is_one_line_that_says_what_to_do(
    atomesh: Callable[..., Any], arguments: tuple[str, ...], said: str
) -> None:
    ended = atomesh(*arguments)
    assert ended.code == 2, f"{arguments} is the user's mistake"
    assert said in ended.one_line()


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_examples_or_verbs_of_its_own(atomesh: Callable[..., Any], verb: str) -> None:
    ended = atomesh(verb, "--help")
    assert ended.code == 0
    assert "Usage: atomesh" in ended.out
    if verb not in ("proto", "config"):
        assert "Exit codes:" in ended.out, "scripts read the exit codes in the help"


def test_version_is_for_people_and_for_programs(atomesh: Callable[..., Any]) -> None:
    assert atomesh("version").out.startswith("atomesh 0.")
    assert set(json.loads(atomesh("version", "--json").out)) >= {"atomesh", "python", "grpcio", "protobuf"}


def test_nothing_heavy_is_imported_for_help_or_version() -> None:
    script = (
        "import sys; from atomesh.cli import main; main(['--help']); main(['version']);"
        # pydantic is not in the list: typer's own newer versions bring it.
        "print(sorted({'grpc', 'structlog', 'google.protobuf', 'uvicorn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]", "help must come at once"


def test_an_unexpected_error_is_one_line_and_debug_shows_its_trace(
    atomesh: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from atomesh.cli import _settings

    def broken(*_: object, **__: object) -> None:
        raise LookupError("in\x1b[31mside")

    monkeypatch.setattr(_settings, "load", broken)
    ended = atomesh("config", "show")
    assert ended.code == 1
    assert "unexpected LookupError" in ended.one_line()
    assert "--debug" in ended.err
    assert "\x1b" not in ended.err, "control characters must not reach a terminal"
    with pytest.raises(LookupError):
        atomesh("config", "show", "--debug")


def test_a_reader_that_goes_away_is_not_worth_a_word() -> None:
    command = f"{sys.executable} -m atomesh config show | head -1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False)
    assert done.stderr == "", "a closed pipe is no error"


def test_a_proto_whose_package_is_not_its_folder_is_pointed_out(atomesh: Any, tmp_path: Path) -> None:
    folder = tmp_path / "tally" / "v1"
    folder.mkdir(parents=True)
    (folder / "tally.proto").write_text('syntax = "proto3";\npackage tally.v1;\nmessage Sum { int32 n = 1; }\n')
    done = atomesh("proto", "compile", str(folder))
    assert done.code == 0
    assert "its package is tally.v1" in done.err
    assert "its package" not in atomesh("proto", "compile", str(tmp_path)).err
