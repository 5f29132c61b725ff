"""Test doubles for whoever builds on atomesh: a world where time is yours.

    async def lease_expires() -> None:
        clock = VirtualClock()
        await clock.sleep(3600)     # takes no time
        assert clock.now() == 3600

    run_virtual(lease_expires())

Two packages in it have doors of their own: `atomesh.testing.memory` is gRPC on
a network in memory, with faults; `atomesh.testing.world` is the whole mesh on
such a network, out of one seed, with rules that must hold at every event.

The library never imports this package.
"""

from atomesh.testing.clock import WALL_AT_ZERO, ManualClock, VirtualClock
from atomesh.testing.leaks import ChannelLog, LeakCheck, adopt_orphans, leftover_tasks
from atomesh.testing.loop import DeadlockError, LivelockError, VirtualTimeLoop, run_virtual

__all__ = [
    "WALL_AT_ZERO",
    "ChannelLog",
    "DeadlockError",
    "LeakCheck",
    "LivelockError",
    "ManualClock",
    "VirtualClock",
    "VirtualTimeLoop",
    "adopt_orphans",
    "leftover_tasks",
    "run_virtual",
]
