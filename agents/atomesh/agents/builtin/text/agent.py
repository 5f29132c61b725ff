"""The agent `text-processor`: `process`, served.

It runs in the event loop. A text of the usual length takes under a
millisecond, the longest some ten: on threads, which share one interpreter
with the loop, the same calls took longer (1.2 to 2 times, and their p99 five
times at four at once).
"""

from __future__ import annotations

import itertools
import time

from atomesh.agents.agent import Agent
from atomesh.agents.builtin.text.languages import UnsupportedLanguage
from atomesh.agents.builtin.text.processor import UnknownOperation, process
from atomesh.agents.context import ExecutionContext
from atomesh.core.endpoint import Capability
from atomesh.core.errors import InvalidInput, Violation
from atomesh.text.v1.text_pb2 import TextInput, TextOutput


class TextProcessor(Agent[TextInput, TextOutput]):
    """Summarizes texts, extracts their keywords, and tells whether they speak well or ill."""

    name = "text-processor"
    capabilities = (Capability("content_analysis"), Capability("data_transformation"))
    idempotent = True

    def __init__(self) -> None:
        """Has executed nothing yet."""
        self._count = itertools.count(1)

    async def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
        """One operation on one text."""
        begun = time.perf_counter()
        try:
            output = process(input)
        except UnsupportedLanguage as error:
            raise InvalidInput(violations=[Violation("options.language", str(error), "text.language")]) from None
        except UnknownOperation as error:
            raise InvalidInput(violations=[Violation("operation", str(error), "text.operation.unknown")]) from None
        output.metadata["instance_id"] = context.instance_id
        output.metadata["execution_count"] = str(next(self._count))
        output.metadata["operation"] = input.operation
        output.processing_time_ms = (time.perf_counter() - begun) * 1000
        return output
