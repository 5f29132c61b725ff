"""A blocked event loop is measured, and what blocked it is in the log."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry

from atomesh.rpc.watchdog import Watchdog

LIMIT = 0.02
PATIENCE = 10.0  # seconds


def _blocks_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    """Until somebody complains: the thread that looks on may be late itself on a busy machine."""
    give_up = time.perf_counter() + PATIENCE
    while "in _blocks_the_loop" not in caplog.text and time.perf_counter() < give_up:
        threading.Event().wait(LIMIT)
    threading.Event().wait(LIMIT * 3)


def _holds_pythons_lock(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody else in the process runs meanwhile, time and again."""
    give_up = time.perf_counter() + PATIENCE
    while "in _holds_pythons_lock" not in caplog.text and time.perf_counter() < give_up:
        sum(range(5_000_000))


@pytest.mark.parametrize("blocks", [_blocks_the_loop, _holds_pythons_lock])
async def test_what_blocks_the_loop_is_logged_once_with_its_stack(
    caplog: pytest.LogCaptureFixture, blocks: Callable[[pytest.LogCaptureFixture], None]
) -> None:
    collectors = CollectorRegistry()
    watchdog = Watchdog(collectors, limit=LIMIT)
    watchdog.start()
    try:
        await asyncio.sleep(LIMIT)  # noqa: TID251 # a thread looks on in real time
        blocks(caplog)
        await asyncio.sleep(LIMIT)  # noqa: TID251 # the late timer runs
    finally:
        watchdog.stop()
    told = [record for record in caplog.records if f"in {blocks.__name__}" in record.getMessage()]
    assert len(told) == 1, "the stack names who stood in the way, once per block"
    assert told[0].levelno == logging.WARNING
    assert "has been blocked for" in told[0].getMessage()
    assert "the event loop goes on after" in caplog.text, "and how long it took in all is known afterwards"
    assert (collectors.get_sample_value("atomesh_event_loop_last_lag_seconds") or 0) >= 0
    assert (collectors.get_sample_value("atomesh_event_loop_lag_seconds_sum") or 0) > LIMIT


async def test_a_loop_that_keeps_up_is_not_complained_of(caplog: pytest.LogCaptureFixture) -> None:
    watchdog = Watchdog(limit=1.0)
    watchdog.start()
    await asyncio.sleep(0.01)  # noqa: TID251 # some turns of a real loop
    watchdog.stop()
    watchdog.stop()
    assert caplog.records == []


async def test_a_loop_that_waits_for_work_is_not_said_to_be_blocked_by_its_selector(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, loop = asyncio.Event(), asyncio.get_running_loop()
    watchdog = Watchdog(limit=LIMIT)
    # As if the process got no CPU: the beat stays out, and the loop has nothing to do until it hears of that.
    monkeypatch.setattr(watchdog, "_beats", lambda: None)
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda _: loop.call_soon_threadsafe(told.set))
    logger = logging.getLogger("atomesh.rpc.watchdog")
    logger.addHandler(handler)
    watchdog.start()
    try:
        async with asyncio.timeout(PATIENCE):
            await told.wait()
    finally:
        watchdog.stop()
        logger.removeHandler(handler)
    assert "nothing blocks it" in caplog.text
    assert "blocked for" not in caplog.text


async def test_its_thread_ends_with_it() -> None:
    watchdog = Watchdog(limit=0.02)
    watchdog.start()
    assert "atomesh-watchdog" in {thread.name for thread in threading.enumerate()}
    begun = time.perf_counter()
    watchdog.stop()
    assert "atomesh-watchdog" not in {thread.name for thread in threading.enumerate()}
    assert time.perf_counter() - begun < 1.0
