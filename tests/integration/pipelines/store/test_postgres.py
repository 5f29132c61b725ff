"""A store in PostgreSQL: away and back, shared, and silent about its password."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import psycopg
import pytest
from google.protobuf import any_pb2

from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.pipelines.errors import NotResumable, StoreUnavailable, StoreUnusable
from atomesh.pipelines.record import RunRecord, RunStatus
from atomesh.pipelines.store import Resumption, RunStore, open_store
from atomesh.v1 import context_pb2

if TYPE_CHECKING:
    from tests.integration.pipelines.store.conftest import Postgres

pytestmark = pytest.mark.needs_tool("initdb", "postgres")


def run(id: str = "run-1", owner: str = "elsewhere") -> RunRecord:
    return RunRecord(id, "report", "1.0.0", SYSTEM_CLOCK.wall(), [], status=RunStatus.SUCCESS, owner=owner)


async def made(url: str) -> RunStore:
    store = open_store(url)
    await store.open()
    return store


async def test_runs_wait_while_the_server_is_away_and_are_written_then(
    postgres_of_its_own: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "atomesh.pipelines.store")
    store = await made(postgres_of_its_own.url("postgres"))
    postgres_of_its_own.stop()
    for number in range(5):
        store.end(run(f"run-{number}"))
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            await store.flush()
    with pytest.raises(StoreUnavailable, match="try again later"):
        await store.list_runs()
    postgres_of_its_own.start()
    await store.flush()
    assert len(await store.list_runs()) == 5, "nothing may be lost for a restart of the server"
    await store.close()
    told = [record.message for record in caplog.records]
    assert len([line for line in told if "cannot be reached" in line]) == 1, "an outage is told once"
    assert any("is back: 5 runs written, 0 lost" in line for line in told)


async def test_a_server_that_is_not_there_is_told_in_one_line_without_the_password() -> None:
    store = open_store("postgresql://me:s3cret@127.0.0.1:1/runs?password=s3cret")
    assert store.name == "postgresql://me:***@127.0.0.1:1/runs?password=***"
    with pytest.raises(StoreUnavailable) as away:
        await store.open()
    assert "s3cret" not in str(away.value)
    assert "\n" not in str(away.value)


@pytest.mark.parametrize("url", ["postgresql://", "postgresql://me:s3cret@host:port/db"])
async def test_a_url_that_is_none_is_told_without_the_password(url: str) -> None:
    with pytest.raises((StoreUnusable, StoreUnavailable)) as wrong:
        await made(url)
    assert "s3cret" not in str(wrong.value)


async def test_several_processes_make_the_tables_at_once(postgres: Postgres) -> None:
    url = postgres.database()
    stores = [open_store(url) for _ in range(4)]
    await asyncio.gather(*[store.open() for store in stores])
    for store in stores:
        await store.close()


async def test_a_table_of_ours_alone_is_refused(postgres: Postgres) -> None:
    url = postgres.database()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE atomesh_runs (id TEXT)")
    with pytest.raises(StoreUnusable, match="has atomesh_runs and no"):
        await made(url)


async def test_a_newer_layout_is_refused(postgres: Postgres) -> None:
    url = postgres.database()
    await (await made(url)).close()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE atomesh_store SET version = 99")
    with pytest.raises(StoreUnusable, match="layout 99"):
        await made(url)


async def test_a_run_of_another_host_is_free_once_its_owner_is_silent(postgres: Postgres) -> None:
    url = postgres.database()
    store = await made(url)
    record = run(owner="pid 7 on another-host, since b00t.1.2")
    record.durable = True
    await store.begin_durable(record, Resumption("run-1", "{}", any_pb2.Any(), context_pb2.Context(), record.owner))
    with pytest.raises(NotResumable, match="may still be run by pid 7 on another-host"):
        await store.claim("run-1", "me")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE atomesh_runs SET seen_at = seen_at - 61")
    assert (await store.claim("run-1", "me")).run_id == "run-1"
    await store.close()


async def test_one_run_that_cannot_be_kept_does_not_stop_the_others(
    postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    store = await made(postgres.database())
    for number in range(3):
        store.end(run(f"run-{number}"))
    store.end(run("a\0b"))  # PostgreSQL has no such text
    await store.flush()
    assert len(await store.list_runs()) == 3
    assert "cannot be kept" in caplog.text
    await store.close()
