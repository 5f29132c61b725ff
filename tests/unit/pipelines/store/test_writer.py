from __future__ import annotations

import threading
from concurrent.futures import Future

import pytest

from atomesh.pipelines.errors import StoreUnavailable
from atomesh.pipelines.store.writer import Writer


class Written:
    """What the thread was given, turn by turn."""

    def __init__(self) -> None:
        self.turns: list[list[int]] = []
        self.gave_way: list[int] = []
        self.hold = threading.Event()
        self.hold.set()

    def __call__(self, items: list[int], hurry: bool) -> None:
        self.hold.wait()
        if items:
            self.turns.append(items)


async def test_what_is_handed_over_is_gathered_and_written_in_order() -> None:
    written = Written()
    writer: Writer[int] = Writer("store test", written, limit=100, gave_way=written.gave_way.append)
    writer.start()
    for number in range(50):
        writer.hand_over(number)
    await writer.run(lambda: None)
    assert [item for turn in written.turns for item in turn] == list(range(50))
    assert len(written.turns) <= 3, "items that come together are written together"
    await writer.close()


async def test_work_comes_after_what_was_handed_over_before_and_its_error_is_told() -> None:
    written = Written()
    writer: Writer[int] = Writer("store test", written, limit=100, gave_way=written.gave_way.append)
    writer.start()
    writer.hand_over(1)
    assert await writer.run(lambda: list(written.turns)) == [[1]]
    with pytest.raises(ZeroDivisionError):
        await writer.run(lambda: 1 / 0)
    assert await writer.run(lambda: 2) == 2, "an error is its owner's alone"
    await writer.close()


async def test_closing_writes_what_is_left_and_ends_the_thread() -> None:
    written = Written()
    writer: Writer[int] = Writer("store test", written, limit=100, gave_way=written.gave_way.append)
    writer.start()
    writer.hand_over(1)
    await writer.close()
    await writer.close()
    assert written.turns == [[1]]
    assert not writer.runs


async def test_while_the_thread_hangs_no_more_than_the_limit_is_held() -> None:
    written = Written()
    writer: Writer[int] = Writer("store test", written, limit=10, gave_way=written.gave_way.append)
    writer.start()
    written.hold.clear()
    for number in range(25):
        writer.hand_over(number)
    assert written.gave_way[-1] == 14, "the oldest give way, and somebody is told"
    written.hold.set()
    await writer.close()
    assert written.turns[-1][-1] == 24, "the newest are kept"


async def test_work_that_waits_when_the_thread_ends_is_told_so() -> None:
    written = Written()
    writer: Writer[int] = Writer("store test", written, limit=10, gave_way=written.gave_way.append)
    writer.start()
    await writer.close()
    writer._jobs.append((lambda: 1, done := Future[int]()))
    writer._refuse_jobs()
    with pytest.raises(StoreUnavailable, match="closed"):
        done.result()
