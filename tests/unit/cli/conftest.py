"""The command in this process: what it prints, how it ends, with nobody's configuration but the test's own."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from atomesh.cli import main


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    def one_line(self) -> str:
        """The error; it must be all that is said."""
        lines = self.err.splitlines()
        assert len(lines) == 1, f"a user's mistake is told in one line, not {self.err!r}"
        assert lines[0].startswith("error: "), "the line says that it is an error"
        assert "Traceback" not in self.err, "a user's mistake has no traceback"
        assert self.out == "", "nothing is a result where there is an error"
        return lines[0]


@pytest.fixture(autouse=True)
def nobodys_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("ATOMESH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def atomesh(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """`atomesh("call", "x", "{}")`: the exit code, stdout and stderr."""

    def run(*arguments: str) -> Ended:
        capsys.readouterr()
        code = main(arguments)
        said = capsys.readouterr()
        return Ended(code, said.out, said.err)

    return run
