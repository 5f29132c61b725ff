"""A watcher in a process of its own: `python watch_slowly.py ADDRESS FILE`.

It watches everything, prints a line when it has the first message, reads
nothing until a line comes on its standard input, then reads on until another
line comes, and writes what it saw to FILE, as a history.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

import grpc.aio

from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.testing.history import STATES, Caller, Recorder, Trouble, Wanted, to_line

WHO = "sleeper"
SMALL = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_536))
"""A stream's window stays small, so that what is not read is soon not sent."""


async def main(address: str, file: Path) -> None:
    recorder = Recorder(SYSTEM_CLOCK.now, first=1_000_000)
    async with grpc.aio.insecure_channel(address, options=SMALL) as channel:
        watch = Caller(WHO, channel, recorder).watch(Wanted(states=STATES))
        async with contextlib.aclosing(watch):
            await anext(watch)
            began = SYSTEM_CLOCK.now()
            print("watching", flush=True)
            await asyncio.to_thread(sys.stdin.readline)
            recorder.note(Trouble(kind="unread", who=WHO, began=began, ended=SYSTEM_CLOCK.now()))
            over = asyncio.create_task(asyncio.to_thread(sys.stdin.readline))
            while not over.done():
                following = asyncio.ensure_future(anext(watch))
                await asyncio.wait([following, over], return_when=asyncio.FIRST_COMPLETED)
                if not following.done():
                    following.cancel()
                    await asyncio.wait([following])
    write(file, recorder)


def write(file: Path, recorder: Recorder) -> None:
    file.write_text("".join(to_line(fact) + "\n" for fact in recorder.facts))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
