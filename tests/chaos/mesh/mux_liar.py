"""An endpoint of `task` that lies about its slots: `python mux_liar.py REGISTRY more|fewer|never|promises`.

`more` has 2 slots and says 64, `fewer` has 8 and says 1, `never` runs nothing and grants nothing, and `promises` grants
whatever is demanded of it and keeps none of that. Says its address once it is there; ends with its input.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys

from mesh_agents import Task  # type: ignore[import-not-found] # beside this script, which is run in its folder

from atomesh.agents import AgentServer
from atomesh.agents.admission import Asking
from atomesh.core.errors import NoFreeSlot
from atomesh.rpc.mux.slots import Claim

SAYS = {"more": (2, 64), "fewer": (8, 1), "never": (4, 4), "promises": (4, 4)}


def no_slot(claim: Claim, granted: bool, now: float) -> bool:
    return False


def no_place(asking: Asking, now: float) -> NoFreeSlot:
    return NoFreeSlot("as ever", retry_after=0.1)


def no_grant(claim: Claim, waiting: int, now: float) -> None:
    pass


def empty_promise(claim: Claim, waiting: int, now: float) -> None:
    if waiting > 0:
        claim.granted += waiting
        claim.wake()


async def main() -> None:
    registry, kind = sys.argv[1:]
    has, says = SAYS[kind]
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    server = AgentServer(Task(), registry=registry, slots=has)
    served = server.agents["task"]
    served.spec = dataclasses.replace(served.spec, slots=says)
    if kind in ("never", "promises"):
        demand = no_grant if kind == "never" else empty_promise
        vars(served.admission).update(enter=no_slot, try_enter=lambda: False, ask=no_place, demand=demand)
    async with server:
        await server.registered.wait()
        print(json.dumps({"address": server.address}), flush=True)
        await lines.read()


if __name__ == "__main__":
    asyncio.run(main())
