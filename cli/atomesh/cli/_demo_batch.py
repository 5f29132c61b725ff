"""The demo's second act: a batch of documents through a pipeline, with endpoints killed in the middle of it.

The pipeline ends in an agent that must not run twice. What was done is read
from that agent's own journals afterwards, not from what the batch says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atomesh.balancer import Client
from atomesh.cli._demo_archive import JOURNAL
from atomesh.cli._demo_work import documents
from atomesh.pipelines import Pipeline, Runner, cel
from atomesh.pipelines.batch import BatchItem, BatchSettings, Outcome, Progress, RunExecutor, open_batch

BATCH_ID = "demo"
AHEAD = 2
"""Calls that may wait at an endpoint beyond its slots, for each of them, where round
trips are long beside the work (balancer/binding.py): a kill cuts these off too, and
nobody knows which of them had begun."""


def report_pipeline(journal: Path) -> Pipeline:
    """Summarize; mood and keywords side by side; all of it filed."""
    text = {"content": "$input.content"}
    return (
        Pipeline("filed-report", input_type="atomesh.text.v1.TextInput")
        .context(**{JOURNAL: str(journal)})
        .stage("summary", "text-processor", input={**text, "operation": "summarize"})
        .stage("mood", "text-processor", input={**text, "operation": "sentiment"}, after=["summary"])
        .stage("words", "text-processor", input={**text, "operation": "extract_keywords"}, after=["summary"])
        .stage(
            "filed", "archive", input={"value": cel("summary.result + ' [' + mood.result + ': ' + words.result + ']'")}
        )
        .output(number="$filed.value", mood="$mood.sentiment.label")
    )


@dataclass
class Filing:
    """What became of the batch."""

    total: int
    succeeded: set[str] = field(default_factory=set)
    """Keys of items that have their output."""
    failed: dict[str, str] = field(default_factory=dict)
    """Keys of those that have none, with their error's kind."""
    seconds: float = 0.0

    def take(self, item: BatchItem) -> None:
        """Takes an item that has ended."""
        if item.outcome is Outcome.SUCCESS:
            self.succeeded.add(item.key)
        else:
            self.failed[item.key] = getattr(item.error, "failed_with", "") or item.error_type

    def account(self, journal: Path, slots: int) -> dict[str, Any]:
        """The batch held against the journals; the endpoint that was killed had so many slots."""
        begun, ended = read_journals(journal)
        twice = sorted(key for key, times in begun.items() if times > 1)
        missing = sorted(self.succeeded - ended.keys())
        undone = self.total - len(self.succeeded) - len(self.failed)
        problems = [f"{len(twice)} documents were filed twice, such as {twice[0]}"] if twice else []
        if missing:
            problems.append(f"{len(missing)} documents have a number and are not filed, such as {missing[0]}")
        if undone:
            problems.append(f"{undone} documents have no outcome")
        others = {kind: count for kind, count in Counter(self.failed.values()).items() if kind != "CONNECTION_LOST"}
        if others:
            problems.append(f"documents failed otherwise than by the kill: {others}")
        met = slots + AHEAD * slots
        if len(self.failed) > met:
            problems.append(f"{len(self.failed)} documents failed, and the kill met {met} at most")
        return {
            "documents": self.total,
            "filed": len(self.succeeded),
            "cut_off": len(self.failed),
            "twice": len(twice),
            "lost": undone + len(missing),
            "seconds": round(self.seconds, 3),
            "problems": problems,
        }


async def file_all(
    client: Client, total: int, journal: Path, reached: Callable[[int], None], shown: Callable[[Progress], None]
) -> Filing:
    """Sends the documents through the pipeline; `reached` hears how many have ended."""
    filing = Filing(total)
    plan = await report_pipeline(journal).plan(client)
    async with Runner(client) as runner:
        executor = RunExecutor(runner, client)
        settings = BatchSettings(id=BATCH_ID)
        async with open_batch(executor, plan, iter(documents(total)), settings, progress=shown) as batch:
            async for item in batch:
                filing.take(item)
                reached(len(filing.succeeded) + len(filing.failed))
        filing.seconds = batch.summary().duration
    return filing


def read_journals(journal: Path) -> tuple[Counter[str], Counter[str]]:
    """How often each document was begun, and ended, by the archive's own word; by the key of its item."""
    begun: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    for path in journal.glob("*.journal"):
        for line in path.read_text().splitlines():
            what, _, key = line.partition(" ")
            (begun if what == "begin" else ended)[key.split("/")[1]] += 1
    return begun, ended


def told(report: dict[str, Any]) -> str:
    """The account in one line."""
    verdict = "nothing was lost, nothing done twice" if not report["problems"] else "this is not as it should be"
    return (
        f"{report['documents']} documents through a pipeline of 4 stages in {report['seconds']:.1f} s: "
        f"{report['filed']} filed, {report['cut_off']} cut off by the kill and not done again: {verdict}"
    )
