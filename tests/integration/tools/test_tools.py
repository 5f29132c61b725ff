"""The checks of protos/ and generated/ can fail: each defect that they are for is put in and must be found."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
COPIED = ("tools", "protos", "generated", "cli/atomesh/cli", "buf.yaml", "pyproject.toml")


class Copy:
    """A copy of what the tools look at, which a test may spoil."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in COPIED:
            source, target = ROOT / name, root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copyfile(source, target)

    def tool(self, *command: str, **settings: str) -> tuple[int, str]:
        """Runs one of tools/; the exit status and everything it printed."""
        done = subprocess.run(
            [sys.executable, *command],
            cwd=self.root,
            env={**os.environ, "CI": "", **settings},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.root / name
        text = path.read_text()
        assert old in text, f"{name} no longer holds {old!r}: the test has to change something else"
        path.write_text(text.replace(old, new, 1))

    def git(self, *command: str) -> None:
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
        subprocess.run(["git", *identity, *command], cwd=self.root, check=True, capture_output=True)


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path / "copy")


TEXT = "protos/atomesh/text/v1/text.proto"


def test_the_protos_as_they_are_pass(copy: Copy) -> None:
    assert copy.tool("tools/protos.py", "lint") == (
        0,
        "buf lint: STANDARD and COMMENTS hold for every file in protos/\n",
    )


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("  // How often it occurs.\n", "", 'Field "count" should have a non-empty comment'),
        ("uint32 count = 3", "uint32 Count = 3", 'Field name "Count" should be lower_snake_case'),
        ("  string text = 1;", "    string text = 1;", "diff"),
        ("uint32 count = 3", "uint33 count = 3", '"uint33" is not defined'),
    ],
    ids=["no comment", "a wrong name", "a wrong layout", "no proto at all"],
)
def test_a_careless_proto_is_refused(copy: Copy, old: str, new: str, complaint: str) -> None:
    copy.edit(TEXT, old, new)
    status, printed = copy.tool("tools/protos.py", "lint")
    assert status == 1
    assert complaint in printed


def released(copy: Copy) -> None:
    copy.git("init", "-q")
    copy.git("add", "protos")
    copy.git("commit", "-q", "-m", "a release")
    copy.git("tag", "v0.1.0")


def test_before_the_first_release_nothing_can_break(copy: Copy) -> None:
    status, printed = copy.tool("tools/protos.py", "breaking", GIT_CEILING_DIRECTORIES=str(copy.root.parent))
    assert (status, len(printed.splitlines())) == (0, 1)
    assert "no release tag yet" in printed


def test_after_a_release_an_addition_passes(copy: Copy) -> None:
    released(copy)
    copy.edit(TEXT, "  uint32 count = 3;\n", "  uint32 count = 3;\n\n  // More.\n  string more = 4;\n")
    status, printed = copy.tool("tools/protos.py", "breaking")
    assert status == 0, printed
    assert "v0.1.0" in printed


@pytest.mark.parametrize(
    ("old", "new"),
    [("uint32 count = 3", "string count = 3"), ("uint32 count = 3", "uint32 times = 3"), ("uint32 count = 3;", "")],
    ids=["another type", "another name in JSON", "gone"],
)
def test_after_a_release_a_breaking_change_is_refused(copy: Copy, old: str, new: str) -> None:
    released(copy)
    copy.edit(TEXT, old, new)
    status, printed = copy.tool("tools/protos.py", "breaking")
    assert status == 1
    assert "text.proto" in printed


def spoil_changed(generated: Path) -> None:
    (generated / "atomesh/v1/agent_pb2.pyi").write_text("")


def spoil_surplus(generated: Path) -> None:
    (generated / "atomesh/v1/gone_pb2.py").touch()


def spoil_missing(generated: Path) -> None:
    (generated / "atomesh/v1/py.typed").unlink()


@pytest.mark.parametrize("spoil", [spoil_changed, spoil_surplus, spoil_missing])
def test_stale_generated_code_is_found(copy: Copy, spoil: Callable[[Path], None]) -> None:
    shutil.copytree(ROOT / "generated", copy.root / "fresh", ignore=shutil.ignore_patterns("__pycache__"))
    spoil(copy.root / "generated")
    code = "import sys, pathlib; sys.path.insert(0, 'tools'); import generated as g"
    status, printed = copy.tool("-c", f"{code}; print(g.differences(pathlib.Path('fresh'), pathlib.Path('generated')))")
    assert status == 0, printed
    assert printed.count("generated/") == 1
    assert spoil.__name__.removeprefix("spoil_") in printed


@pytest.mark.parametrize(("ci", "status"), [("", 0), ("true", 1)])
def test_without_a_generator_only_ci_fails(copy: Copy, ci: str, status: int) -> None:
    copy.edit("pyproject.toml", "grpcio-tools==1.76.0", "grpcio-tools==0.0.0.dev1")
    found, printed = copy.tool("tools/generated.py", CI=ci, PIP_NO_INDEX="1")
    assert found == status
    assert "the pinned generator cannot be installed here" in printed.splitlines()[-1]
    assert ci or len(printed.splitlines()) == 1, "on a desk it is one line"


def test_every_step_runs_though_one_failed_and_the_table_says_which(copy: Copy) -> None:
    (copy.root / "Makefile").write_text("good:\n\t@echo all well\nbad:\n\t@echo 3 failed; exit 1\n")
    status, printed = copy.tool("tools/steps.py", "bad", "good")
    table = printed.split("\n\n")[-2].splitlines()
    assert status == 1
    assert [row.split()[:2] for row in table] == [["FAIL", "bad"], ["ok", "good"]]
    assert [row.rsplit(" s  ")[1] for row in table] == ["3 failed", "all well"]
    assert "FAILED: bad" in printed.splitlines()[-1]
