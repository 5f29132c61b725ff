"""Stores of every kind, and a PostgreSQL server of one's own: in a folder that goes away, on a Unix socket alone."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.pipelines.store import MemoryStore, RunStore
from atomesh.pipelines.store.location import parse_location
from atomesh.pipelines.store.sql import SqlStore

POSTGRES = pytest.mark.needs_tool("initdb", "postgres")
_SERVER_SECONDS = 30.0


class Postgres:
    """One server, which refuses to run as root: there it runs as the user that its package made."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="atomesh-pg-"))
        self._as: dict[str, Any] = {}
        if os.getuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)

    def make(self) -> None:
        """The files of an empty cluster."""
        plain = ["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync"]
        subprocess.run(
            ["initdb", "-D", self.folder / "data", *plain],
            check=True,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            **self._as,
        )

    def start(self) -> None:
        """Returns once it answers."""
        settings = ("listen_addresses=", f"unix_socket_directories={self.folder}", "fsync=off", "max_connections=50")
        flags = [word for setting in settings for word in ("-c", setting)]
        self._process = subprocess.Popen(
            ["postgres", "-D", self.folder / "data", *flags],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **self._as,
        )
        give_up = SYSTEM_CLOCK.now() + _SERVER_SECONDS
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
                return
            except psycopg.OperationalError:
                assert self._process.poll() is None, "the server must not end while it starts"
                assert SYSTEM_CLOCK.now() < give_up, f"the server must answer within {_SERVER_SECONDS:g} s"
                try:
                    self._process.wait(0.05)
                except subprocess.TimeoutExpired:
                    continue

    def stop(self) -> None:
        """At once; whoever is connected is cut off."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(_SERVER_SECONDS)
            self._process = None

    def url(self, database: str) -> str:
        """Where a database of it is."""
        return f"postgresql://postgres@/{database}?host={self.folder}"

    def database(self) -> str:
        """A new one's URL."""
        name = f"test_{next(self._numbers)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url(name)

    def remove(self) -> None:
        """Ends it and leaves nothing."""
        self.stop()
        shutil.rmtree(self.folder)


@pytest.fixture(scope="session", autouse=True)
def postgres(request: pytest.FixtureRequest) -> Iterator[Postgres | None]:
    """One server for all tests that ask for one, each in a database of its own.

    It starts before the first test does, whose leak check would else take it
    for the test's own.
    """
    if shutil.which("initdb") is None or not any(_needs_postgres(item) for item in request.session.items):
        yield None
        return
    with _running() as server:
        yield server


def _needs_postgres(item: pytest.Item) -> bool:
    return any("initdb" in marker.args for marker in item.iter_markers("needs_tool"))


@contextmanager
def _running() -> Iterator[Postgres]:
    server = Postgres()
    try:
        server.make()
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def postgres_of_its_own() -> Iterator[Postgres]:
    """One that a test may stop and start."""
    with _running() as server:
        yield server


Opened = Callable[..., AbstractAsyncContextManager[RunStore]]


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgresql", marks=POSTGRES)])
def place(request: pytest.FixtureRequest, tmp_path: Path, postgres: Postgres | None) -> str:
    """Where a store is, once for each kind."""
    if request.param == "memory":
        return "memory"
    if request.param == "sqlite":
        return str(tmp_path / "runs.db")
    assert postgres is not None
    return postgres.database()


@pytest.fixture
def opened(place: str) -> Opened:
    """Opens a store there: `async with opened(settings, clock=..., host=...) as store`."""

    @asynccontextmanager
    async def opening(*args: Any, **options: Any) -> AsyncIterator[RunStore]:
        location = parse_location(place)
        store: RunStore = (
            MemoryStore(*args, **options) if location.kind == "memory" else SqlStore(location, *args, **options)
        )
        await store.open()
        try:
            yield store
        finally:
            await store.close()

    return opening
