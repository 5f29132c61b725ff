"""A folder of documents through a pipeline of the text agent, and the report that comes of it."""

import asyncio
from pathlib import Path

from report import REPORT

from atomesh.agents import AgentServer
from atomesh.agents.builtin.text.agent import TextProcessor
from atomesh.balancer import Client
from atomesh.pipelines import Event, Outcome, Runner, StageEnded, read_pipeline
from atomesh.registry import MemoryStorage, RegistryServer

HERE = Path(__file__).parent
FOLDER = HERE / "documents"


def follow(event: Event) -> None:
    """Says when a stage is done, while the run goes on."""
    if isinstance(event, StageEnded):
        print(f"  {event.stage.stage}: {event.stage.items} documents, {event.stage.status.name.lower()}")


async def main() -> None:
    spec, _ = read_pipeline((HERE / "report.yaml").read_text(), "report.yaml")
    print(f"report.yaml and report.py are the same pipeline: {spec == REPORT.spec}")

    files = sorted(FOLDER.glob("*.txt"))
    # The first line is the title.
    titles, texts = zip(*(file.read_text().split("\n", 1) for file in files), strict=True)
    async with (
        RegistryServer(bind="127.0.0.1:0", storage=MemoryStorage()) as registry,
        AgentServer(TextProcessor(), bind="127.0.0.1:0", registry=registry.address) as first,
        AgentServer(TextProcessor(), bind="127.0.0.1:0", registry=registry.address) as second,
        Client(registry.address) as mesh,
        Runner(mesh) as runner,
    ):
        await asyncio.gather(first.registered.wait(), second.registered.wait())
        plan = await REPORT.plan(mesh)  # here all types are checked, before anything runs
        documents = plan.contract.input(documents=[text.strip() for text in texts])
        outcome = await runner.run(plan, documents, listener=follow)
    show(list(titles), outcome)


def show(titles: list[str], outcome: Outcome) -> None:
    """Prints the report."""
    report = outcome.output  # its fields are those of `output` in the pipeline
    rows = zip(titles, report.moods, report.keywords, report.summaries, strict=True)  # type: ignore[attr-defined] # a message made with the plan
    for title, mood, keywords, summary in rows:
        print(f"\n{title} ({mood}): {keywords}\n  {summary}")
    counts = f"{report.positive} positive, {report.negative} negative"  # type: ignore[attr-defined] # the same message
    print(f"\n{len(titles)} documents: {counts}; the run: {outcome.record.status.name.lower()}")


if __name__ == "__main__":
    asyncio.run(main())
