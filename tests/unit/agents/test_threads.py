"""As many threads as slots, started when needed, gone when told, and never in the way of the process's end."""

import threading

import pytest

from atomesh.agents._threads import DaemonThreads


def test_no_more_threads_than_its_count_and_no_fewer_than_run_at_once() -> None:
    threads = DaemonThreads("t", 3)
    together = threading.Barrier(3)
    for _ in range(5):
        futures = [threads.submit(together.wait, 5) for _ in range(3)]
        assert sorted(future.result(5) for future in futures) == [0, 1, 2]
    assert len(threads._threads) == 3
    threads.shutdown()
    assert not any(thread.is_alive() for thread in threads._threads)


def test_an_idle_thread_is_used_again() -> None:
    threads = DaemonThreads("t", 8)
    for _ in range(20):
        threads.submit(int).result(5)
        threads.submit(int).result(5)
    assert len(threads._threads) <= 2
    threads.shutdown()


def test_what_it_raises_belongs_to_who_waits() -> None:
    threads = DaemonThreads("t", 1)

    def leaves() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        threads.submit(leaves).result(5)
    assert threads.submit(int).result(5) == 0, "the thread must live on"
    threads.shutdown()


def test_threads_are_daemons() -> None:
    threads = DaemonThreads("t", 1)
    threads.submit(int).result(5)
    assert all(thread.daemon for thread in threads._threads), "a hanging execution must not keep the process alive"
    threads.shutdown()
