"""Test doubles for whoever builds on atomesh: a world where time is yours.

    async def lease_expires() -> None:
        clock = VirtualClock()
        await clock.sleep(3600)     # takes no time
        assert clock.now() == 3600

    run_virtual(lease_expires())

The library never imports this package.
"""

from atomesh.testing.clock import WALL_AT_ZERO, ManualClock, VirtualClock
from atomesh.testing.leaks import ChannelLog, LeakCheck, adopt_orphans, leftover_tasks
from atomesh.testing.loop import DeadlockError, VirtualTimeLoop, run_virtual

__all__ = [
    "WALL_AT_ZERO",
    "ChannelLog",
    "DeadlockError",
    "LeakCheck",
    "ManualClock",
    "VirtualClock",
    "VirtualTimeLoop",
    "adopt_orphans",
    "leftover_tasks",
    "run_virtual",
]
