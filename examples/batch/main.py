"""4,000 documents through three text agents, one of which is killed in the middle: nothing is lost."""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from atomesh.balancer import Client
from atomesh.core import Contract
from atomesh.pipelines.batch import BatchSettings, Outcome, open_batch
from atomesh.registry import MemoryStorage, RegistryServer
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

TEXT = Contract("text-processor", TextInput, TextOutput)
FOLDER = Path(__file__).parent.parent / "pipeline" / "documents"
COUNT = 4_000


def documents() -> Iterator[TextInput]:
    """Letters, made as they are asked for: no more than a few hundred exist at once."""
    texts = [path.read_text().strip() for path in sorted(FOLDER.glob("*.txt"))]
    for number in range(COUNT):
        yield TextInput(content=f"Letter {number}\n\n{texts[number % len(texts)]}", operation="sentiment")


@asynccontextmanager
async def text_agent(registry: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A text agent in a process of its own, once it is registered."""
    command = ("-m", "atomesh", "serve", "text-processor", "--registry", registry, "--json")
    quiet = ("--slots", "4", "--log-level", "error")
    process = await asyncio.create_subprocess_exec(sys.executable, *command, *quiet, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        said = json.loads(await process.stdout.readline())
        assert said["event"] == "ready", said
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def main() -> None:
    async with (
        RegistryServer(bind="127.0.0.1:0", storage=MemoryStorage()) as registry,
        text_agent(registry.address) as victim,
        text_agent(registry.address),
        text_agent(registry.address),
        Client(registry.address) as mesh,
    ):
        await mesh.meet("text-processor")
        print(f"{len(mesh.endpoints('text-processor'))} endpoints")

        moods: Counter[str] = Counter()
        moved = read = 0
        # In the order of the inputs; how many run at once follows the free slots.
        async with open_batch(mesh, TEXT, documents(), BatchSettings(ordered=True)) as batch:
            async for item in batch:
                assert item.index == read, "each input has one result, in order"
                read += 1
                if read == COUNT // 4:
                    victim.kill()
                    print(f"after {read:,} results one endpoint is killed")
                if item.outcome is Outcome.SUCCESS:
                    moods[item.output.result] += 1
                    moved += item.attempts > 1
            summary = batch.summary()

    print(f"{summary.succeeded:,} of {summary.total:,} succeeded, {summary.failed} failed: {summary.status}")
    print(", ".join(f"{count:,} {mood}" for mood, count in sorted(moods.items())))
    print(f"{moved} were under way at the one that died, and were done by another")
    print(f"{summary.throughput:,.0f} per second, {summary.p50_seconds * 1000:.1f} ms each in the middle")
    for endpoint, share in sorted(summary.by_endpoint.items()):
        print(f"  {endpoint}: {share.items:,}")


if __name__ == "__main__":
    asyncio.run(main())
