"""A blocked event loop is measured, and what blocked it is in the log."""

from __future__ import annotations

import asyncio
import logging
import threading
import time

import pytest
from prometheus_client import CollectorRegistry

from atomesh.rpc.watchdog import Watchdog

LIMIT = 0.02


def _blocks_the_loop() -> None:
    threading.Event().wait(LIMIT * 5)


async def test_what_blocks_the_loop_is_logged_once_with_its_stack(caplog: pytest.LogCaptureFixture) -> None:
    collectors = CollectorRegistry()
    watchdog = Watchdog(collectors, limit=LIMIT)
    watchdog.start()
    try:
        await asyncio.sleep(LIMIT)  # noqa: TID251 # a thread looks on in real time
        _blocks_the_loop()
        await asyncio.sleep(LIMIT)  # noqa: TID251 # the late timer runs
    finally:
        watchdog.stop()
    told = [record for record in caplog.records if "blocked for" in record.getMessage()]
    assert len(told) == 1, "once per block"
    assert told[0].levelno == logging.WARNING
    assert "_blocks_the_loop" in told[0].getMessage(), "the stack names who stood in the way"
    assert (collectors.get_sample_value("atomesh_event_loop_last_lag_seconds") or 0) >= 0
    assert (collectors.get_sample_value("atomesh_event_loop_lag_seconds_sum") or 0) > LIMIT * 2


async def test_a_loop_that_keeps_up_is_not_complained_of(caplog: pytest.LogCaptureFixture) -> None:
    watchdog = Watchdog(limit=1.0)
    watchdog.start()
    await asyncio.sleep(0.01)  # noqa: TID251 # some turns of a real loop
    watchdog.stop()
    watchdog.stop()
    assert caplog.records == []


async def test_its_thread_ends_with_it() -> None:
    watchdog = Watchdog(limit=0.02)
    watchdog.start()
    assert "atomesh-watchdog" in {thread.name for thread in threading.enumerate()}
    begun = time.perf_counter()
    watchdog.stop()
    assert "atomesh-watchdog" not in {thread.name for thread in threading.enumerate()}
    assert time.perf_counter() - begun < 1.0
