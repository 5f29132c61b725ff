"""dbos on an event loop and a thread of its own, with everything off that checkpoints do not need.

dbos is one per process, makes itself the executor of every loop that calls it,
and starts half a dozen threads. Here all of that happens beside the caller's
loop, and ends with `stop`. What it would do by itself is off:

- it recovers, at its start, what an executor of the same id left behind: each
  process has an id of its own, so there is nothing;
- it works off queues: nothing is ever put into one;
- it logs to the console, traces, and offers to connect to its vendor: a handler
  that does nothing is there before, no key is given, telemetry is off.

Values go as JSON, not as pickles: who can write to the database must not be
able to run code here.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

import sqlalchemy as sa

from atomesh.pipelines.durable.databases import SCHEMA, check, make_engine, told
from atomesh.pipelines.errors import StoreUnusable
from atomesh.pipelines.machine import this_process
from atomesh.pipelines.store.location import Location

VERSION = "atomesh-1"
"""Of the application, as dbos sees it. All releases share it: pieces know no code."""

_THREADS = 8
"""On which dbos waits for the database, each for some milliseconds; its pool has
`databases.CONNECTIONS`. More would only wait for those."""

_T = TypeVar("_T")
_WORK: ContextVar[Callable[[], Awaitable[bytes | None]]] = ContextVar("atomesh_checkpointed_work")


@dataclass(slots=True)
class Given:
    """What passes between a piece's caller and dbos."""

    begins: Future[None] = field(default_factory=Future)
    """Done once the work may begin."""
    output: Future[bytes | None] = field(default_factory=Future)
    """The work's; None where it raised."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A piece that had begun before."""

    pending: bool
    output: bytes | None


async def _piece() -> bytes | None:
    """The workflow; started by anybody but us it finds no work, and fails."""
    return await _WORK.get()()


class DbosThread:
    """The one dbos of this process."""

    def __init__(self, location: Location) -> None:
        """Nothing runs yet."""
        self._location = location
        self._ready: Future[None] = Future()
        self._ended: Future[None] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._workflow: Any = None
        # A daemon: a process that ends without closing must not hang in it.
        self._thread = threading.Thread(target=self._main, name="atomesh-checkpoints", daemon=True)

    def start(self) -> Future[None]:
        """Done once dbos is ready, or with the reason why it is not."""
        self._thread.start()
        return self._ready

    def stop(self) -> Future[None]:
        """Done once all of its threads have ended."""
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        return self._ended

    def join(self) -> None:
        """Waits for the thread itself, which has nothing to do any more."""
        self._thread.join()

    def submit(self, question: Coroutine[Any, Any, _T]) -> Future[_T]:
        """Runs it on dbos's loop."""
        if self._loop is None:
            raise RuntimeError("dbos was not started")
        return asyncio.run_coroutine_threadsafe(self._translated(question), self._loop)

    async def checkpointed(self, piece: str, given: Given) -> bytes | Taken | None:
        """Lets the piece begin and keeps its output; Taken where it had begun before."""
        from dbos import SetWorkflowID, error

        async def work() -> bytes | None:
            given.begins.set_result(None)
            return await asyncio.wrap_future(given.output)

        _WORK.set(work)
        try:
            with SetWorkflowID(piece, workflow_id_reuse_policy="reject"):
                output: bytes | None = await self._workflow()
                return output
        except error.DBOSWorkflowIDInUseError:
            return await self._taken(piece)

    async def delete(self, pieces: list[str]) -> None:
        """As if they had never begun."""
        from dbos import DBOS

        await DBOS.delete_workflows_async(pieces)

    async def forget(self, prefix: str) -> None:
        """Deletes all pieces whose ids begin so."""
        from dbos import DBOS

        # dbos takes the prefix for a LIKE pattern, in which _ is any character.
        found = await DBOS.list_workflows_async(workflow_id_prefix=prefix, load_input=False, load_output=False)
        pieces = [one.workflow_id for one in found if one.workflow_id.startswith(prefix)]
        if pieces:
            await self.delete(pieces)

    async def _taken(self, piece: str) -> Taken:
        from dbos import DBOS

        found = await DBOS.list_workflows_async(workflow_ids=[piece], load_input=False)
        if not found:
            return Taken(pending=False, output=None)  # deleted meanwhile
        output = found[0].output if found[0].status == "SUCCESS" else None
        return Taken(found[0].status == "PENDING", output if isinstance(output, bytes) else None)

    async def _translated(self, question: Coroutine[Any, Any, _T]) -> _T:
        try:
            return await question
        except sa.exc.SQLAlchemyError as error:
            raise told(error, self._location) from error

    def _main(self) -> None:
        try:
            self._live()
        except BaseException as error:  # whoever waits for the start is told
            if self._ready.done():
                raise
            self._ready.set_exception(error)
        finally:
            self._ended.set_result(None)

    def _live(self) -> None:
        dbos_class = _import()
        quiet = logging.NullHandler()
        logger = logging.getLogger("dbos")
        level = logger.level
        logger.addHandler(quiet)  # where it has one, dbos adds none
        engine = make_engine(self._location)
        try:
            check(engine, self._location)
            dbos_class(config=_config(engine))
            self._workflow = dbos_class.workflow(name="atomesh.piece")(_piece)
            dbos_class.launch()
            asyncio.run(self._serve())
        except sa.exc.SQLAlchemyError as error:
            raise told(error, self._location) from error
        finally:
            dbos_class.destroy()
            engine.dispose()
            logger.removeHandler(quiet)
            logger.setLevel(level)

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._ready.set_result(None)
        await self._stop.wait()


def _import() -> Any:
    """The class DBOS.

    Raises:
        StoreUnusable: it is not installed, or somebody else in this process has it.
    """
    try:
        from dbos import DBOS, _dbos
    except ImportError:
        raise StoreUnusable('durable runs need dbos: pip install "atomesh[durable]"') from None
    # There is one per process, and no public way to ask for it.
    if _dbos._dbos_global_instance is not None:
        raise StoreUnusable("this process uses dbos already, which can be open once; share the checkpoints")
    return DBOS


def _config(engine: sa.Engine) -> Any:
    from dbos import Serializer

    class Json(Serializer):
        """Bytes as base64 in JSON; nothing that could run when it is read."""

        def serialize(self, data: Any) -> str:
            return json.dumps(data, default=_plain)

        def deserialize(self, serialized_data: str) -> Any:
            return json.loads(serialized_data, object_hook=_rich)

        def name(self) -> str:
            return "atomesh_json"

    return {
        "name": "atomesh",
        "application_version": VERSION,
        "executor_id": f"{this_process()} {os.urandom(4).hex()}",
        "system_database_engine": engine,
        "dbos_system_schema": SCHEMA,
        "serializer": Json(),
        "max_executor_threads": _THREADS,
        "use_listen_notify": False,
        "notification_listener_polling_interval_sec": 0.2,  # how long it takes to end; it polls no table
        "enable_otlp": False,
        "log_level": "CRITICAL",  # what there is to say is said by whoever asked
    }


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode("ascii")}
    return {"text": str(value)}  # an error, that only meddling could bring


def _rich(value: dict[str, Any]) -> Any:
    if value.keys() == {"base64"}:
        return base64.b64decode(value["base64"])
    if value.keys() == {"text"}:
        return RuntimeError(value["text"])
    return value
