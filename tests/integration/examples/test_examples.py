"""Every example runs as its README says, and prints what its README shows."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from atomesh.pipelines import read_pipeline
from atomesh.pipelines.drawing import as_text
from atomesh.text.v1 import text_pb2

EXAMPLES = Path(__file__).parents[3] / "examples"
NAMES = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir() and (path / "README.md").exists())
TOOLS = {"go": ("go",), "node": ("node", "npm")}
MOVES = {
    "nested": re.compile(r"[34]\.\d s left|[0-9.]+s$"),
    "blocking": re.compile(r"^[a-z]+: .*|^\d+ texts.*"),
    "batch": re.compile(r"^\d+ were under way|^[0-9,]+ per second, .*|^  127\.0\.0\.1:.*"),
}
"""Lines of a README that differ from run to run, or between releases of Python."""


def run(name: str, *command: str | Path) -> subprocess.CompletedProcess[str]:
    # As in a user's shell: nothing of pytest's own, and Go's caches where they are.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    return subprocess.run(
        command, cwd=EXAMPLES / name, env=environment, capture_output=True, text=True, check=False, timeout=200
    )


def shown(name: str) -> list[str]:
    """The output in the README's first block: what is no command."""
    readme = (EXAMPLES / name / "README.md").read_text()
    block = readme.split("```console\n")[1].split("```")[0]
    before_pytest = block.split("$ python -m pytest")[0]
    return [line for line in before_pytest.splitlines() if not line.startswith("$ ")]


def with_tools(name: str) -> object:
    marks = [pytest.mark.needs_tool(*TOOLS[name])] if name in TOOLS else []
    return pytest.param(name, marks=marks, id=name)


def test_each_example_has_what_every_example_has() -> None:
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(NAMES), "an example opens on its README.md"
    assert [name for name in NAMES if not (EXAMPLES / name / "main.py").exists()] == [], "main.py runs all of it"


@pytest.mark.timeout(240)  # Go compiles gRPC the first time
@pytest.mark.parametrize("name", [with_tools(name) for name in NAMES])
def test_it_runs_by_itself_and_prints_what_its_readme_shows(name: str) -> None:
    done = run(name, sys.executable, "main.py")
    assert done.returncode == 0, done.stdout + done.stderr
    moving = MOVES.get(name, re.compile(r"(?!)"))
    printed = [moving.sub("", line) for line in done.stdout.splitlines()]
    assert [line for line in shown(name) if moving.sub("", line) not in printed] == [], done.stdout


def test_the_pipelines_readme_shows_its_graph() -> None:
    folder = EXAMPLES / "pipeline"
    spec, _ = read_pipeline((folder / "report.yaml").read_text())
    assert as_text(spec) in (folder / "README.md").read_text()


def test_the_tests_beside_the_nested_example_pass() -> None:
    done = run("nested", sys.executable, "-m", "pytest", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d passed", done.stdout)


@pytest.mark.parametrize(("name", "tool"), [("go", "Go"), ("node", "Node.js")])
@pytest.mark.parametrize(
    ("settings", "code"), [({}, 0), ({"CI": "true"}, 1), ({"CI": "true", "CI_WITHOUT": "grpcurl go node"}, 0)]
)
def test_without_its_tool_it_says_so_in_one_line(name: str, tool: str, settings: dict[str, str], code: int) -> None:
    command = [sys.executable, "main.py"]
    environment = {"PATH": "/nowhere", **settings}
    done = subprocess.run(
        command, cwd=EXAMPLES / name, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, len(done.stdout.splitlines()), done.stderr) == (code, 1, "")
    assert f"needs {tool} " in done.stdout


def test_the_go_stub_is_of_todays_contract() -> None:
    source = (EXAMPLES / "go" / "textv1" / "text.pb.go").read_text()
    literals = re.search(r"rawDesc = \"\" \+\n((?:\t\".*\n)+)", source)
    assert literals is not None, "protoc-gen-go keeps the descriptor as one string; see whether it still does"
    raw = b"".join(_go_bytes(line) for line in literals[1].splitlines())
    stub = descriptor_pb2.FileDescriptorProto.FromString(raw)
    today = descriptor_pb2.FileDescriptorProto.FromString(text_pb2.DESCRIPTOR.serialized_pb)
    today.dependency.remove("buf/validate/validate.proto")
    for message in (*stub.message_type, *today.message_type):
        _strip(message)
    assert stub == today, "run `python stubs.py` in examples/go and commit what it writes"


def _strip(message: descriptor_pb2.DescriptorProto) -> None:
    """What a stub is without: rules, and names that follow from other names."""
    if not message.options.map_entry:
        message.ClearField("options")
    for field in message.field:
        field.ClearField("options")
        field.ClearField("json_name")
    for nested in message.nested_type:
        _strip(nested)


def _go_bytes(line: str) -> bytes:
    quoted = line.strip().removesuffix("+").strip()
    text: str = ast.literal_eval(quoted)
    return text.encode("latin-1")
