"""What the registry's HTTP address shows: metrics, health, whom Prometheus should scrape.

While the registry is cold (restarted, and not every restored lease heard of
yet) what would be read as the whole mesh is refused with 503, so that
Prometheus, which keeps its targets where discovery fails, loses none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from atomesh.core.endpoint import ALL_STATES
from atomesh.core.errors import InvalidArgument
from atomesh.core.names import check_dialable
from atomesh.core.selector import Selector
from atomesh.registry.ledger import Ledger
from atomesh.registry.targets import target_groups
from atomesh.rpc.http import Page, metrics_page

RETRY_AFTER = 1
"""Seconds after which to ask a cold registry again: it is warm within three, and half of one cannot be said."""


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

    def by_path(self) -> Mapping[str, Page]:
        """Every page at its path."""
        return {
            "/metrics": metrics_page(self._registry.collectors),
            "/prometheus/targets": self._targets,
            "/healthz": self._healthz,
            "/readyz": self._readyz,
        }

    async def _targets(self, request: Request) -> Response:
        """Prometheus scrapes the registry where it asked it: behind a wildcard bind nobody else knows."""
        if not self._registry.warm:
            return _not_yet()
        try:
            own = check_dialable(request.headers.get("host", ""))
        except InvalidArgument:
            own = self._registry.http_address
        return JSONResponse(target_groups(self._registry.ledger.discover(Selector(states=ALL_STATES)), own))

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


def _not_yet() -> Response:
    answer = _line("not warm yet: not every endpoint of before the restart was heard of", 503)
    answer.headers["retry-after"] = str(RETRY_AFTER)
    return answer


def _line(text: str, status: int) -> Response:
    return PlainTextResponse(f"{text}\n", status_code=status)
