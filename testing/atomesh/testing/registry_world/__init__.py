"""One real registry in virtual time, out of one seed, with everybody around it that a registry can meet.

    report = run_world(random_scenario(17))
    assert not report.violations, explain(report)

A world has the library's own RegistryServer on a `MemoryNetwork`, owners that
register, renew, change, leave, crash and come back, rivals for one address,
old leases used again, guessed leases, watchers that nap, leave and resume from
where they left, from long ago, from the future and from other stores, and
askers that take snapshots. Faults are kills, restarts, pauses, partitions,
resets, a full and a slow disk, and a wall clock that is set. The store is one
that survives kills with exactly what was committed, or the library's own that
forgets.

All of it is noted as a history (`atomesh.testing.history`), and every promise
has a validator there. The same seed has the same history in every process.
Replay one with `python -m atomesh.testing.registry_world --seed N`.
"""

from atomesh.testing.registry_world.disk import Disk, DiskStorage
from atomesh.testing.registry_world.faults import CutOff, Fault, Full, Jump, Kill, Pause, Reset, Restart, Slow
from atomesh.testing.registry_world.ground import Notes
from atomesh.testing.registry_world.load import Load
from atomesh.testing.registry_world.rules import rules_of
from atomesh.testing.registry_world.runner import Outcome, explain, run_seeds
from atomesh.testing.registry_world.scenario import OwnerPlan, Scenario, WatcherPlan, random_scenario
from atomesh.testing.registry_world.world import RegistryWorld, Report, run_world

__all__ = [
    "CutOff",
    "Disk",
    "DiskStorage",
    "Fault",
    "Full",
    "Jump",
    "Kill",
    "Load",
    "Notes",
    "Outcome",
    "OwnerPlan",
    "Pause",
    "RegistryWorld",
    "Report",
    "Reset",
    "Restart",
    "Scenario",
    "Slow",
    "WatcherPlan",
    "explain",
    "random_scenario",
    "rules_of",
    "run_seeds",
    "run_world",
]
