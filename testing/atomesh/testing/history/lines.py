"""A history as JSON Lines: one fact per line, in the order in which they were noted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import pydantic

from atomesh.testing.history.facts import Fact

_FACT: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(Annotated[Fact, pydantic.Field(discriminator="fact")])


def to_line(fact: Fact) -> str:
    """One line without its end."""
    return _FACT.dump_json(fact, exclude_defaults=False).decode()


def from_lines(lines: Iterable[str]) -> Iterator[Fact]:
    """Facts, blank lines left out.

    Raises:
        ValueError: a line is no fact.
    """
    for line in lines:
        if line.strip():
            yield _FACT.validate_json(line)


def digest(facts: Iterable[Fact]) -> str:
    """SHA-256 of the lines: equal for equal histories."""
    hashed = hashlib.sha256()
    for fact in facts:
        hashed.update(to_line(fact).encode() + b"\n")
    return hashed.hexdigest()
