"""A batch over a fleet of slots, in virtual time: so its figures are exact."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import DoubleValue

from atomesh.core import errors
from atomesh.core.context import Context
from atomesh.pipelines.batch import (
    PAIRS,
    BatchFailed,
    BatchInput,
    BatchItem,
    BatchSettings,
    BatchStatus,
    EmptyBatch,
    Ended,
    Outcome,
    Progress,
    Unobserved,
    open_batch,
    run_batch,
)
from atomesh.testing import VirtualClock

Fleet = Callable[..., Any]
Seconds = Callable[[float], DoubleValue]


def thousandfold(count: int, seed: int = 7) -> Iterator[DoubleValue]:
    """Costs from 10 ms to 10 s, as many of each order of magnitude."""
    rng = random.Random(seed)
    return (DoubleValue(value=10 ** rng.uniform(-2, 1)) for _ in range(count))


async def test_every_input_has_its_output_in_the_order_of_the_inputs(fleet: Fleet, seconds: Seconds) -> None:
    given = [0.3, 0.1, 0.2, 0.05]
    result = await run_batch(fleet(a=2), "a", [seconds(value) for value in given])
    assert [item.output.value for item in result.items] == given
    assert [output.value for output in result.outputs] == given
    assert result.summary.status is BatchStatus.SUCCESS
    assert (result.summary.total, result.summary.succeeded, result.summary.success_rate) == (4, 4, 1.0)


async def test_costs_that_differ_a_thousandfold_keep_the_fleet_busy_for_95_percent(fleet: Fleet) -> None:
    sixteen = fleet(a=16)
    settings = BatchSettings(timeout=1e6, keep=False)
    summary = (await run_batch(sixteen, "a", thousandfold(4000), settings)).summary
    assert summary.efficiency_fed > 0.99, "while there are inputs no slot is idle"
    assert summary.efficiency > 0.95, "the end, where the longest run alone, included"
    busy = sixteen.busy / (16 * summary.duration)
    assert summary.efficiency == pytest.approx(busy, abs=1e-3), "and that is what the fleet itself has seen"
    assert sixteen.sites["a"].most_waiting <= 2, "what waits in the client is the reserve, and no more"


async def test_in_order_the_fleet_is_as_busy(fleet: Fleet) -> None:
    settings = BatchSettings(timeout=1e6, ordered=True, keep=False)
    summary = (await run_batch(fleet(a=16), "a", thousandfold(4000), settings)).summary
    assert summary.efficiency > 0.95


async def test_endpoints_that_join_and_leave_are_followed(fleet: Fleet, virtual_clock: VirtualClock) -> None:
    growing = fleet(a=4)
    settings = BatchSettings(timeout=1e6, keep=False)
    inputs = (DoubleValue(value=0.1) for _ in range(4000))
    running = asyncio.create_task(run_batch(growing, "a", inputs, settings))
    await virtual_clock.sleep(10.05)
    assert growing.sites["a"].running == 4
    growing.resize("a", 16)
    await virtual_clock.sleep(1.02)
    assert growing.sites["a"].running == 16, "slots that join are used at once, not when something ends"
    growing.resize("a", 8)
    await virtual_clock.sleep(1.02)
    assert growing.sites["a"].running == 8
    assert len(growing.sites["a"].queue) <= 2
    summary = (await running).summary
    assert summary.efficiency > 0.95
    assert summary.concurrency_max == 18


async def test_what_others_take_is_left_to_them_and_taken_back_when_they_leave(
    fleet: Fleet, virtual_clock: VirtualClock
) -> None:
    shared = fleet(a=16)
    site = shared.sites["a"]
    site.others = 8
    settings = BatchSettings(timeout=1e6, keep=False)
    inputs = (DoubleValue(value=30.0) for _ in range(64))
    running = asyncio.create_task(run_batch(shared, "a", inputs, settings))
    await virtual_clock.sleep(1)
    assert (site.running, len(site.queue)) == (8, 2)
    site.others = 0
    site.serve()
    await virtual_clock.sleep(0.2)
    assert site.running == 16, "though nothing of the batch's own has ended"
    await running


async def test_a_cap_holds(fleet: Fleet) -> None:
    big = fleet(a=16)
    settings = BatchSettings(max_concurrency=3, keep=False)
    summary = (await run_batch(big, "a", (DoubleValue(value=0.1) for _ in range(100)), settings)).summary
    assert big.most_outstanding == summary.concurrency_max == 3
    assert summary.efficiency > 0.95, "of what the cap allows"


async def test_an_async_iterable_that_takes_its_time_is_read_as_it_comes(
    fleet: Fleet, virtual_clock: VirtualClock
) -> None:
    async def slowly() -> AsyncIterator[DoubleValue]:
        for value in (0.5, 0.5, 0.5):
            await virtual_clock.sleep(1)
            yield DoubleValue(value=value)

    ends = []
    async with open_batch(fleet(a=2), "a", slowly()) as batch:
        async for item in batch:
            ends.append((item.index, round(virtual_clock.now(), 3)))
    assert ends == [(0, 1.5), (1, 2.5), (2, 3.5)], "an item does not wait for the next input"


async def test_fifty_thousand_inputs_are_never_held_together(fleet: Fleet) -> None:
    taken = 0

    def inputs() -> Iterator[DoubleValue]:
        nonlocal taken
        for _ in range(50_000):
            taken += 1
            yield DoubleValue(value=0.01)

    most = seen = 0
    async with open_batch(fleet(a=256), "a", inputs(), BatchSettings(timeout=1e6)) as batch:
        async for _ in batch:
            seen += 1
            most = max(most, taken - seen)
    assert seen == 50_000
    assert most < 256 + 32 + 16 + 600, "windows, inputs at hand and what a burst ends at once: not what came before"


async def test_results_that_nobody_reads_stop_the_batch(fleet: Fleet, virtual_clock: VirtualClock) -> None:
    taken = 0

    def inputs() -> Iterator[DoubleValue]:
        nonlocal taken
        for _ in range(10_000):
            taken += 1
            yield DoubleValue(value=0.01)

    settings = BatchSettings(max_unread=50)
    async with open_batch(fleet(a=4), "a", inputs(), settings) as batch:
        await anext(batch)
        await virtual_clock.sleep(100)
        assert taken <= 50 + 6 + 16 + 2, "unread results, the window and the inputs at hand are all there is"
        rest = [item async for item in batch]
    assert len(rest) == 9_999, "reading goes on where it had stopped"


async def test_in_order_and_nobody_reading_the_one_that_all_wait_for_is_begun(fleet: Fleet) -> None:
    inputs = [("slow", DoubleValue(value=10.0))] * 2 + [("fast", DoubleValue(value=0.001))] * 300
    inputs += [("slow", DoubleValue(value=10.0))] * 3
    settings = BatchSettings(ordered=True, max_unread=20)
    async with open_batch(fleet(slow=1, fast=4), PAIRS, inputs, settings) as batch:
        order = [item.index async for item in batch]
    assert order == list(range(305))


async def test_results_come_as_they_complete_or_in_order(fleet: Fleet, seconds: Seconds) -> None:
    given = [seconds(value) for value in (0.4, 0.1, 0.3, 0.2)]
    for ordered, expected in ((False, [1, 3, 2, 0]), (True, [0, 1, 2, 3])):
        async with open_batch(fleet(a=4), "a", given, BatchSettings(ordered=ordered)) as batch:
            assert [item.index async for item in batch] == expected


# -- what goes wrong ---------------------------------------------------------


async def test_one_bad_item_never_ends_the_batch(fleet: Fleet, seconds: Seconds) -> None:
    given: list[Any] = [seconds(0.1), seconds(-0.1), "no message", ValueError("line 4 is no JSON"), seconds(0.2)]
    result = await run_batch(fleet(a=2), "a", given)
    outcomes = [item.outcome for item in result.items]
    assert outcomes == [Outcome.SUCCESS, Outcome.FAILED, Outcome.FAILED, Outcome.FAILED, Outcome.SUCCESS]
    assert [item.error_type for item in result.items] == ["", "NO_WAY", "WRONG_TYPE", "ValueError", ""]
    assert result.summary.by_error == {"NO_WAY": 1, "WRONG_TYPE": 1, "ValueError": 1}
    assert result.summary.status is BatchStatus.FAILED, "two of five are less than half"
    assert [item.may_have_run for item in result.items] == [False] * 5, "the agent's own no is no doubt"


async def test_an_iterable_that_raises_ends_the_batch_with_what_it_has_and_says_so(
    fleet: Fleet, seconds: Seconds
) -> None:
    def broken() -> Iterator[DoubleValue]:
        yield seconds(0.1)
        yield seconds(0.2)
        raise OSError("the disk is gone")

    summary = (await run_batch(fleet(a=2), "a", broken())).summary
    assert (summary.succeeded, summary.total) == (2, 2)
    assert summary.ended is Ended.BROKEN_INPUTS
    assert summary.inputs_error == "OSError: the disk is gone"
    assert summary.status is BatchStatus.PARTIAL, "what came after is not known"


async def test_an_empty_batch_is_refused_in_one_line(fleet: Fleet) -> None:
    with pytest.raises(EmptyBatch, match="the batch is empty: there is no input; give it one at least"):
        await run_batch(fleet(a=1), "a", [])


async def test_an_unknown_agent_is_said_before_anything_is_read(fleet: Fleet) -> None:
    inputs = iter([DoubleValue(value=1.0)])
    with pytest.raises(errors.UnknownAgent):
        await run_batch(fleet(a=1), "b", inputs)
    assert list(inputs), "nothing was read"


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"timeout": 0}, "timeout 0 is not a positive number of seconds"),
        ({"item_timeout": float("nan")}, "item_timeout nan"),
        ({"min_success": 1.5}, "min_success 1.5 is no share; expected 0 to 1"),
        ({"max_concurrency": 0}, "max_concurrency 0 is less than 1"),
        ({"look_ahead": 0}, "look_ahead 0 is less than 1"),
        ({"id": "x" * 65}, "is not at most 64 printable characters"),
    ],
)
def test_settings_that_make_no_sense_are_named(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(errors.InvalidArgument, match=complaint):
        BatchSettings(**settings)


async def test_a_strict_batch_raises_at_the_end_with_every_error_and_the_count_of_successes(
    fleet: Fleet, seconds: Seconds
) -> None:
    given = [seconds(-0.1 if n % 3 == 0 else 0.1) for n in range(9)]
    with pytest.raises(BatchFailed, match=r"3 of 9 items of batch b7 have no output, 6 have: 3 NO_WAY") as caught:
        await run_batch(fleet(a=2), "a", given, BatchSettings(strict=True, id="b7"))
    assert [error.index for error in caught.value.summary.errors] == [0, 3, 6]
    assert caught.value.data["succeeded"] == 6


# -- time --------------------------------------------------------------------


async def test_an_item_that_takes_too_long_fails_by_itself(fleet: Fleet, seconds: Seconds) -> None:
    given = [seconds(0.1), seconds(9.0), seconds(0.1)]
    result = await run_batch(fleet(a=3), "a", given, BatchSettings(item_timeout=1.0))
    assert [item.error_type for item in result.items] == ["", "DEADLINE_EXCEEDED", ""]
    assert result.items[1].may_have_run, "nobody knows how far it came"
    assert result.summary.duration == pytest.approx(1.0)


async def test_a_batch_that_times_out_keeps_what_is_finished(fleet: Fleet) -> None:
    site = fleet(a=2)
    result = await run_batch(site, "a", [DoubleValue(value=1.0)] * 20, BatchSettings(timeout=3.5))
    summary = result.summary
    assert (summary.succeeded, summary.timed_out, summary.not_run) == (6, 4, 10)
    assert summary.ended is Ended.TIMEOUT
    assert summary.status is BatchStatus.FAILED
    assert summary.duration == pytest.approx(3.5)
    assert site.cancelled == 4, "what ran is cancelled"
    assert site.sites["a"].running == 0
    late = [item for item in result.items if item.outcome is Outcome.TIMED_OUT]
    assert len(late) == 4
    assert all(item.may_have_run for item in late)


async def test_a_source_that_never_comes_does_not_outlive_the_batchs_time(fleet: Fleet, seconds: Seconds) -> None:
    closed = []

    async def stuck() -> AsyncIterator[DoubleValue]:
        try:
            yield seconds(0.1)
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    summary = (await run_batch(fleet(a=1), "a", stuck(), BatchSettings(timeout=5))).summary
    assert (summary.succeeded, summary.ended) == (1, Ended.TIMEOUT)
    assert summary.duration == pytest.approx(5.0)
    assert closed, "a generator that was not read to its end is closed"


async def test_cancelling_the_caller_cancels_what_runs_and_is_not_swallowed(
    fleet: Fleet, virtual_clock: VirtualClock
) -> None:
    site = fleet(a=4)
    running = asyncio.create_task(run_batch(site, "a", [DoubleValue(value=9.0)] * 20))
    await virtual_clock.sleep(1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert site.cancelled == 6, "four that ran and two that waited"
    assert site.sites["a"].running == 0


async def test_leaving_early_cancels_what_runs(fleet: Fleet) -> None:
    site = fleet(a=4)
    async with open_batch(site, "a", thousandfold(1000)) as batch:
        async for _ in batch:
            break
    assert site.cancelled > 0
    assert site.sites["a"].running == 0
    summary = batch.summary()
    assert summary.ended is Ended.STOPPED
    assert summary.cancelled == site.cancelled


async def test_a_batch_that_is_stopped_gives_out_what_has_finished(fleet: Fleet) -> None:
    outcomes = []
    async with open_batch(fleet(a=2), "a", [DoubleValue(value=1.0)] * 10) as batch:
        async for item in batch:
            outcomes.append(item.outcome)
            if len(outcomes) == 3:
                batch.stop()
    assert outcomes.count(Outcome.SUCCESS) in (3, 4)
    assert Outcome.CANCELLED in outcomes
    assert batch.summary().ended is Ended.STOPPED


# -- pairs -------------------------------------------------------------------


async def test_items_go_where_there_is_capacity(fleet: Fleet) -> None:
    both = fleet(a=4, b=12)
    rng = random.Random(3)
    inputs = [(rng.choices("ab", (1, 3))[0], DoubleValue(value=0.1)) for _ in range(2000)]
    summary = (await run_batch(both, PAIRS, inputs, BatchSettings(keep=False))).summary
    assert summary.target == "pairs"
    assert {name: share.items for name, share in summary.by_target.items()} == {
        name: sum(target == name for target, _ in inputs) for name in "ab"
    }
    assert summary.efficiency > 0.9, "both are busy though neither knows of the other"


async def test_one_slow_agent_does_not_stop_the_others_before_the_look_ahead_is_used_up(
    fleet: Fleet, virtual_clock: VirtualClock
) -> None:
    inputs = [("slow", DoubleValue(value=50.0))] * 99 + [("fast", DoubleValue(value=0.1))] * 200
    settings = BatchSettings(look_ahead=100, timeout=1e6)
    fast = []
    async with open_batch(fleet(slow=1, fast=4), PAIRS, inputs, settings) as batch:
        async for item in batch:
            if item.target == "fast":
                fast.append(virtual_clock.now())
                if len(fast) == 200:
                    break
    assert fast[-1] < 10, "all of the fast one's items ended while the slow one did its first"


async def test_an_item_for_an_unknown_agent_fails_alone(fleet: Fleet, seconds: Seconds) -> None:
    given: list[Any] = [("a", seconds(0.1)), ("nobody", seconds(0.1)), ("a", seconds(0.1)), "no pair", (7, seconds(1))]
    result = await run_batch(fleet(a=2), PAIRS, given)
    assert [item.error_type for item in result.items] == [
        "", "UNKNOWN_AGENT", "", "INVALID_ARGUMENT", "INVALID_ARGUMENT",
    ]  # fmt: skip
    assert result.items[1].seconds == 0.0


# -- what is told ------------------------------------------------------------


async def test_each_item_has_an_idempotency_key_of_its_own(fleet: Fleet, seconds: Seconds) -> None:
    site = fleet(a=1)
    given = [seconds(0.1), BatchInput(seconds(0.1), key="line-7")]
    await run_batch(site, "a", given, BatchSettings(id="b1", context=Context(user_id="ada")))
    assert [context.idempotency_key for context in site.contexts] == ["b1/0", "b1/line-7"]
    assert {context.user_id for context in site.contexts} == {"ada"}
    own = fleet(a=1)
    await run_batch(own, "a", [seconds(0.1)], BatchSettings(context=Context(idempotency_key="job-9")))
    assert own.contexts[0].idempotency_key == "job-9/0"


async def test_items_with_long_keys_have_keys_that_can_be_sent(fleet: Fleet, seconds: Seconds) -> None:
    site, names = fleet(a=1), ("k" * 500, "k" * 501, "ключ", "\ud800")
    given = [BatchInput(seconds(0.1), key=name) for name in names]
    result = await run_batch(site, "a", given, BatchSettings(id="b1"))
    assert [item.key for item in result.items] == list(names), "as they were given"
    keys = [context.idempotency_key for context in site.contexts]
    assert len(set(keys)) == 4
    assert all(key.isascii() and len(key) <= 128 for key in keys)


async def test_an_observer_hears_of_items_before_they_are_sent_and_after(fleet: Fleet, seconds: Seconds) -> None:
    site = fleet(a=1)

    class Book(Unobserved):
        def __init__(self) -> None:
            self.told: list[str] = []
            self.sent: set[str] = set()

        def started(self, batch_id: str, target: str) -> None:
            self.told.append(f"started {target}")

        def items_starting(self, batch_id: str, keys: Any) -> None:
            self.sent |= set(keys)
            assert len(site.begun) < len(self.sent), "nothing is sent before this returns"

        def item_ended(self, batch_id: str, item: BatchItem) -> None:
            assert item.key in self.sent
            self.told.append(f"{item.key} {item.outcome}")

        def ended(self, summary: Any) -> None:
            self.told.append(f"ended {summary.status}")

    book = Book()
    await run_batch(site, "a", [seconds(0.1), seconds(-0.1)], observer=book)
    assert book.told == ["started a", "0 success", "1 failed", "ended partial"]


async def test_an_observer_that_raises_ends_the_batch_with_its_error(fleet: Fleet, seconds: Seconds) -> None:
    class Full(Unobserved):
        def items_starting(self, batch_id: str, keys: Any) -> None:
            raise OSError("the disk is full")

    site = fleet(a=1)
    with pytest.raises(OSError, match="the disk is full"):
        await run_batch(site, "a", [seconds(0.1)], observer=Full())
    assert not site.begun, "what was not written down is not sent"


async def test_progress_is_told_ten_times_a_second_at_most_and_at_the_end(fleet: Fleet) -> None:
    told: list[Progress] = []
    given = [DoubleValue(value=0.01)] * 1000
    summary = (await run_batch(fleet(a=2), "a", given, progress=told.append)).summary
    assert len(told) <= 10 * summary.duration + 2
    assert len(told) > 30
    assert told[-1].over
    assert (told[-1].ended, told[-1].total) == (1000, 1000)
    assert [p.ended for p in told] == sorted(p.ended for p in told)
