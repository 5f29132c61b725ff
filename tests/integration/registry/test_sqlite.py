"""The embedded store on a real disk: durable, its own, and candid about what is wrong with it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atomesh.core.contract import describe
from atomesh.core.endpoint import Capability, Endpoint, State
from atomesh.registry import (
    CommitFailed,
    SQLiteStorage,
    StorageError,
    StoreCorrupt,
    StoreForeign,
    StoreInUse,
    StoreUnusable,
)
from atomesh.registry.operations import Batch, Entry, Stored
from atomesh.text.v1 import text_pb2

TEXT = describe(text_pb2.TextInput, text_pb2.TextOutput)
CHUNKS = describe(text_pb2.TextInput, text_pb2.TextOutput, text_pb2.Keyword)


def read(path: Path) -> bytes:
    return path.read_bytes()


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def entry(port: int = 1, lease: str = "lease", **more: Any) -> Entry:
    endpoint = Endpoint(
        "text",
        f"10.0.0.1:{port}",
        "instance-1",
        registered_at=1000.5,
        last_renewed_at=1000.5,
        revision=1,
        contract_hash=TEXT.hash,
        input_type=TEXT.input_type,
        output_type=TEXT.output_type,
        state=more.pop("state", State.SERVING),
        capabilities=(Capability("reporting", 0.5), Capability("validation")),
        labels={"a": "ö"},
    )
    return Entry(endpoint, f"{lease}-{port}", 15.0, **more)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "registry.db"


async def stored(path: Path) -> Stored:
    """What another process would find."""
    storage = SQLiteStorage(path)
    try:
        return await storage.load()
    finally:
        await storage.close()


async def refusal(path: Path) -> StorageError:
    storage = SQLiteStorage(path)
    with pytest.raises(StorageError) as refused:
        await storage.load()
    message = str(refused.value)
    assert str(path) in message, "the error must say which file"
    assert "\n" not in message
    assert len(message) < 400
    return refused.value


async def test_what_is_committed_is_there_again_to_the_last_field(path: Path) -> None:
    storage = SQLiteStorage(path)
    first = await storage.load()
    suspect = entry(2, declared=State.SERVING, suspect=True, state=State.SUSPECT)
    failing = entry(3, declared=State.SERVING, unreachable=True, state=State.SUSPECT)
    await storage.commit(Batch(1, (entry(1), suspect, failing), (), (TEXT,), (), ("old-1", "old-2")))
    await storage.commit(Batch(2, removed=(("text", "10.0.0.1:1"),), superseded=("old-3",)))
    await storage.close()
    again = await stored(path)
    assert again == Stored(first.store_id, 2, (suspect, failing), (TEXT,), ("old-1", "old-2", "old-3"))
    assert len(first.store_id) == 32


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 200])
async def test_a_batch_of_any_size_is_there_whole(path: Path, count: int) -> None:
    storage = SQLiteStorage(path)
    await storage.load()
    entries = tuple(entry(number) for number in range(1, count + 1))
    await storage.commit(Batch(count, entries, (), (TEXT,)))
    await storage.close()
    assert sorted((await stored(path)).entries, key=lambda each: each.key) == sorted(entries, key=lambda each: each.key)


async def test_a_lease_may_move_to_another_address_and_an_address_to_another_lease(path: Path) -> None:
    storage = SQLiteStorage(path)
    await storage.load()
    await storage.commit(Batch(1, (entry(1, "a"), entry(2, "b")), (), (TEXT,)))
    swapped = (Entry(entry(1).endpoint, "b-2", 15.0), Entry(entry(2).endpoint, "a-1", 15.0))
    await storage.commit(Batch(2, swapped))
    await storage.close()
    assert (await stored(path)).entries == swapped


async def test_a_commit_is_an_fsync_of_a_write_ahead_log(path: Path) -> None:
    storage = SQLiteStorage(path)
    await storage.load()
    database = storage._database
    assert database is not None
    ask: Callable[[str], Any] = lambda pragma: database.execute(f"PRAGMA {pragma}").fetchone()[0]
    assert ask("synchronous") == 2, "FULL: below it an acknowledged commit may be lost with the power"
    assert ask("journal_mode") == "wal"
    assert ask("locking_mode") == "exclusive"
    await storage.close()


async def test_the_file_is_for_its_owner_alone_and_holds_no_lease_id(path: Path) -> None:
    storage = SQLiteStorage(path)
    await storage.load()
    await storage.close()
    assert [os.stat(each).st_mode & 0o077 for each in (path, path.parent)] == [0, 0]


async def test_superseded_leases_are_kept_up_to_a_number(path: Path) -> None:
    storage = SQLiteStorage(path, superseded_kept=2)
    await storage.load()
    for revision in range(1, 6):
        await storage.commit(Batch(revision, superseded=(f"old-{revision}",)))
    await storage.close()
    assert (await stored(path)).superseded == ("old-4", "old-5")


async def test_two_registries_on_one_file_are_refused(path: Path) -> None:
    storage = SQLiteStorage(path)
    await storage.load()
    assert isinstance(await refusal(path), StoreInUse)
    await storage.close()
    assert (await stored(path)).revision == 0, "the refused one must not have harmed it"


async def test_a_file_that_is_no_sqlite_is_refused_and_left_alone(path: Path) -> None:
    path.parent.mkdir()
    write(path, b"my precious notes, which are no database at all")
    assert isinstance(await refusal(path), StoreForeign)
    assert read(path).startswith(b"my precious")


async def test_another_programs_database_is_refused_and_left_alone(path: Path) -> None:
    path.parent.mkdir()
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE notes (text)")
    database.commit()
    database.close()
    assert isinstance(await refusal(path), StoreForeign)
    database = sqlite3.connect(path)
    assert database.execute("SELECT name FROM sqlite_schema").fetchall() == [("notes",)]
    database.close()


async def test_a_newer_schema_is_refused_with_both_versions(path: Path) -> None:
    await stored(path)
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version=7")
    database.close()
    error = await refusal(path)
    assert isinstance(error, StoreForeign)
    assert "schema 7" in str(error)
    assert "knows 3" in str(error)


@pytest.mark.parametrize("layout", [1, 2])
async def test_a_file_of_an_older_layout_is_read_and_goes_on(path: Path, layout: int) -> None:
    await filled(path)
    whole = await stored(path)
    database = sqlite3.connect(path)
    database.execute("ALTER TABLE endpoints DROP COLUMN unreachable")
    if layout == 1:
        database.execute("ALTER TABLE contracts DROP COLUMN chunk_type")
    database.execute(f"PRAGMA user_version={layout}")
    database.close()
    storage = SQLiteStorage(path)
    assert await storage.load() == whole, "an upgrade must lose nothing"
    await storage.commit(Batch(41, (), (), (CHUNKS,)))
    await storage.close()
    assert (await stored(path)).contracts == (TEXT, CHUNKS)


async def test_a_contract_keeps_the_type_of_its_chunks(path: Path) -> None:
    storage = SQLiteStorage(path)
    await storage.load()
    await storage.commit(Batch(1, (), (), (TEXT, CHUNKS)))
    await storage.close()
    assert set((await stored(path)).contracts) == {TEXT, CHUNKS}


async def filled(path: Path) -> None:
    storage = SQLiteStorage(path)
    await storage.load()
    for number in range(40):
        await storage.commit(Batch(number + 1, (entry(number + 1),), (), (TEXT,)))
    await storage.close()


@pytest.mark.parametrize("size", [3, 400])
async def test_a_damaged_file_is_refused_or_read_whole(path: Path, size: int) -> None:
    await filled(path)
    whole, content = await stored(path), read(path)
    refused = 0
    for where in range(100, len(content) - size, 1021):
        write(path, content[:where] + b"\xa5" * size + content[where + size :])
        storage = SQLiteStorage(path)
        try:
            assert await storage.load() == whole, f"damage at {where} must not be read as truth"
        except StoreCorrupt:
            refused += 1
        finally:
            await storage.close()
    assert refused > 5, "most damage must hit something that matters"


async def test_a_truncated_file_is_refused(path: Path) -> None:
    await filled(path)
    write(path, read(path)[:6000])
    assert isinstance(await refusal(path), StoreCorrupt)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE endpoints SET endpoint = x'ffffff' WHERE address = '10.0.0.1:7'",
        "UPDATE endpoints SET declared = 77 WHERE address = '10.0.0.1:7'",
        "DELETE FROM meta WHERE name = 'revision'",
        "UPDATE meta SET value = 3 WHERE name = 'revision'",
        "UPDATE meta SET value = 'many' WHERE name = 'revision'",
        "DELETE FROM contracts",
        "UPDATE contracts SET chunk_type = 'atomesh.text.v1.Keyword'",
    ],
)
async def test_rows_that_make_no_sense_are_refused(path: Path, damage: str) -> None:
    storage = SQLiteStorage(path)
    await storage.load()
    one = Entry(entry(7).endpoint, "lease-7", 15.0)
    newer = Entry(Endpoint("text", "10.0.0.1:8", contract_hash=TEXT.hash, revision=9), "lease-8", 15.0)
    await storage.commit(Batch(9, (one, newer), (), (TEXT,)))
    await storage.close()
    database = sqlite3.connect(path)
    database.execute(damage)
    database.commit()
    database.close()
    assert isinstance(await refusal(path), StoreCorrupt)


async def test_a_directory_in_the_place_of_the_file_is_refused(path: Path) -> None:
    (path / "registry.db").parent.mkdir(parents=True)
    assert isinstance(await refusal(path), StoreUnusable)


async def test_a_file_in_the_place_of_the_directory_is_refused(path: Path) -> None:
    write(path.parent, b"")
    assert isinstance(await refusal(path), StoreUnusable)


async def test_a_full_disk_fails_the_commit_whole_and_the_next_one_may_succeed(path: Path) -> None:
    storage = SQLiteStorage(path)
    await storage.load()
    await storage.commit(Batch(1, (entry(1),), (), (TEXT,)))
    database = storage._database
    assert database is not None
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(CommitFailed, match="full"):
        await storage.commit(Batch(300, tuple(entry(port, "many") for port in range(2, 300))))
    database.execute("PRAGMA max_page_count=1000000")
    await storage.commit(Batch(2, (entry(2),)))
    await storage.close()
    again = await stored(path)
    assert again.revision == 2
    assert [e.endpoint.address for e in again.entries] == ["10.0.0.1:1", "10.0.0.1:2"]


async def test_a_closed_store_commits_nothing_and_closes_twice(path: Path) -> None:
    storage = SQLiteStorage(path)
    await storage.load()
    await storage.close()
    await storage.close()
    with pytest.raises(CommitFailed, match="closed"):
        await storage.commit(Batch(1))
