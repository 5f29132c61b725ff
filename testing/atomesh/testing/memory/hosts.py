"""Processes that can be frozen: a virtual-time loop whose callbacks know whose they are.

Everything that a process of the world does runs in a context of its host: its
tasks because tasks inherit their maker's context, its timers because they are
set from there, and what arrives from the network because the network hands it
over in the receiver's context. So a loop can stop one host alone, as SIGSTOP
does: what is due meanwhile (timers, answers, new calls) stays where it is and
runs late, in order, when the host goes on.

Tasks of this loop hash by the order of their birth and not by address: what
iterates over a set of them does so in the same order in every run.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
from collections import deque
from collections.abc import Coroutine
from typing import Any

from atomesh.testing.loop import VirtualTimeLoop

_OWNER: contextvars.ContextVar[object] = contextvars.ContextVar("owner", default=None)


def owned_context(owner: object) -> contextvars.Context:
    """A context in which whatever is started belongs to `owner`."""
    context = contextvars.copy_context()
    context.run(_OWNER.set, owner)
    return context


class HostLoop(VirtualTimeLoop):
    """Virtual time, in which the callbacks of an owner can be held up."""

    _ready: deque[asyncio.Handle]  # asyncio keeps what runs next here and offers no public view of it

    def __init__(self, start: float = 0.0) -> None:
        super().__init__(start)
        self._gate = _Gate()
        self._ready = self._gate
        births = itertools.count()

        def make(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> Any:
            return _Task(next(births), work, loop, options)

        self.set_task_factory(make)

    def freeze(self, owner: object) -> None:
        """Holds up all callbacks of the owner, those included that are about to run."""
        held = self._gate.held.setdefault(owner, [])
        for place, handle in enumerate(self._ready):
            if _owner(handle) is owner:
                held.append(handle)
                # The loop has counted what it is about to run: the place must not vanish.
                self._ready[place] = asyncio.Handle(_nothing, (), self)

    def thaw(self, owner: object) -> None:
        """Runs what was held up, in order, and nothing of it twice."""
        self._ready.extend(self._gate.held.pop(owner, ()))


class _Gate(deque[asyncio.Handle]):
    """What runs next; the handles of frozen owners go elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[object, list[asyncio.Handle]] = {}

    def append(self, handle: asyncio.Handle) -> None:
        if self.held and (held := self.held.get(_owner(handle))) is not None:
            held.append(handle)
        else:
            super().append(handle)


class _Task(asyncio.Task[Any]):
    def __init__(
        self,
        birth: int,
        work: Coroutine[Any, Any, Any],
        loop: asyncio.AbstractEventLoop,
        options: dict[str, Any],
    ) -> None:
        self._birth = birth
        super().__init__(work, loop=loop, **options)

    def __hash__(self) -> int:
        return self._birth

    def __eq__(self, other: object) -> bool:
        return self is other


def _owner(handle: asyncio.Handle) -> object:
    context: contextvars.Context = handle._context  # type: ignore[attr-defined] # asyncio's own, with no public view
    return context.get(_OWNER)


def _nothing() -> None:
    """Takes the place of a callback that was held up."""
