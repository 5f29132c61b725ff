"""What the workers of `serve --workers` serve in the chaos tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from atomesh.agents import Agent, ExecutionContext
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.text.v1.text_pb2 import TextInput, TextOutput


class Steady(Agent[TextInput, TextOutput]):
    """Does what the content says: `sleep 1.5`, `print 5`, or echoes it. Harmless to run twice."""

    name = "steady"
    slots = 8
    idempotent = True

    async def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
        word, _, number = input.content.partition(" ")
        if word == "sleep":
            await SYSTEM_CLOCK.sleep(float(number))
        elif word == "print":
            print(int(number))  # JSON, and no event
            print("x" * int(number), file=sys.stderr)
            sys.stdout.flush()
        else:
            await SYSTEM_CLOCK.sleep(0.002)
        return TextOutput(result=input.content)


class Moody(Steady):
    """Does not start while the file that MOOD names is there."""

    name = "moody"

    async def start(self) -> None:
        if Path(os.environ["MOOD"]).exists():  # noqa: ASYNC240 # once, at the start, as below
            raise OSError("the database is away")


class Parent(Steady):
    """Leaves a process behind that holds its output open."""

    name = "parent"

    async def start(self) -> None:
        left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])  # noqa: ASYNC220 # once, at the start
        with Path(os.environ["LEFT_BEHIND"]).open("a") as file:  # noqa: ASYNC230
            file.write(f"{left.pid}\n")
