"""`atomesh run-pipeline`, the short form: a pipeline's file on an input's file."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

INPUT = {"content": "It works. I love it.", "operation": "sentiment"}
FULL = "name: full\nstages: {mood: {agent: text-processor}}\noutput: {mood: $mood.sentiment.label}\n"
LINEAR = {"name": "line", "agents": [{"type": "text-processor"}]}
Here = Callable[..., Any]


@pytest.fixture(autouse=True)
def files(home: Path) -> None:
    (home / "input.json").write_text(json.dumps(INPUT))
    (home / "full.yaml").write_text(FULL)
    (home / "line.json").write_text(json.dumps(LINEAR, indent="\t"))
    (home / "line.yaml").write_text("name: line\nagents:\n  - type: text-processor\n")


@pytest.mark.parametrize("file", ["full.yaml", "line.json", "line.yaml"])
def test_each_form_runs_and_prints_its_output(town: str, here: Here, file: str) -> None:
    ended = here("run-pipeline", "--config-file", file, "--input-file", "input.json", "--registry", town)
    assert ended.code == 0, ended.err
    output = json.loads(ended.out)
    assert output == {"mood": "positive"} if file == "full.yaml" else output["result"] == "positive"


def test_agents_of_a_linear_list_are_told_apart_and_follow_one_another(town: str, here: Here, home: Path) -> None:
    (home / "two.json").write_text('{"name": "two", "agents": [{"type": "text-processor"}, {"type": "slow"}]}')
    ended = here("run-pipeline", "--config-file", "two.json", "--input-file", "input.json", "--registry", town)
    assert ended.code == 2, "the one gives what the other does not take"
    assert ended.one_line().startswith("error: two.json: line 1: stages.slow"), ended.err
    (home / "twice.json").write_text('{"name": "twice", "agents": ["text-processor", "text-processor"]}')
    shown = here("pipeline", "show", "twice.json", "--json")
    assert [stage["id"] for stage in json.loads(shown.out)["stages"]] == ["text_processor", "text_processor_2"]


def test_the_output_goes_to_a_file_and_the_input_comes_from_stdin(
    town: str, here: Here, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(json.dumps(INPUT).encode())))
    files = ("--config-file", "full.yaml", "--input-file", "-", "--output-file", "out.json")
    ended = here("run-pipeline", *files, "--registry", town)
    assert (ended.code, ended.out) == (0, "")
    assert json.loads((home / "out.json").read_text()) == {"mood": "positive"}
    (run,) = json.loads(here("runs", "ls", "--json").out)
    assert run["status"] == "success"
    whole = here(
        "run-pipeline", "--config-file", "full.yaml", "--input-file", "input.json", "--registry", town, "--json"
    )
    assert json.loads(whole.out)["output"] == {"mood": "positive"}


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        ({"--config-file": "missing.yaml"}, 2, "missing.yaml cannot be read"),
        ({"--config-file": "full"}, 2, "full cannot be read"),
        ({"--input-file": "missing.json"}, 2, "missing.json cannot be read"),
        ({"--input-file": "full.yaml"}, 2, "full.yaml is not JSON"),
        ({"--config-file": "input.json"}, 2, "input.json: line 1: "),
        ({"--config-file": "empty.json"}, 2, "empty.json: line 1: "),
        ({"--config-file": "none.json"}, 2, "none.json: line 1: agents: a pipeline without stages"),
        ({"--config-file": "away.json"}, 3, "away.json: line 1: stages.nobody_here.agent: no agent 'nobody-here'"),
        ({"--config-file": "odd.json"}, 2, "odd.json: line 1: agents.0.kind: there is no such key"),
        ({"--output-file": "no/such/o.json"}, 2, "no/such/o.json cannot be written"),
        ({"--registry": "127.0.0.1:1"}, 4, "no registry answers"),
        ({"--config-file": "-", "--input-file": "-"}, 2, "both"),
    ],
)
def test_what_is_wrong_is_one_line_and_a_code(
    town: str, here: Here, home: Path, flags: dict[str, str], code: int, said: str
) -> None:
    (home / "empty.json").write_text("")
    (home / "none.json").write_text('{"name": "x", "agents": []}')
    (home / "away.json").write_text('{"name": "x", "agents": [{"type": "nobody-here"}]}')
    (home / "odd.json").write_text('{"name": "x", "agents": [{"kind": "text-processor"}]}')
    usual = {"--config-file": "full.yaml", "--input-file": "input.json", "--registry": town}
    ended = here("run-pipeline", *(word for pair in {**usual, **flags}.items() for word in pair))
    line = ended.one_line()
    assert said in line
    assert (ended.code, ended.out) == (code, ""), line


def test_a_flag_that_is_missing_is_wrong_usage(here: Here) -> None:
    assert "--input-file" in here("run-pipeline", "--config-file", "full.yaml").one_line()
    assert "--config-file" in here("run-pipeline", "--input-file", "input.json").one_line()
