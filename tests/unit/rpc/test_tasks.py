"""Background tasks with one owner."""

from __future__ import annotations

import asyncio
import logging

import pytest

from atomesh.rpc.tasks import Tasks


async def test_a_task_that_dies_is_logged_at_once_with_its_trace(caplog: pytest.LogCaptureFixture) -> None:
    async def dies() -> None:
        raise ZeroDivisionError("the ticker is gone")

    tasks = Tasks()
    task = tasks.spawn(dies(), "ticker")
    await asyncio.wait([task])
    (record,) = caplog.records
    assert record.levelno == logging.CRITICAL
    assert "'ticker'" in record.getMessage()
    assert record.exc_info is not None
    await tasks.cancel()


async def test_what_ends_well_or_is_cancelled_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks()
    await tasks.spawn(asyncio.sleep(0), "ends well")  # noqa: TID251 # a turn of the loop
    tasks.spawn(asyncio.Event().wait(), "waits")
    await tasks.cancel()
    assert caplog.records == []


async def test_cancel_waits_until_all_have_ended() -> None:
    ended: list[str] = []

    async def slow(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(10):
                await asyncio.sleep(0)  # noqa: TID251 # turns of the loop, not time
            ended.append(name)

    tasks = Tasks()
    for name in "abc":
        tasks.spawn(slow(name), name)
    await asyncio.sleep(0)  # noqa: TID251 # they begin
    await tasks.cancel()
    assert sorted(ended) == ["a", "b", "c"]
    await tasks.cancel()


async def test_a_task_that_cancels_all_does_not_wait_for_itself() -> None:
    tasks = Tasks()
    other = tasks.spawn(asyncio.Event().wait(), "other")

    async def ends_all() -> str:
        await tasks.cancel()
        return "went on"

    async with asyncio.timeout(5):
        assert await tasks.spawn(ends_all(), "drain") == "went on"
    assert other.cancelled()
