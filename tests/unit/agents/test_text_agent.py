"""The text agent as an agent: its contract's rules, its own refusals, its counts."""

import pytest

from atomesh.agents import AgentServer, run_once
from atomesh.agents.builtin.text.agent import TextProcessor
from atomesh.agents.spec import resolve
from atomesh.core.errors import InvalidInput
from atomesh.text.v1.text_pb2 import TextInput, TextOptions


def test_it_is_idempotent_and_has_a_typed_door() -> None:
    spec = resolve(TextProcessor())
    assert (spec.name, spec.idempotent) == ("text-processor", True)
    assert spec.typed_service == "atomesh.text.v1.TextProcessorService"
    assert AgentServer is not None


@pytest.mark.parametrize("operation", ["summarize", "extract_keywords", "sentiment"])
async def test_each_operation_fills_everything(operation: str) -> None:
    text = "I love this library. It is fast, small and very well documented. The tests are honest."
    output = await run_once(TextProcessor(), TextInput(content=text, operation=operation))
    assert output.result
    assert 0 <= output.confidence <= 1
    assert output.word_count == 16
    assert output.processing_time_ms > 0
    assert output.metadata["operation"] == operation
    assert output.metadata["execution_count"] == "1"
    assert len(output.metadata["instance_id"]) == 32


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (TextInput(content="x", operation="translate"), "operation"),
        (TextInput(content=" \n", operation="sentiment"), "content"),
        (TextInput(content="x" * 10_001, operation="sentiment"), "content"),
        (TextInput(content="x", operation="sentiment", options=TextOptions(language="de")), "options.language"),
        (TextInput(content="x", operation="summarize", options=TextOptions(language="xx")), "options.language"),
    ],
)
async def test_what_it_cannot_do_is_refused_by_name(message: TextInput, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        await run_once(TextProcessor(), message)
    assert [violation.field for violation in refused.value.violations] == [field]
