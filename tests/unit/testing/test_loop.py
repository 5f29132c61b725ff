"""Time jumps, in order, the same way every time, and says so when nothing would ever happen."""

from __future__ import annotations

import asyncio
import socket
import threading
import time

import pytest

from atomesh.testing import DeadlockError, LivelockError, VirtualClock, VirtualTimeLoop, run_virtual


def test_an_hour_of_sleep_takes_no_time() -> None:
    async def main() -> float:
        await VirtualClock().sleep(3600)
        return asyncio.get_running_loop().time()

    started = time.perf_counter()
    assert run_virtual(main()) == 3600
    assert time.perf_counter() - started < 1, "virtual time must not be waited for"


def test_time_stands_still_while_callbacks_run() -> None:
    async def main() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        before = loop.time()
        for _ in range(1000):
            await asyncio.sleep(0)  # noqa: TID251 - turns of the loop are what is tested
        return before, loop.time()

    assert run_virtual(main(), start=5.0) == (5.0, 5.0)


def test_sleepers_wake_at_their_instants_and_in_their_order() -> None:
    async def main() -> list[tuple[float, str]]:
        clock = VirtualClock()
        woken: list[tuple[float, str]] = []

        async def sleeper(name: str, seconds: float) -> None:
            await clock.sleep(seconds)
            woken.append((clock.now(), name))

        async with asyncio.TaskGroup() as group:
            for name, seconds in (("slow", 3.0), ("quick", 0.5), ("middle", 1.5)):
                group.create_task(sleeper(name, seconds))
        return woken

    assert run_virtual(main()) == [(0.5, "quick"), (1.5, "middle"), (3.0, "slow")]


def test_two_runs_of_one_world_are_the_same() -> None:
    async def main() -> list[tuple[float, int]]:
        clock = VirtualClock()
        seen: list[tuple[float, int]] = []

        async def ticker(number: int) -> None:
            for _ in range(20):
                await clock.sleep(0.1 + number % 3 * 0.05)
                seen.append((clock.now(), number))

        async with asyncio.TaskGroup() as group:
            for number in range(10):
                group.create_task(ticker(number))
        return seen

    assert run_virtual(main()) == run_virtual(main())


def test_a_timeout_fires_at_its_instant() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2.5):
                await asyncio.Event().wait()
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 2.5


@pytest.mark.parametrize("start", [0.0, 1e6, 1e9])
def test_a_timer_runs_however_late_the_clock_began(start: float) -> None:
    async def main() -> float:
        await VirtualClock().sleep(0.001)
        return asyncio.get_running_loop().time()

    assert run_virtual(main(), start=start) == pytest.approx(start + 0.001, abs=1e-6)


def test_when_nobody_can_ever_go_on_it_says_who_waits_and_where() -> None:
    async def main() -> None:
        await VirtualClock().sleep(7)
        await asyncio.Event().wait()

    with pytest.raises(DeadlockError, match=r"at 7 s of virtual time these wait: Task-\d+ at .*test_loop\.py:\d+$"):
        run_virtual(main())


def test_a_deadlock_with_an_open_socket_names_the_socket() -> None:
    async def main() -> None:
        mine, other = socket.socketpair()
        with mine, other:
            mine.setblocking(False)
            await asyncio.get_running_loop().sock_recv(mine, 1)

    with pytest.raises(DeadlockError, match="1 sockets are open, for which virtual time cannot wait"):
        run_virtual(main())


def test_a_deadlocked_loop_still_closes_and_runs_what_finally_says() -> None:
    ended: list[str] = []

    async def main() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("finally")

    with pytest.raises(DeadlockError):
        run_virtual(main())
    assert ended == ["finally"], "a deadlock must not skip the cleaning up"


def test_a_thread_is_waited_for_and_takes_no_virtual_time() -> None:
    async def main() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        late = loop.call_later(1.0, lambda: None)
        started = threading.Event()
        loop.call_soon(started.set)  # the thread ends after the loop has gone on
        await asyncio.to_thread(started.wait, 5)
        after = loop.time()
        late.cancel()
        await VirtualClock().sleep(1)
        return after, loop.time()

    assert run_virtual(main()) == (0.0, 1.0)


def test_a_loop_without_threads_left_jumps_again() -> None:
    loop = VirtualTimeLoop()
    try:
        loop.run_until_complete(asyncio.wait_for(loop.run_in_executor(None, int, "1"), 5))
        loop.run_until_complete(loop.shutdown_default_executor())
        assert loop.time() == 0.0
    finally:
        loop.close()


def test_turns_that_take_no_time_are_found_out() -> None:
    async def spin() -> None:
        def again() -> None:
            asyncio.get_running_loop().call_soon(again)

        again()
        await asyncio.Event().wait()

    with pytest.raises(LivelockError, match="no time passes"):
        run_virtual(spin())


def test_a_timer_that_comes_a_hair_too_early_for_ever_is_found_out() -> None:
    async def almost() -> None:
        def again() -> None:
            asyncio.get_running_loop().call_later(1e-12, again)  # less than a double can add to the time

        again()
        await asyncio.Event().wait()

    with pytest.raises(LivelockError):
        run_virtual(almost(), start=1e6)
