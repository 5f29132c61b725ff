"""The whole mesh in virtual time, out of one seed: real registry, agents and clients, and everything that can go wrong.

    report = run_world(Scenario(seed=7, slots=(2, 4), clients=3, load=0.9, faults=(Kill(1.0, 2.0, "endpoint-1"),)))
    assert not report.violations, explain(report)

A *world* is made of a Scenario: endpoints with slots, clients, calls that
arrive whether or not anybody answers, costs of a Profile, faults of a schedule.
`random_scenario(seed)` draws all of it. What runs is the library itself,
unchanged: RegistryServer, AgentServer, Client, their muxes, leases, watches,
ejections and budgets, on a `atomesh.testing.memory.MemoryNetwork` that has
latency, spikes, partitions, pauses, kills and cuts.

At every event, and every 50 ms between them, these must hold:

- an endpoint never executes, and never promises, more than its slots
- a call ends exactly once, by its deadline, with its own answer or an
  AtomeshError; a stream's chunks come in order, each once
- what is not idempotent never runs twice, nothing runs more often than attempts
  are allowed, and executions that are repeated stay within the clients' budgets
- who is told that a call did not run is told the truth, for ever
- no client waits with nothing begun while a slot that it knows of is free (1 s,
  5 round trips, and without a mux the 5 s that a refusal may ask for)
- nothing leaves for an endpoint 50 ms after its client heard that it is gone
- every mux is as `mux.proto` says: ids, demands, grants, parts, sizes; and a
  grant is used or given back within 100 ms and 5 round trips
- every watch is ordered and unique, and true when all is over
- where nothing is broken, nobody works for a caller that has gone; where there is
  room as well, every call goes well; and a rolling restart loses no call
- when all is over, every slot is of use again, and nothing is taken, granted,
  wanted, in flight or waiting anywhere

The books are kept from outside (`invariants`), not by the library's counters.

The same seed gives the same trace, byte for byte, in any process. Replay one
with `python -m atomesh.testing.world --seed N`, run many with `make sim` and
`make sim-soak`. A host that is paused stands still as under SIGSTOP. Limits:
agents are `async def` (a thread's work takes no virtual time), HTTP pages are
not served, storage is memory, and time passes only where somebody waits: what
the library costs in CPU is not in it.
"""

from atomesh.testing.world.faults import Cut, Drag, Fail, Fault, Kill, Partition, Pause, Restart, Weather
from atomesh.testing.world.invariants import Violation
from atomesh.testing.world.profiles import Bimodal, Constant, Failures, LogUniform, Profile, Spiky
from atomesh.testing.world.runner import Outcome, explain, run_seeds
from atomesh.testing.world.scenario import Scenario, random_scenario
from atomesh.testing.world.world import Report, World, run_world

__all__ = [
    "Bimodal",
    "Constant",
    "Cut",
    "Drag",
    "Fail",
    "Failures",
    "Fault",
    "Kill",
    "LogUniform",
    "Outcome",
    "Partition",
    "Pause",
    "Profile",
    "Report",
    "Restart",
    "Scenario",
    "Spiky",
    "Violation",
    "Weather",
    "World",
    "explain",
    "random_scenario",
    "run_seeds",
    "run_world",
]
