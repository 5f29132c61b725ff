"""The small HTTP server beside the gRPC one."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from atomesh.core.errors import Conflict, InvalidArgument
from atomesh.rpc.http import HttpServer, metrics_page


async def _get(address: str, path: str, accept: str = "*/*", method: str = "GET") -> tuple[int, dict[str, str], str]:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    writer.write(
        f"{method} {path} HTTP/1.1\r\nHost: {address}\r\nAccept: {accept}\r\nConnection: close\r\n\r\n".encode()
    )
    async with asyncio.timeout(10):
        raw = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    head, _, body = raw.partition("\r\n\r\n")
    first, *rest = head.split("\r\n")
    return (
        int(first.split()[1]),
        {key.lower(): value for key, _, value in (line.partition(": ") for line in rest)},
        body,
    )


def _pages() -> dict[str, Any]:
    collectors = CollectorRegistry()
    Counter("things", "Things.", registry=collectors).inc()

    async def broken(request: Request) -> Response:
        raise ValueError("hunter2")

    async def fine(request: Request) -> Response:
        return PlainTextResponse("fine")

    return {"/metrics": metrics_page(collectors), "/broken": broken, "/fine": fine}


async def test_metrics_are_served_in_the_format_that_is_asked_for() -> None:
    server = HttpServer(bind="127.0.0.1:0", pages=_pages())
    await server.start()
    try:
        status, headers, body = await _get(server.address, "/metrics")
        assert (status, headers["content-type"].split(";")[0]) == (200, "text/plain")
        assert "things_total 1.0" in body
        status, headers, body = await _get(server.address, "/metrics", "application/openmetrics-text; version=1.0.0")
        assert headers["content-type"].startswith("application/openmetrics-text")
        assert "# EOF" in body
    finally:
        await server.stop()


async def test_what_is_not_there_is_404_and_what_breaks_tells_nothing() -> None:
    server = HttpServer(bind="127.0.0.1:0", pages=_pages())
    await server.start()
    try:
        assert (await _get(server.address, "/nope"))[0] == 404
        assert (await _get(server.address, "/fine", method="POST"))[0] == 405
        status, headers, body = await _get(server.address, "/broken")
        assert status == 500
        assert "hunter2" not in body
        assert "server" not in headers
        assert (await _get(server.address, "/fine"))[2] == "fine", "one that broke must not cost the others"
    finally:
        await server.stop()


async def test_a_port_in_use_is_a_conflict_that_says_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = HttpServer(bind=f"127.0.0.1:{taken.getsockname()[1]}", pages={})
        with pytest.raises(
            Conflict, match=r"cannot serve HTTP on 127\.0\.0\.1:\d+: Address already in use; .*--http-bind"
        ):
            await server.start()
        await server.stop()


async def test_off_loopback_needs_to_be_said() -> None:
    for bind in ("0.0.0.0:0", "[::]:0", "host.example:80"):
        with pytest.raises(InvalidArgument, match="refusing to serve HTTP"):
            HttpServer(bind=bind, pages={})
        HttpServer(bind=bind, pages={}, insecure=True)
    with pytest.raises(InvalidArgument, match="expected host:port"):
        HttpServer(bind="nonsense", pages={})


async def test_it_can_be_stopped_twice_or_unstarted_and_its_port_is_free_then() -> None:
    server = HttpServer(bind="127.0.0.1:0", pages=_pages())
    await server.stop()
    await server.start()
    address = server.address
    await server.stop()
    await server.stop()
    again = HttpServer(bind=address, pages=_pages())
    await again.start()
    assert (await _get(address, "/fine"))[2] == "fine"
    await again.stop()


async def test_a_client_that_keeps_its_connection_does_not_hold_up_the_end() -> None:
    server = HttpServer(bind="127.0.0.1:0", pages=_pages())
    await server.start()
    host, _, port = server.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /fine HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readuntil(b"fine")
    async with asyncio.timeout(5):
        await server.stop()
    writer.close()
    await writer.wait_closed()


async def test_ipv6_is_served_too() -> None:
    server = HttpServer(bind="[::1]:0", pages=_pages())
    try:
        await server.start()
    except Conflict:
        pytest.skip("no IPv6 on this machine")
    try:
        assert server.address.startswith("[::1]:")
        assert (await _get(server.address, "/fine"))[0] == 200
    finally:
        await server.stop()
