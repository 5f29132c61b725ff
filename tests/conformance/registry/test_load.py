"""Everybody at once, over every storage and real gRPC: owners that do as they like, watchers, a restart, a full disk."""

from __future__ import annotations

from typing import Any

from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.testing.history import Evidence
from atomesh.testing.registry_world import Load, OwnerPlan, WatcherPlan
from atomesh.testing.registry_world.scenario import AGENTS, WHOLE, random_wanted

OWNERS = tuple(
    OwnerPlan(f"owner-{number}", AGENTS[(number // 2) % 3], 7000 + number // 2, 2.0, 0.4) for number in range(16)
)
"""Two for each address."""


async def test_every_promise_is_kept_under_load_over_a_restart_and_a_full_disk(registry: Any) -> None:
    async with registry() as place:
        notes = place.notes(7)
        watchers = [WatcherPlan("watcher-1", WHOLE), WatcherPlan("watcher-2", WHOLE, leaves=0.7)]
        watchers += [
            WatcherPlan(f"watcher-{n}", random_wanted(notes.rng(f"wanted {n}")), leaves=1.0) for n in (3, 4, 5)
        ]
        async with Load(notes, place.channel, OWNERS, watchers) as load:
            await SYSTEM_CLOCK.sleep(1.5)
            with place.full():
                await SYSTEM_CLOCK.sleep(0.4)
            await SYSTEM_CLOCK.sleep(0.5)
            await place.restart()
            await SYSTEM_CLOCK.sleep(2.5)
            await load.rest()
        evidence = Evidence(place.recorder.facts)
        known = sum(len(log.steps) for log in evidence.logs.values())
        assert known > 30, f"there must be something to judge: {known} revisions"
        assert len(evidence.leases.by_name) > 16
