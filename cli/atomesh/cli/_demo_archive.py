"""The demo's agent that must not run twice: it files each report and says under which number.

It writes down what it begins and what it ends in a file of its process, in the
directory that the pipeline's context names: who reads these afterwards knows
what was done, and how often, whatever anybody says.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from google.protobuf import wrappers_pb2

from atomesh.agents import Agent, AgentFailed, ExecutionContext
from atomesh.core.clock import SYSTEM_CLOCK

JOURNAL = "journal"
"""The key in the context that names the directory."""
FILING_SECONDS = 0.004
"""What filing takes; so that a kill finds some of it under way."""


class Archive(Agent[wrappers_pb2.StringValue, wrappers_pb2.Int64Value]):
    """Files reports under rising numbers, each once."""

    name = "archive"
    capabilities = ("reporting",)
    slots = 4
    idempotent = False

    def __init__(self) -> None:
        """Nothing is filed yet."""
        self._numbers = itertools.count(1)
        self._files: dict[str, int] = {}

    async def execute(self, input: wrappers_pb2.StringValue, context: ExecutionContext, /) -> wrappers_pb2.Int64Value:
        """The number under which the report was filed."""
        directory = context.metadata.get(JOURNAL, "")
        if not directory:
            raise AgentFailed(f"the context names no {JOURNAL}; file reports through the demo's pipeline")
        journal = self._journal(directory)
        os.write(journal, f"begin {context.idempotency_key}\n".encode())
        await SYSTEM_CLOCK.sleep(FILING_SECONDS)
        os.write(journal, f"end {context.idempotency_key}\n".encode())
        return wrappers_pb2.Int64Value(value=next(self._numbers))

    async def close(self) -> None:
        """Closes its files."""
        for file in self._files.values():
            os.close(file)

    def _journal(self, directory: str) -> int:
        """One file of each process: a single write to it is whole or not at all, even where SIGKILL follows."""
        if directory not in self._files:
            path = Path(directory, f"{os.getpid()}.journal")
            self._files[directory] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return self._files[directory]
