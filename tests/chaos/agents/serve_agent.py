"""A process of one agent: `python serve_agent.py REGISTRY|- GRACE BIND`. Prints its address; ends as `serve` does."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading

from atomesh.agents import Agent, AgentFailed, AgentServer, ExecutionContext, run_until_signal
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.text.v1.text_pb2 import TextInput, TextOutput


class Worker(Agent[TextInput, TextOutput]):
    """Does what the content says: `sleep 1.5`, `block 1.5`, `ignore 60`, `fail`, or echoes it."""

    name = "worker"
    slots = 8
    idempotent = True

    async def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
        word, _, seconds = input.content.partition(" ")
        if word == "sleep":
            await SYSTEM_CLOCK.sleep(float(seconds))
        elif word == "block":
            threading.Event().wait(float(seconds))
        elif word == "ignore":
            try:
                await SYSTEM_CLOCK.sleep(float(seconds))
            except asyncio.CancelledError:
                await SYSTEM_CLOCK.sleep(float(seconds))
        elif word == "fail":
            raise AgentFailed("as asked")
        return TextOutput(result=input.content)


class Thread(Agent[TextInput, TextOutput]):
    """Holds its thread for the seconds that the content says."""

    name = "thread"

    def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
        threading.Event().wait(float(input.content))
        return TextOutput(result=input.content)


async def main() -> int:
    registry, grace, bind = sys.argv[1], float(sys.argv[2]), sys.argv[3]
    known = None if registry == "-" else registry
    server = AgentServer([Worker(), Thread()], registry=known, drain_grace=grace, bind=bind)
    await server.start()
    print(server.address, flush=True)
    return await run_until_signal(server)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    sys.exit(asyncio.run(main()))
