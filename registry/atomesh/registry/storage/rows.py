"""The registry's words to rows and back."""

from __future__ import annotations

import sqlite3
import zlib
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from atomesh.core.contract import ContractDescriptor
from atomesh.core.endpoint import Endpoint, State
from atomesh.registry.operations import Batch, Entry, Stored
from atomesh.registry.storage.schema import corrupt
from atomesh.v1 import registry_pb2

MOST_ROWS = 64
"""Rows in a statement. Half takes twice as many; SQLite takes no more than 32,766 values."""


def read(database: sqlite3.Connection, path: Path) -> Stored:
    """All that the file holds.

    Raises:
        StoreCorrupt: a row is missing or is not what it should be.
    """
    try:
        meta = dict(database.execute("SELECT name, value FROM meta"))
        columns = "agent, address, endpoint, lease, ttl, declared, suspect, checksum, unreachable"
        stored = Stored(
            store_id=str(meta["store_id"]),
            revision=int(meta["revision"]),
            entries=tuple(_entry(row) for row in database.execute(f"SELECT {columns} FROM endpoints")),
            contracts=tuple(
                _contract(row)
                for row in database.execute(
                    "SELECT hash, input_type, output_type, descriptor_set, checksum, chunk_type FROM contracts"
                )
            ),
            superseded=tuple(row[0] for row in database.execute("SELECT lease FROM superseded ORDER BY seq")),
        )
    except (KeyError, ValueError, TypeError, DecodeError) as error:
        raise corrupt(path, f"a row cannot be read: {error}") from error
    except sqlite3.OperationalError as error:
        if "decode" in str(error):  # text that is no UTF-8 has no code of its own
            raise corrupt(path, "a row cannot be read: text that is no UTF-8") from error
        raise
    known = {contract.hash for contract in stored.contracts}
    for entry in stored.entries:
        if entry.endpoint.contract_hash not in known:
            raise corrupt(path, f"the contract of {entry.endpoint.agent} at {entry.endpoint.address} is missing")
        if entry.endpoint.revision > stored.revision:
            raise corrupt(path, f"{entry.endpoint.agent} at {entry.endpoint.address} is ahead of the revision")
    return stored


def write(database: sqlite3.Connection, batch: Batch, superseded_kept: int) -> None:
    """Writes what a batch changed, inside the transaction that the caller has begun."""
    database.executemany("DELETE FROM endpoints WHERE agent = ? AND address = ?", batch.removed)
    # A lease may move from one key to another, and REPLACE clears the row of either.
    _insert(database, "INSERT OR REPLACE INTO endpoints VALUES", [_entry_row(entry) for entry in batch.put])
    database.executemany("DELETE FROM contracts WHERE hash = ?", [(name,) for name in batch.dropped_contracts])
    database.executemany(
        "INSERT OR REPLACE INTO contracts VALUES (?, ?, ?, ?, ?, ?)",
        [_contract_row(contract) for contract in batch.contracts],
    )
    if batch.superseded:
        database.executemany(
            "INSERT OR IGNORE INTO superseded (lease) VALUES (?)", [(lease,) for lease in batch.superseded]
        )
        database.execute(
            "DELETE FROM superseded WHERE seq <= (SELECT max(seq) FROM superseded) - ?", (superseded_kept,)
        )
    database.execute("UPDATE meta SET value = ? WHERE name = 'revision'", (batch.revision,))


def _insert(database: sqlite3.Connection, statement: str, rows: list[tuple[Any, ...]]) -> None:
    """Inserts rows, as many as a statement takes at a time.

    SQLite gives the interpreter's lock away for each statement, and beside a
    busy event loop it takes up to 5 ms to have it back: a row by itself would
    pay that for each. Sizes are powers of two, so that few statements are to be
    prepared and all of them stay so.
    """
    done = 0
    while done < len(rows):
        size = min(MOST_ROWS, 1 << ((len(rows) - done).bit_length() - 1))
        some = rows[done : done + size]
        row = f"({', '.join('?' * len(some[0]))})"
        database.execute(f"{statement} {', '.join([row] * size)}", [value for each in some for value in each])
        done += size


def _entry_row(entry: Entry) -> tuple[Any, ...]:
    blob = entry.endpoint.to_proto().SerializeToString()
    values = (*entry.key, blob, entry.lease, float(entry.ttl), int(entry.declared), int(entry.suspect))
    return (*values, _sum_of_entry(values, entry.unreachable), int(entry.unreachable))


def _entry(row: tuple[Any, ...]) -> Entry:
    *values, checksum, unreachable = row
    if _sum_of_entry(tuple(values), unreachable) != checksum:
        raise ValueError(f"the checksum of the row {row[0]!r:.80} is wrong")
    _, _, blob, lease, ttl, declared, suspect = values
    endpoint = Endpoint.from_proto(registry_pb2.Endpoint.FromString(blob))
    return Entry(endpoint, lease, ttl, State(declared), bool(suspect), bool(unreachable))


def _sum_of_entry(values: tuple[Any, ...], unreachable: int) -> int:
    """Of one that can be reached, the sum is that of a file of layout 2: no row has to be written anew."""
    return _sum((*values, 1) if unreachable else values)


def _contract_row(contract: ContractDescriptor) -> tuple[Any, ...]:
    chunks = () if contract.chunk_type == "" else (contract.chunk_type,)
    values = (contract.hash, contract.input_type, contract.output_type, contract.descriptor_set)
    # Without chunks the sum is that of a file of layout 1, so that one of those need not be written anew.
    return (*values, _sum((*values, *chunks)), contract.chunk_type)


def _contract(row: tuple[Any, ...]) -> ContractDescriptor:
    contract_hash, input_type, output_type, descriptor_set, _, chunk_type = row
    contract = ContractDescriptor(input_type, output_type, descriptor_set, contract_hash, chunk_type)
    if _contract_row(contract) != row:
        raise ValueError(f"the checksum of the row {contract_hash!r:.80} is wrong")
    return contract


def _sum(values: tuple[Any, ...]) -> int:
    """The checksum of a row's values."""
    return zlib.crc32(repr(values).encode("utf-8", "surrogatepass"))
