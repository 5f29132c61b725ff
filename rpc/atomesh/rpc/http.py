"""A small HTTP server beside the gRPC one: metrics, service discovery, health."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TypeAlias

import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from atomesh.core.errors import Conflict, InvalidArgument
from atomesh.core.names import is_loopback, join_address, split_address

log = logging.getLogger(__name__)

Page: TypeAlias = Callable[[Request], Awaitable[Response]]


class HttpServer:
    """Serves pages by path on one address, inside the running event loop."""

    def __init__(self, *, bind: str, pages: Mapping[str, Page], insecure: bool = False) -> None:
        """`bind` is host:port, port 0 for any free one. Nothing is bound before `start`.

        Raises:
            InvalidArgument: no address, or off loopback without `insecure` (HTTP is plaintext).
        """
        self._host, self._port = split_address(bind)
        if not (insecure or is_loopback(self._host)):
            raise InvalidArgument(
                f"refusing to serve HTTP on {bind} in plaintext, which is not loopback; bind loopback or say --insecure"
            )
        routes = [Route(path, page, methods=["GET"]) for path, page in pages.items()]
        config = uvicorn.Config(
            Starlette(routes=routes),
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=1,
            server_header=False,
        )
        self._server = _Quiet(config)
        self._task: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        """host:port that it is bound to; the real port once started."""
        return join_address(self._host, self._port)

    async def start(self) -> None:
        """Binds and serves.

        Raises:
            Conflict: the address is in use or not this machine's.
        """
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self._host, self._port))
        except OSError as error:
            listener.close()
            raise Conflict(
                f"cannot serve HTTP on {self.address}: {error.strerror or error}; choose another with --http-bind"
            ) from None
        self._port = listener.getsockname()[1]
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]), name=f"http {self.address}")
        while not self._server.started and not self._task.done():
            await asyncio.wait([self._task], timeout=0.005)
        if self._task.done():
            await self._task  # it did not come up, and says why

    async def stop(self) -> None:
        """Ends; requests in progress have a second."""
        if self._task is not None:
            self._server.should_exit = True
            await self._task
            self._task = None


def metrics_page(registry: CollectorRegistry) -> Page:
    """`/metrics`: everything in the registry, in the format that the scraper accepts."""

    async def page(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": content_type})

    return page


class _Quiet(uvicorn.Server):
    """uvicorn without its own signal handlers: the process has one owner of signals, and that is not HTTP."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield
