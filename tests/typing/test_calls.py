"""A call with a contract is typed: what goes in, and what comes out.

The first half is checked by `make types` as it stands; the second has mypy
look at calls that must not pass.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, assert_type

import pytest

from atomesh.balancer import BlockingClient, Client, Reply
from atomesh.core import Contract
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

ROOT = Path(__file__).resolve().parents[2]
TEXT = Contract("text-processor", TextInput, TextOutput)


async def what_comes_out_of_a_client(mesh: Client) -> None:
    """Never run: mypy's to judge."""
    assert_type(await mesh.call(TEXT, TextInput()), TextOutput)
    assert_type(await mesh.call(TEXT, TextInput(), timeout=1.0, idempotent=True, policy="round_robin"), TextOutput)
    assert_type((await mesh.call(TEXT, TextInput())).word_count, int)
    assert_type(await mesh.call("text-processor", TextInput()), Any)
    assert_type(await mesh.execute(TEXT, TextInput()), Reply[TextOutput])
    assert_type((await mesh.execute(TEXT, TextInput())).output, TextOutput)


def what_comes_out_of_a_blocking_client(mesh: BlockingClient) -> None:
    """Never run: mypy's to judge."""
    assert_type(mesh.call(TEXT, TextInput()), TextOutput)
    assert_type(mesh.call(TEXT, TextInput(), timeout=1.0), TextOutput)
    assert_type(mesh.call("text-processor", TextInput()), Any)
    assert_type(mesh.execute(TEXT, TextInput()), Reply[TextOutput])


def what_a_contract_is() -> None:
    """Never run: mypy's to judge."""
    assert_type(TEXT, Contract[TextInput, TextOutput])
    assert_type(TEXT.input, type[TextInput])
    assert_type(TEXT.output(), TextOutput)


BEFORE = """
from atomesh.balancer import BlockingClient, Client
from atomesh.core import Contract
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

TEXT = Contract("text-processor", TextInput, TextOutput)

async def calls(mesh: Client, blocking: BlockingClient) -> None:
    await mesh.call(TEXT, TextInput(content="hello"))  # fine
"""

WRONG = {
    "another message goes in": "await mesh.call(TEXT, TextOutput())",
    "a dict goes in": "await mesh.call(TEXT, {'content': 'hello'})",
    "nothing goes in": "await mesh.call(TEXT)",
    "a text goes in": "await mesh.call('text-processor', 'hello')",
    "what comes out is taken for another message": "given: TextInput = await mesh.call(TEXT, TextInput())",
    "what comes out lacks the field": "(await mesh.call(TEXT, TextInput())).no_such_field",
    "an option is misspelt": "await mesh.call(TEXT, TextInput(), time_out=1.0)",
    "a timeout is no number": "await mesh.call(TEXT, TextInput(), timeout='1s')",
    "the await is forgotten": "given: TextOutput = mesh.call(TEXT, TextInput())",
    "blocking: another message goes in": "blocking.call(TEXT, TextOutput())",
    "blocking: a text goes in": "blocking.call('text-processor', 'hello')",
    "blocking: what comes out is taken for another message": "given: TextInput = blocking.call(TEXT, TextInput())",
    "a contract of classes that are no messages": "Contract('a', int, str)",
}


@pytest.fixture(scope="module")
def said_by_mypy(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """One run for all of them: each on a line of its own, and what mypy says of it."""
    snippet = tmp_path_factory.mktemp("typing") / "wrong.py"
    snippet.write_text(BEFORE + "".join(f"    {line}\n" for line in WRONG.values()))
    command = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", "--no-error-summary", str(snippet)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert ran.returncode in (0, 1), ran.stderr
    said: dict[int, str] = {}
    for line in ran.stdout.splitlines():
        place, _, message = line.partition(": error: ")
        if message and place.rpartition(":")[0].endswith("wrong.py"):
            said.setdefault(int(place.rpartition(":")[2]), message)
    return said


@pytest.mark.parametrize("wrong", WRONG)
def test_a_checker_objects_where(wrong: str, said_by_mypy: dict[int, str]) -> None:
    first = BEFORE.count("\n") + 1
    assert said_by_mypy.get(first + list(WRONG).index(wrong)), f"mypy must object to: {WRONG[wrong]}"


def test_a_checker_objects_to_nothing_else(said_by_mypy: dict[int, str]) -> None:
    first = BEFORE.count("\n") + 1
    others = {line: message for line, message in said_by_mypy.items() if not first <= line < first + len(WRONG)}
    assert not others
