"""The demo's own account: what is sent, what is counted, what counts as wrong."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from atomesh.balancer import Reply
from atomesh.balancer.work import Answer
from atomesh.cli._demo_work import OPERATIONS, Tally, documents, quantile
from atomesh.core.errors import Attempt, NoEndpoint
from atomesh.text.v1.text_pb2 import Keywords, Sentiment, TextInput, TextOutput
from atomesh.v1.agent_pb2 import ExecuteResponse, ExecutionInfo

SENT = TextInput(content="x", operation="sentiment")


def reply(output: Any, *attempts: Attempt) -> Reply[TextOutput]:
    response = ExecuteResponse(info=ExecutionInfo(endpoint="a:1"))
    return Reply(output, Answer(b"", response=response), "text-processor", attempts, 0.0)


def good() -> TextOutput:
    return TextOutput(sentiment=Sentiment(label="neutral"), metadata={"operation": "sentiment"})


def test_documents_are_real_texts_within_the_contracts_limits() -> None:
    texts = documents(3000)
    assert len(texts) == 3000
    assert {text.operation for text in texts} == set(OPERATIONS)
    assert all(80 <= len(text.content) <= 10_000 for text in texts)
    assert len({len(text.content) for text in texts}) > 300, "sizes vary"


@pytest.mark.parametrize(
    "output",
    [
        ExecutionInfo(),
        TextOutput(),
        TextOutput(sentiment=Sentiment(), metadata={"operation": "summarize"}),
        TextOutput(keywords=Keywords(), metadata={"operation": "sentiment"}),
    ],
)
def test_an_answer_that_is_not_what_was_asked_for_is_wrong(output: Any) -> None:
    tally = Tally(1)
    tally.record(SENT, reply(output), 0.1)
    assert len(tally.wrong) == 1


def test_calls_are_counted_by_who_answered_and_what_failed_before() -> None:
    tally = Tally(3)
    tally.record(SENT, reply(good()), 0.1)
    tally.record(SENT, reply(good(), Attempt("b:2", "CONNECTION_LOST", 0.1, None)), 0.3)
    tally.fail(NoEndpoint("nobody"))
    assert (tally.done, tally.answered, tally.wrong) == (3, 2, [])
    assert tally.failures == ["NO_ENDPOINT: nobody"]
    assert tally.by_endpoint == {"a:1": [0.1, 0.3]}
    assert tally.tries == {"CONNECTION_LOST": 1}
    assert tally.last_rerouted("b:2", since=0.0) is not None
    assert tally.last_rerouted("a:1", since=0.0) is None


async def test_a_third_is_waited_for() -> None:
    tally = Tally(3)
    waiting = asyncio.create_task(tally.until(1))
    await asyncio.wait([waiting], timeout=0.01)
    assert not waiting.done()
    tally.record(SENT, reply(good()), 0.1)
    await waiting


def test_quantiles_are_by_nearest_rank() -> None:
    assert quantile([], 0.99) == 0.0
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile(list(map(float, range(100))), 0.99) == 99.0
