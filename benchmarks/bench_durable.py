"""What a checkpointed stage costs: begun and kept, and read again, one by one and 32 at once.

    python benchmarks/bench_durable.py [--stages 500] [--store postgresql://...] [--bytes 1000]

Beside it the time to open, and what dbos's own threads cost while nothing happens.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.pipelines.durable import DbosCheckpoints, open_checkpoints

IDLE_SECONDS = 5.0


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description="What a checkpointed stage costs.")
    parser.add_argument("--stages", type=int, default=500)
    parser.add_argument("--bytes", type=int, default=1000)
    parser.add_argument("--store", default="")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(bench(asked.store or str(Path(folder) / "runs.db"), asked.stages, b"x" * asked.bytes))


async def bench(store: str, stages: int, output: bytes) -> None:
    """Measures and prints."""
    checkpoints = open_checkpoints(store)
    began = SYSTEM_CLOCK.now()
    await checkpoints.open()
    opened = SYSTEM_CLOCK.now() - began
    table = Table("", "ms each", "CPU ms each")
    try:
        for at_once in (1, 32):
            run = f"run-{at_once}-{began}"
            for name in ("kept anew", "read again"):
                figures = await timed(stages, at_once, piece(checkpoints, run, output))
                table.add_row(f"{name}, {at_once} at once", *figures)
        cpu = time.process_time()
        await SYSTEM_CLOCK.sleep(IDLE_SECONDS)
        idle = (time.process_time() - cpu) / IDLE_SECONDS
        for at_once in (1, 32):
            await checkpoints.forget(f"run-{at_once}-{began}")
    finally:
        await checkpoints.close()
    Console().print(table)
    Console().print(
        f"opening {opened * 1000:.0f} ms; idle {idle * 100:.1f} % of a core; outputs of {len(output)} bytes"
    )


def piece(checkpoints: DbosCheckpoints, run: str, output: bytes) -> Callable[[int], Awaitable[bytes]]:
    """A piece that takes no time itself."""

    async def work() -> bytes:
        return output

    return lambda number: checkpoints.stage(run, f"stage/{number}", work, repeat=False)


async def timed(stages: int, at_once: int, do: Callable[[int], Awaitable[bytes]]) -> tuple[str, str]:
    """Milliseconds and CPU milliseconds of each."""
    numbers = iter(range(stages))

    async def line() -> None:
        for number in numbers:
            await do(number)

    began, cpu = SYSTEM_CLOCK.now(), time.process_time()
    await asyncio.gather(*[line() for _ in range(at_once)])
    return (
        f"{(SYSTEM_CLOCK.now() - began) / stages * 1000:.2f}",
        f"{(time.process_time() - cpu) / stages * 1000:.2f}",
    )


if __name__ == "__main__":
    main()
