"""A collector: OTLP's TraceService over real gRPC, which keeps what it is given, or answers as a test says."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as wire
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from atomesh.core.clock import SYSTEM_CLOCK

PATIENCE = 20.0


@dataclass(frozen=True)
class Span:
    """One, as it came over the wire."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    kind: int
    error: str
    start: int
    end: int
    attributes: dict[str, Any]


class Collector(TraceServiceServicer):
    """Keeps spans. `status` other than OK is its answer; while `hangs` it has none."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.requests = 0
        self.headers: list[dict[str, Any]] = []
        self.status = grpc.StatusCode.OK
        self.hangs = False
        self.address = ""
        self._server: grpc.aio.Server | None = None

    async def Export(  # noqa: N802 # OTLP's name
        self, request: wire.ExportTraceServiceRequest, context: Any
    ) -> wire.ExportTraceServiceResponse:
        self.requests += 1
        self.headers.append(dict(context.invocation_metadata() or ()))
        if self.hangs:
            await asyncio.Event().wait()
        if self.status is not grpc.StatusCode.OK:
            await context.abort(self.status, "as the test says")
        for group in request.resource_spans:
            resource = _read(group.resource.attributes)
            for scope in group.scope_spans:
                self.spans += [_span(resource["service.name"], each) for each in scope.spans]
        return wire.ExportTraceServiceResponse()

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    async def start(self) -> None:
        self._server = grpc.aio.server()
        add_TraceServiceServicer_to_server(self, self._server)
        port = self._server.add_insecure_port(self.address or "127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            server, self._server = self._server, None
            await server.stop(0)

    async def got(self, count: int) -> list[Span]:
        """The spans, once there are so many, and no more."""
        async with asyncio.timeout(PATIENCE):
            while len(self.spans) < count:
                await SYSTEM_CLOCK.sleep(0.02)
        return self.spans

    def named(self, name: str) -> list[Span]:
        return sorted((span for span in self.spans if span.name == name), key=lambda span: span.start)

    def tree(self) -> list[str]:
        """One line for each span, its children below it and to the right, with the reason where it ended badly."""
        known = {span.id for span in self.spans}
        lines: list[str] = []

        def walk(parent: str, depth: int) -> None:
            for span in sorted(self.spans, key=lambda span: span.start):
                if (span.parent if span.parent in known else "") == parent:
                    lines.append("  " * depth + span.name + (f": {span.error}" if span.error else ""))
                    walk(span.id, depth + 1)

        walk("", 0)
        return lines


def _span(service: str, raw: Any) -> Span:
    return Span(
        service,
        raw.name,
        raw.trace_id.hex(),
        raw.span_id.hex(),
        raw.parent_span_id.hex(),
        raw.kind,
        raw.status.message if raw.status.code == 2 else "",
        raw.start_time_unix_nano,
        raw.end_time_unix_nano,
        _read(raw.attributes),
    )


def _read(pairs: Any) -> dict[str, Any]:
    def value(any_value: AnyValue) -> Any:
        kind = any_value.WhichOneof("value")
        return getattr(any_value, kind) if kind else None

    read: dict[str, Any] = {}
    pair: KeyValue
    for pair in pairs:
        assert pair.key not in read, "an attribute is there once"
        read[pair.key] = value(pair.value)
    return read


@pytest.fixture
def collector() -> Callable[[], contextlib.AbstractAsyncContextManager[Collector]]:
    """`async with collector() as c:`."""

    @contextlib.asynccontextmanager
    async def running() -> AsyncIterator[Collector]:
        made = Collector()
        await made.start()
        try:
            yield made
        finally:
            await made.stop()

    return running


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str
    seconds: float


def _environment(home: Path, more: dict[str, str]) -> dict[str, str]:
    """Nobody's configuration but the test's own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ATOMESH_", "XDG_", "OTEL_"))}
    return {**kept, "HOME": str(home), **more}


@pytest.fixture
def atomesh(tmp_path: Path) -> Callable[..., Awaitable[Ended]]:
    """`await atomesh("call", ..., OTEL_...="x")`: the process's exit code, stdout, stderr and duration."""

    async def run(*arguments: str, **environment: str) -> Ended:
        begun = SYSTEM_CLOCK.now()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "atomesh", *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=_environment(tmp_path, environment),
            cwd=tmp_path,
        )
        async with asyncio.timeout(60):
            out, err = await process.communicate()
        assert process.returncode is not None
        return Ended(process.returncode, out.decode(), err.decode(), SYSTEM_CLOCK.now() - begun)

    return run


@pytest.fixture
def running(tmp_path: Path) -> Callable[..., contextlib.AbstractAsyncContextManager[tuple[Any, str]]]:
    """`async with running("serve", ...) as (process, ready):`, a verb that stays, and its first line; it is ended by SIGTERM."""

    @contextlib.asynccontextmanager
    async def start(*arguments: str, **environment: str) -> AsyncIterator[tuple[Any, str]]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "atomesh", *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=_environment(tmp_path, environment),
            cwd=tmp_path,
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(60):
                ready = (await process.stdout.readline()).decode()
            assert ready, "it must say that it is ready"
            yield process, ready
        finally:
            if process.returncode is None:
                process.terminate()
            async with asyncio.timeout(60):
                await process.communicate()

    return start
