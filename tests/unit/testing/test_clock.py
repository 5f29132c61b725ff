"""Both clocks are the core's Clock; the manual one moves by the test's hand alone."""

from __future__ import annotations

import asyncio

import pytest

from atomesh.core.clock import Clock
from atomesh.testing import WALL_AT_ZERO, ManualClock, VirtualClock


def test_both_are_what_the_core_calls_a_clock() -> None:
    clocks: list[Clock] = [ManualClock(), VirtualClock()]  # mypy proves it
    assert clocks[0].now() == 0.0


async def test_virtual_wall_time_keeps_step_with_the_loop(virtual_clock: VirtualClock) -> None:
    await virtual_clock.sleep(90)
    assert (virtual_clock.now(), virtual_clock.wall()) == (90.0, WALL_AT_ZERO + 90.0)


async def _turn() -> None:
    await asyncio.sleep(0)  # noqa: TID251 - a turn of the loop, no time


async def test_sleepers_wake_when_their_time_has_come_and_not_before() -> None:
    clock = ManualClock()
    woken: list[str] = []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(name)

    async with asyncio.TaskGroup() as group:
        for name, seconds in (("late", 2.0), ("first", 1.0), ("second", 1.0)):
            group.create_task(sleeper(name, seconds))
        await _turn()
        clock.advance(0.5)
        await _turn()
        assert (woken, clock.sleepers) == ([], 3)
        clock.advance(0.5)
        await _turn()
        assert woken == ["first", "second"], "who came first must wake first"
        clock.advance(10)
    assert (woken[-1], clock.sleepers, clock.now()) == ("late", 0, 11.0)


async def test_a_cancelled_sleeper_is_forgotten() -> None:
    clock = ManualClock()
    task = asyncio.create_task(clock.sleep(1))
    await _turn()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert clock.sleepers == 0
    clock.advance(2)


async def test_a_sleep_of_nothing_returns_without_an_advance() -> None:
    await ManualClock().sleep(0)
    await ManualClock().sleep(-1)


def test_monotonic_time_never_goes_back_but_wall_time_may() -> None:
    clock = ManualClock(now=10.0, wall=500.0)
    with pytest.raises(ValueError, match="cannot go back by 1 s"):
        clock.advance(-1)
    clock.set_wall(100.0)
    clock.advance(1)
    assert (clock.now(), clock.wall()) == (11.0, 101.0)
