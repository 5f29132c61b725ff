"""What a plan is asked for: two ends, and capabilities on the way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from atomesh.core.errors import InvalidArgument, NotFound
from atomesh.pipelines.assembly.catalog import Catalog, nearest

DEFAULT_LENGTH = 6
"""Agents in a chain, unless more are asked for. Each multiplies the time and the
errors; who needs a longer chain knows a capability on its way."""
MOST_LENGTH = 16
DEFAULT_LIMIT = 3
MOST_LIMIT = 20
MOST_VIA = 32


@dataclass(frozen=True, slots=True)
class Query:
    """A question for chains, as it was put. `pipeline.proto` says what each field is."""

    start: str = ""
    goal: str = ""
    via: tuple[str, ...] = ()
    max_length: int = DEFAULT_LENGTH
    limit: int = DEFAULT_LIMIT

    def __post_init__(self) -> None:
        """Raises InvalidArgument for numbers out of range, and where fewer than two things are named."""
        if not 1 <= self.max_length <= MOST_LENGTH:
            raise InvalidArgument(f"max_length is {self.max_length}; expected 1 to {MOST_LENGTH}")
        if not 1 <= self.limit <= MOST_LIMIT:
            raise InvalidArgument(f"limit is {self.limit}; expected 1 to {MOST_LIMIT}")
        if len(self.via) > MOST_VIA:
            raise InvalidArgument(f"{len(self.via)} capabilities on the way are more than {MOST_VIA}")
        if any(not capability for capability in self.via):
            raise InvalidArgument("a capability on the way is empty")
        named = bool(self.start) + bool(self.goal) + len(self.via)
        if named < 2:
            raise InvalidArgument(
                f"a plan needs two ends, and {'one is' if named else 'none is'} named; "
                "name a type or capability to begin with and one to end with, or two capabilities on the way"
            )

    def __str__(self) -> str:
        """In words, as in `text.v1.Keywords into report.v1.Draft by way of summarize`."""
        ends = [self.start or f"what {self.via[0]} takes", self.goal or f"what {self.via[-1]} gives"]
        way = f" by way of {', '.join(self.via)}" if self.via else ""
        return " into ".join(ends) + way


@dataclass(frozen=True, slots=True)
class Route:
    """A query whose names are known: which capabilities a chain passes, and what it begins and ends with."""

    steps: tuple[str, ...]
    """Capabilities in order; each is some agent's own part of the chain."""
    first: bool
    """Whether the first agent is the one with the first capability."""
    last: bool
    """Whether the last agent is the one with the last capability."""
    start: str
    """The type that there is; empty where the first agent's input is."""
    goal: str
    """The type that is wanted; empty where the last agent's output is."""


def route(query: Query, catalog: Catalog) -> Route:
    """The query with its names looked up.

    Raises:
        NotFound: nobody takes, gives or has it.
        InvalidArgument: it passes more capabilities than a chain may have agents.
    """
    start_is_type, goal_is_type = _is_type(query.start, catalog), _is_type(query.goal, catalog)
    steps = tuple(
        [query.start] * (bool(query.start) and not start_is_type)
        + list(query.via)
        + [query.goal] * (bool(query.goal) and not goal_is_type)
    )
    for capability in query.via:
        if not catalog.able(capability):
            raise NotFound(f"no live agent has the capability {capability}{nearest(capability, catalog.capabilities)}")
    if len(steps) > query.max_length:
        enough = f"expected at least {len(steps)}" if len(steps) <= MOST_LENGTH else f"name at most {MOST_LENGTH}"
        raise InvalidArgument(f"max_length is {query.max_length}, too short for {len(steps)} capabilities; {enough}")
    return Route(
        steps=steps,
        first=not start_is_type,
        last=not goal_is_type,
        start=query.start if start_is_type else "",
        goal=query.goal if goal_is_type else "",
    )


def _is_type(name: str, catalog: Catalog) -> bool:
    """Whether an end is a type; else it is a capability, or left open."""
    if not name or catalog.able(name):
        return False
    if name in catalog.types:
        return True
    known: Iterable[str] = {*catalog.types, *catalog.capabilities}
    raise NotFound(f"no live agent takes or gives {name}, or has it as a capability{nearest(name, known)}")
