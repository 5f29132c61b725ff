"""Each piece of a run once, its output kept by dbos.

A piece is a dbos workflow of its own, `<run>/<key>`, without steps: the
workflow's output is the checkpoint. So pieces know no order, and a run that is
taken up again may do them in another one, or side by side. What a piece does is
a closure of this process, which dbos could never call by itself; it is handed
to the workflow in a context variable, and nothing that dbos might start on its
own has one.

The work runs in the caller's own task, with its context and its cancellation.
dbos is only asked, on its own thread, whether the piece may begin (one commit),
and told how it ended (another).

How a piece stands, by its workflow:

    none                  it runs
    SUCCESS, an output    that is the piece's, nothing runs
    SUCCESS, no output    its work had raised: runs again
    PENDING               it was under way when its process died: runs again
                          where it may be repeated, else Interrupted
    anything else         somebody meddled: as if it had raised
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from atomesh.core.errors import Conflict
from atomesh.pipelines.durable.dbos_thread import DbosThread, Given, Taken
from atomesh.pipelines.errors import Interrupted, StoreUnavailable
from atomesh.pipelines.store.location import Location

_T = TypeVar("_T")


class DbosCheckpoints:
    """Keeps outputs of finished pieces over the death of the process."""

    def __init__(self, location: Location) -> None:
        """Nothing is opened before `open`."""
        self.name = location.shown
        self._location = location
        self._dbos: DbosThread | None = None
        self._under_way: set[str] = set()

    async def open(self) -> None:
        """Ready for use.

        Raises:
            StoreUnusable: dbos is not installed, is used by this process otherwise, or cannot use what is there.
            StoreUnavailable: the database does not answer now.
        """
        if self._dbos is None:
            dbos = DbosThread(self._location)
            await asyncio.shield(asyncio.wrap_future(dbos.start()))
            self._dbos = dbos

    async def close(self) -> None:
        """Ends dbos's threads; pieces that are under way stay so, for who takes their run over."""
        if self._dbos is not None:
            dbos, self._dbos = self._dbos, None
            await asyncio.shield(asyncio.wrap_future(dbos.stop()))
            dbos.join()

    async def stage(self, run_id: str, key: str, work: Callable[[], Awaitable[bytes]], *, repeat: bool) -> bytes:
        """The output of one piece of a run: the kept one where it finished before, else that of `work`, kept first.

        Raises:
            Interrupted: it was under way when its process died, and must not run twice.
            StoreUnavailable: the database refuses; `executed` says whether the work was done by then.
            Whatever `work` raises: that is not kept, a later resumption tries again.
        """
        piece = f"{run_id}/{key}"
        if piece in self._under_way:
            raise Conflict(f"stage {key} of run {run_id} is under way in this process already")
        self._under_way.add(piece)
        try:
            return await self._stage(piece, work, repeat, (run_id, key))
        finally:
            self._under_way.discard(piece)

    async def forget(self, run_id: str) -> None:
        """Deletes all checkpoints of a run that has ended. Raises StoreUnavailable."""
        await self._asked(self._opened().forget(run_id + "/"))

    async def _stage(
        self, piece: str, work: Callable[[], Awaitable[bytes]], repeat: bool, names: tuple[str, str]
    ) -> bytes:
        dbos = self._opened()
        while True:
            given = Given()
            done = dbos.submit(dbos.checkpointed(piece, given))
            if await self._may_begin(given, done):
                return await self._work(work, given, done)
            taken = await self._asked_of(done)
            if isinstance(taken, Taken):
                if taken.pending and not repeat:
                    raise _interrupted(*names)
                if taken.output is not None:
                    return taken.output
                await self._asked(dbos.delete([piece]))

    async def _may_begin(self, given: Given, done: Future[Any]) -> bool:
        """Whether the piece is this process's to run; False where dbos answered otherwise."""
        begins, answered = asyncio.wrap_future(given.begins), asyncio.wrap_future(done)
        answered.add_done_callback(_seen)
        try:
            await asyncio.wait([begins, answered], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            done.cancel()
            raise
        return begins.done()

    async def _work(self, work: Callable[[], Awaitable[bytes]], given: Given, done: Future[Any]) -> bytes:
        try:
            output = await work()
        except Exception:
            given.output.set_result(None)
            with contextlib.suppress(StoreUnavailable):  # the work's own error says more
                await self._asked_of(done)
            raise
        except BaseException:
            done.cancel()  # stays as under way, which it was
            raise
        given.output.set_result(output)
        await self._asked_of(done, executed=True)
        return output

    async def _asked(self, question: Coroutine[Any, Any, _T]) -> _T:
        return await self._asked_of(self._opened().submit(question))

    async def _asked_of(self, answer: Future[_T], *, executed: bool = False) -> _T:
        """The answer, to its end even where the caller is cancelled meanwhile."""
        waited = asyncio.wrap_future(answer)
        waited.add_done_callback(_seen)
        try:
            return await asyncio.shield(waited)
        except StoreUnavailable as error:
            error.executed = executed
            raise

    def _opened(self) -> DbosThread:
        if self._dbos is None:
            raise StoreUnavailable(f"the checkpoints {self.name} are not open")
        return self._dbos


def _interrupted(run_id: str, key: str) -> Interrupted:
    return Interrupted(
        f"stage {key} of run {run_id} was cut off under way, and may not run twice; where it may after all: "
        f"atomesh runs resume {run_id} --repeat-interrupted"
    )


def _seen(future: asyncio.Future[Any]) -> None:
    """An error that nobody waits for any more is no news to the loop."""
    if not future.cancelled():
        future.exception()
