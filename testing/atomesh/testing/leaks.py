"""What a test left behind: tasks, threads, child processes, open gRPC channels.

`LeakCheck()` before the test, `leaks()` after it: one line for each thing that
is there now and was not before; an empty list means that nothing is left. Tasks
are asked for apart (`leftover_tasks`), since they die with their loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# linux/prctl.h. An orphaned grandchild becomes our child instead of init's, so
# that a test which kills a parent and forgets the child is found out.
_PR_SET_CHILD_SUBREAPER = 36

# Turns of the loop, then real seconds, for what is on its way out. grpc.aio's
# server ends its own tasks some turns after `stop()` returns; half of these
# figures blames it on a loaded machine, double only delays the bad news.
_TURNS = 10
_SETTLE = 1.0


async def leftover_tasks(*, real_time: bool = True) -> list[str]:
    """The running loop's unfinished tasks but the caller's, after a moment to finish.

    In virtual time a moment would be a jump to the next timer, so there they
    get some turns of the loop and no time.
    """
    loop = asyncio.get_running_loop()
    give_up = loop.time() + (_SETTLE if real_time else 0.0)
    turn = 0
    while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
        if turn >= _TURNS and loop.time() >= give_up:
            return sorted(f"task {task.get_name()} still runs {task.get_coro()!r}" for task in tasks)
        await asyncio.sleep(0 if turn < _TURNS else 0.01)
        turn += 1
    return []


class ChannelLog:
    """Knows every `grpc.aio.Channel` made after `attach`, and whether it was closed.

    One that is dropped unclosed is closed by its finalizer, whenever that runs;
    it counts as a leak all the same.
    """

    def __init__(self) -> None:
        self._alive: weakref.WeakSet[Any] = weakref.WeakSet()
        self._dropped: list[str] = []
        self.made = 0
        """How many there were since `attach`."""

    def attach(self) -> None:
        """Wraps the constructor and the finalizer of `grpc.aio.Channel`, for the whole process."""
        from grpc.aio._channel import Channel  # grpc.aio.Channel is its abstract base

        channel_type: Any = Channel
        construct, finalize = channel_type.__init__, channel_type.__del__

        def constructed(channel: Any, target: str, *args: Any, **settings: Any) -> None:
            construct(channel, target, *args, **settings)
            self.made += 1
            channel._atomesh_target = target
            self._alive.add(channel)

        def finalized(channel: Any) -> None:
            if _is_open(channel):
                self._dropped.append(f"gRPC channel to {channel._atomesh_target} was dropped, not closed")
            finalize(channel)

        channel_type.__init__, channel_type.__del__ = constructed, finalized

    def live(self) -> set[Any]:
        """The channels that are open now."""
        return {channel for channel in self._alive if _is_open(channel)}

    def leaks(self, before: set[Any]) -> list[str]:
        """One line for each channel dropped unclosed since the last call, or open and not in `before`."""
        dropped, self._dropped = self._dropped, []
        left = self.live() - before
        for channel in left:
            self._alive.discard(channel)  # this test's fault, not the next one's
        return dropped + sorted(f"gRPC channel to {channel._atomesh_target} is still open" for channel in left)


def _is_open(channel: Any) -> bool:
    # grpc.aio.Channel has no public way to ask.
    return hasattr(channel, "_channel") and not channel._channel.closed()


class LeakCheck:
    """Remembers what there is at its beginning; `leaks` tells what came since."""

    def __init__(self, channels: ChannelLog | None = None) -> None:
        self._channels = channels
        self._threads = set(threading.enumerate())
        self._processes = set(_children())
        self._open = channels.live() if channels else set()

    def leaks(self) -> list[str]:
        """One line for each leftover. Leftover processes are killed, lest they disturb the next test."""
        channels = self._channels.leaks(self._open) if self._channels else []
        return [*self._thread_leaks(), *self._process_leaks(), *channels]

    def _thread_leaks(self) -> list[str]:
        # Daemon threads are let be: grpc's pollers are such and stay for good.
        new = [thread for thread in threading.enumerate() if thread not in self._threads and not thread.daemon]
        for thread in new:
            thread.join(_SETTLE)
        return [f"thread {thread.name} still runs" for thread in new if thread.is_alive()]

    def _process_leaks(self) -> list[str]:
        found = []
        for pid in sorted(set(_children()) - self._processes):
            command = _command(pid)
            # multiprocessing starts one for good with the first spawned process.
            if "multiprocessing.resource_tracker" in command:
                continue
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            found.append(f"process {pid} still lives: {command}")
        return found


def adopt_orphans() -> None:
    """Makes this process the parent of its orphaned descendants (Linux; elsewhere nothing happens)."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _children() -> Iterator[int]:
    """The living children of this process; none where there is no /proc."""
    own = str(os.getpid())
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # "pid (command) state ppid ..."; the command may hold anything.
            state, parent = stat.read_text(errors="replace").rpartition(")")[2].split()[:2]
            if parent == own and state not in "ZX":
                yield int(stat.parent.name)


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return "(gone meanwhile)"
