from __future__ import annotations

from pathlib import Path

import pytest

from atomesh.core.errors import InvalidArgument
from atomesh.pipelines.store.location import parse_location, without_password


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("runs.db", "runs.db"),
        ("/var/runs.db", "/var/runs.db"),
        ("sqlite:///a/b.db", "a/b.db"),
        ("sqlite:////a.db", "/a.db"),
    ],
)
def test_a_path_and_a_sqlite_url_name_a_file(text: str, path: str) -> None:
    location = parse_location(text)
    assert (location.kind, location.path) == ("sqlite", Path(path))


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg", "PostgreSQL"])
def test_postgresql_goes_by_its_current_driver_however_it_is_written(scheme: str) -> None:
    location = parse_location(f"{scheme}://me@host/runs")
    assert location.url == "postgresql+psycopg://me@host/runs"
    assert location.shown == "postgresql://me@host/runs", "the driver is nobody's concern"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:pw@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:p@w:x/y@host/db", "postgresql://me:***@host/db"),
        ("postgresql://:pw@host/db", "postgresql://:***@host/db"),
        ("postgresql://host/db?user=me&password=pw&sslpassword=pw", "postgresql://host/db?user=me&password=***&sslpassword=***"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("runs.db", "runs.db"),
    ],
)  # fmt: skip
def test_no_password_is_shown_wherever_it_stands(text: str, shown: str) -> None:
    assert without_password(text) == shown


@pytest.mark.parametrize("text", ["", ":memory:", "mysql://host/db", "sqlite:///", "http://host", "a\0b"])
def test_what_names_no_store_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InvalidArgument, match="memory") as refused:
        parse_location(text)
    assert "\n" not in str(refused.value)
