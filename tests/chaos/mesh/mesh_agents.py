"""The agents that the chaos tests serve in processes of their own."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator

from atomesh.agents import Agent, ExecutionContext, StreamingAgent
from atomesh.text.v1.text_pb2 import Keyword, TextInput, TextOutput

BLOCKED_SECONDS = 4.0


class Echo(Agent[TextInput, TextOutput]):
    """Answers after a moment; harmless to run twice."""

    name = "echo"
    slots = 8
    idempotent = True

    async def execute(self, input: TextInput, context: ExecutionContext) -> TextOutput:
        await asyncio.sleep(0.002)  # noqa: TID251 # work, in real time
        return TextOutput(result=input.content)


class Ledger(Agent[TextInput, TextOutput]):
    """Writes each execution down before it works; must never run twice for one call."""

    name = "ledger"
    slots = 8
    running = 0

    async def execute(self, input: TextInput, context: ExecutionContext) -> TextOutput:
        self.running += 1
        descriptor = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(descriptor, f"{input.content}\n".encode())
            if self.running > self.slots:
                os.write(descriptor, b"over-slots\n" * 2)
            await asyncio.sleep(0.002)  # noqa: TID251 # work, in real time
        finally:
            os.close(descriptor)
            self.running -= 1
        return TextOutput(result=input.content)


class Clerk(Agent[TextInput, TextOutput]):
    """Writes each execution down, works for a while, and blocks its whole process if the content is `block`."""

    name = "clerk"
    slots = 8

    async def execute(self, input: TextInput, context: ExecutionContext) -> TextOutput:
        writes_down(input.content)
        if input.content == "block":
            reads_a_large_file_in_the_loop()
        await asyncio.sleep(0.02)  # noqa: TID251 # work, in real time
        return TextOutput(result=input.content)


def writes_down(line: str) -> None:
    """One line of a file that several processes append to."""
    with open(os.environ["LEDGER"], "a") as ledger:
        ledger.write(f"{line}\n")


def reads_a_large_file_in_the_loop() -> None:
    """What an agent must not do."""
    threading.Event().wait(BLOCKED_SECONDS)


class Task(Agent[TextInput, TextOutput]):
    """Does what the content says: `sleep 1.5`, `long 100000`, or answers with it after a moment; harmless to run twice."""

    name = "task"
    slots = 4
    idempotent = True

    async def execute(self, input: TextInput, context: ExecutionContext) -> TextOutput:
        word, _, number = input.content.partition(" ")
        await asyncio.sleep(float(number) if word == "sleep" else 0.005)  # noqa: TID251 # work, in real time
        return TextOutput(result="o" * int(number) if word == "long" else input.content)


class Counter(StreamingAgent[TextInput, Keyword, TextOutput]):
    """Counts to 100 within a second, `slow` not before a second has passed."""

    name = "counter"
    slots = 8

    async def stream(self, input: TextInput, context: ExecutionContext) -> AsyncIterator[Keyword | TextOutput]:
        if input.content == "slow":
            await asyncio.sleep(1)  # noqa: TID251 # work, in real time
        for count in range(1, 101):
            yield Keyword(count=count)
            await asyncio.sleep(0.01)  # noqa: TID251 # work, in real time
        yield TextOutput(result="100")
