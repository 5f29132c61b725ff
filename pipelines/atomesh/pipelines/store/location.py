"""Where a store is, as somebody types it, and as it may be shown.

`memory`; a path, or `sqlite:///relative` and `sqlite:////absolute`;
`postgresql://user:password@host/database`. What is shown has no password.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from atomesh.core.errors import InvalidArgument

_POSTGRES = re.compile(r"postgres(?:ql)?(?:\+psycopg)?://", re.IGNORECASE)
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
# To the last @ that a host can follow: a password may hold one, unescaped as it should not be.
_USERINFO = re.compile(r"(?<=://)([^:/@]*):.*@")
_PARAMETER = re.compile(r"(?i)(?<=[?&])(\w*password)=[^&]*")


@dataclass(frozen=True, slots=True)
class Location:
    """One place where a store can be."""

    kind: Literal["memory", "sqlite", "postgresql"]
    path: Path | None = None
    url: str = ""
    """PostgreSQL's, for SQLAlchemy's psycopg driver."""

    @property
    def shown(self) -> str:
        """For people: without a password."""
        if self.kind == "memory":
            return "memory"
        return str(self.path) if self.path is not None else without_password(self.url.replace("+psycopg", "", 1))


def parse_location(text: str) -> Location:
    """Raises InvalidArgument: it names no store that there is."""
    if text == "memory":
        return Location("memory")
    if found := _POSTGRES.match(text):
        return Location("postgresql", url="postgresql+psycopg://" + text[found.end() :])
    if text.startswith("sqlite:///"):
        text = text.removeprefix("sqlite:///")
    elif scheme := _SCHEME.match(text):
        raise InvalidArgument(
            f"no store speaks {scheme[1]}://; say a path, sqlite:///path, postgresql://host/database, or memory"
        )
    if not text or text == ":memory:" or "\0" in text:
        raise InvalidArgument(f"{text!r} names no file for the store; say a path, or memory to keep nothing")
    return Location("sqlite", path=Path(text).expanduser())


def without_password(text: str) -> str:
    """The URL with stars for its password, wherever that stands in it."""
    return _PARAMETER.sub(r"\1=***", _USERINFO.sub(r"\1:***@", text))
