"""What the registry's HTTP address shows: metrics, health, whom to scrape, who is there.

While the registry is cold (restarted, and not every restored lease heard of
yet) what would be read as the whole mesh is refused with 503, so that
Prometheus, which keeps its targets where discovery fails, loses none.

A page about 100,000 endpoints takes a second to make, and the event loop that
makes it renews leases too. So pages are made in turns of a few milliseconds,
one for each turn of the loop however many pages are asked for, of the entries
of one moment: an entry is never changed, only replaced.
"""

from __future__ import annotations

import asyncio
import functools
import heapq
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message
from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.core.errors import InvalidArgument
from atomesh.core.names import check_dialable
from atomesh.registry.folds import Fold
from atomesh.registry.ledger import Ledger
from atomesh.registry.operations import Entry, Key
from atomesh.registry.queries import Query, agents_query, endpoints_query
from atomesh.registry.targets import Processes, TargetGroup
from atomesh.registry.wire import position_message
from atomesh.rpc.http import Page, metrics_page

T = TypeVar("T")

RETRY_AFTER = 1
"""Seconds after which to ask a cold registry again: it is warm within three, and half of one cannot be said."""

_LOOKED_AT = 2000
"""Entries that are held against a query in one turn: some 4 ms."""

_MADE = 50
"""Endpoints or targets that are made into JSON in one turn: 5 ms of endpoints."""


class Shown(Protocol):
    """The registry as the pages see it."""

    collectors: CollectorRegistry

    @property
    def http_address(self) -> str:
        """host:port of these pages."""

    @property
    def ledger(self) -> Ledger:
        """Its state."""

    @property
    def alive(self) -> bool:
        """Whether it can still commit."""

    @property
    def serving(self) -> bool:
        """Whether its gRPC address takes calls."""

    @property
    def warm(self) -> bool:
        """Whether what it knows is what there is."""


class Pages:
    """The pages of one registry."""

    def __init__(self, registry: Shown) -> None:
        """They are asked only while it runs."""
        self._registry = registry
        self._turn = asyncio.Lock()  # fair: who waits longest is next

    def by_path(self) -> Mapping[str, Page]:
        """Every page at its path."""
        return {
            "/metrics": metrics_page(self._registry.collectors),
            "/prometheus/targets": self._targets,
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/v1/endpoints": functools.partial(self._listed, endpoints_query, self._endpoints),
            "/v1/agents": functools.partial(self._listed, agents_query, self._agents),
        }

    async def _targets(self, request: Request) -> Response:
        """Prometheus scrapes the registry where it asked it: behind a wildcard bind nobody else knows."""
        if not self._registry.warm:
            return _not_yet()
        try:
            own = check_dialable(request.headers.get("host", ""))
        except InvalidArgument:
            own = self._registry.http_address
        processes = Processes()

        def add(turn: Sequence[Entry]) -> None:
            for entry in turn:
                processes.add(entry.endpoint)

        await self._in_turns(add, list(self._registry.ledger.store.all()), _LOOKED_AT)
        return StreamingResponse(self._json_list(processes.groups(own)), media_type="application/json")

    async def _healthz(self, request: Request) -> Response:
        """Whether it is worth keeping: one that cannot commit any more is not."""
        del request
        return _line("serving", 200) if self._registry.alive else _line("not serving", 503)

    async def _readyz(self, request: Request) -> Response:
        """Whether it should be asked: it serves, and what it knows is what there is."""
        del request
        if not self._registry.serving:
            return _line("not serving", 503)
        return _line("ready", 200) if self._registry.warm else _not_yet()

    async def _listed(
        self,
        parse: Callable[[bytes], Query],
        answer: Callable[[Query, Sequence[Entry]], Awaitable[dict[str, Any]]],
        request: Request,
    ) -> Response:
        """One page of a list, with the position of the registry when it was asked."""
        if not self._registry.warm:
            return _not_yet()
        try:
            query = parse(request.scope["query_string"])
        except InvalidArgument as error:
            return JSONResponse({"error": error.message}, status_code=400)
        store = self._registry.ledger.store
        about = {
            "position": _data(position_message(store.position)),
            "self_preservation": self._registry.ledger.self_preservation,
        }
        entries = store.of_agent(query.selector.agent) if query.selector.agent else list(store.all())
        return JSONResponse({**await answer(query, entries), **about})

    async def _endpoints(self, query: Query, entries: Sequence[Entry]) -> dict[str, Any]:
        """The first endpoints after the query's key, by agent, then address."""
        after: Key = query.after or ("", "")
        ledger, first, rows = self._registry.ledger, list[Entry](), list[dict[str, Any]]()

        def look(turn: Sequence[Entry]) -> None:
            found = [entry for entry in turn if entry.key > after and query.selector.matches(entry.endpoint)]
            first[:] = heapq.nsmallest(query.limit + 1, first + found, key=lambda entry: entry.key)

        def make(turn: Sequence[Entry]) -> None:
            rows.extend(_data(ledger.as_heard(entry).to_proto()) for entry in turn)

        await self._in_turns(look, entries, _LOOKED_AT)
        shown, more = first[: query.limit], first[query.limit :]
        await self._in_turns(make, shown, _MADE)
        return {"endpoints": rows, "next": "/".join(shown[-1].key) if more else None}

    async def _agents(self, query: Query, entries: Sequence[Entry]) -> dict[str, Any]:
        """The first agents after the query's, by name, each with what its endpoints come to."""
        after = query.after[0] if query.after else ""
        ledger, folds = self._registry.ledger, dict[str, Fold]()

        def fold(turn: Sequence[Entry]) -> None:
            for entry in turn:
                agent = entry.endpoint.agent
                if agent > after and query.selector.matches(entry.endpoint):
                    folds.setdefault(agent, Fold(agent)).add(ledger.as_heard(entry))

        await self._in_turns(fold, entries, _LOOKED_AT)
        first = heapq.nsmallest(query.limit + 1, folds)
        shown, more = first[: query.limit], first[query.limit :]
        return {"agents": [folds[agent].data() for agent in shown], "next": shown[-1] if more else None}

    async def _in_turns(self, work: Callable[[Sequence[T]], None], items: Sequence[T], size: int) -> None:
        """Has the items worked on, so many at a time; between them the event loop does what else there is to do."""
        for start in range(0, len(items), size):
            async with self._turn:
                work(items[start : start + size])
                await SYSTEM_CLOCK.sleep(0)  # the loop's own turn, whatever clock leases live by

    async def _json_list(self, groups: Iterator[TargetGroup]) -> AsyncIterator[str]:
        """A JSON list, a turn's worth at a time; who reads slowly keeps nobody else waiting."""
        opening = "["
        while True:
            async with self._turn:
                if not (turn := list(islice(groups, _MADE))):
                    break
                part = opening + ",".join(map(json.dumps, turn))
                await SYSTEM_CLOCK.sleep(0)
            yield part
            opening = ","
        yield "]"


def _data(message: Message) -> dict[str, Any]:
    """The message in protobuf's JSON mapping, under its fields' own names, with fields at their zero too."""
    data: dict[str, Any] = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return data


def _not_yet() -> Response:
    answer = _line("not warm yet: not every endpoint of before the restart was heard of", 503)
    answer.headers["retry-after"] = str(RETRY_AFTER)
    return answer


def _line(text: str, status: int) -> Response:
    return PlainTextResponse(f"{text}\n", status_code=status)
