"""A stock client at 0.7 load over four slots: nobody is refused."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.text.v1.text_pb2 import TextInput

Serving = Callable[..., Any]

SLOTS = 4
LOAD = 0.7
WORK = 0.03  # seconds, mean; exponential, as Erlang would have it
CALLS = 300


async def test_a_stock_client_at_0_7_load_over_four_slots_is_never_refused(serving: Serving, echo: Any) -> None:
    rng = random.Random(11)

    async def work(input: TextInput, _: Any) -> None:
        await SYSTEM_CLOCK.sleep(float(input.content))

    async with serving(echo(work), slots=SLOTS) as (server, caller):
        calls = []
        for _ in range(CALLS):
            calls.append(asyncio.ensure_future(caller.typed.Execute(caller.input(f"{rng.expovariate(1 / WORK):.4f}"))))
            await SYSTEM_CLOCK.sleep(rng.expovariate(LOAD * SLOTS / WORK))
        ends = await asyncio.gather(*calls, return_exceptions=True)
        load = server.agents["echo"].admission.load()
    refused = [end for end in ends if isinstance(end, BaseException)]
    assert not refused, f"{len(refused)} of {CALLS} were refused at {LOAD} load: {refused[:1]}"
    assert (load.executions, load.refusals) == (CALLS, 0)
