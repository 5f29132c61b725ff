"""Spans exported over OTLP (gRPC) to a collector, in batches and off the event loop (the extra `tracing`).

A collector that is away costs a line of log and the spans that do not fit in
the queue, the oldest first; nothing waits for it but a bounded moment at the
end. OpenTelemetry's exporter does the work, and reads the rest of its settings
(`OTEL_EXPORTER_OTLP_HEADERS`, `_CERTIFICATE`, `_COMPRESSION`, `_TIMEOUT`,
`OTEL_BSP_*`, `OTEL_RESOURCE_ATTRIBUTES`) from the environment itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Sequence
from importlib import metadata

from opentelemetry.exporter.otlp.proto.grpc import exporter as grpc_exporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import (
    SERVICE_INSTANCE_ID,
    SERVICE_NAME,
    SERVICE_VERSION,
    OTELResourceDetector,
    Resource,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import DEFAULT_ON

from atomesh.core.clock import SYSTEM_CLOCK, Clock
from atomesh.core.context import new_request_id
from atomesh.core.errors import InvalidArgument
from atomesh.core.names import collector_url
from atomesh.rpc.tracing import OtelTracer

log = logging.getLogger(__name__)

QUEUE = 8192
"""Spans that wait for their turn, 8 MB or so. Half is a second of a busy process;
at twice the collector is what is too slow."""

FLUSH_SECONDS = 2.0
"""For what has not left yet at the end. A collector that answers takes milliseconds;
at twice of it, people wait for one that does not."""

_LAST_SECONDS = 0.5
"""For the exporter's thread to see that it is given up; it takes one turn of it."""
_EXPORTERS_WORDS = (grpc_exporter.logger, logging.getLogger("opentelemetry.sdk._shared_internal"))


@contextlib.asynccontextmanager
async def open_otlp(
    endpoint: str, *, service: str, ratio: float = 1.0, clock: Clock = SYSTEM_CLOCK
) -> AsyncIterator[OtelTracer]:
    """A tracer whose spans go to the collector at `endpoint`; at the end what is left is sent, within FLUSH_SECONDS.

    `endpoint` is as `core.names.collector_url` says. `service` is the process's
    `service.name` where `OTEL_SERVICE_NAME` says nothing else. `ratio`, 0 to 1,
    is the part of traces that are sampled among those that begin here; for one
    that began elsewhere it was decided there.

    Raises:
        InvalidArgument: an endpoint or a ratio that is none.
    """
    if not 0 <= ratio <= 1:  # nor is NaN
        raise InvalidArgument(f"trace ratio {ratio!r} is not between 0 and 1")
    collector = _Collector(collector_url(endpoint))
    provider = TracerProvider(sampler=DEFAULT_ON, resource=_resource(service), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(collector, max_queue_size=QUEUE))
    try:
        yield OtelTracer(provider, ratio=ratio, clock=clock)
    finally:
        await collector.close(provider)


class _Collector(SpanExporter):
    """OpenTelemetry's exporter, which says once that its collector is away, and once that it is back."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._exporter = OTLPSpanExporter(endpoint=endpoint)
        self._exporting: int | None = None
        """The thread that is at it."""
        self._away = False
        self._over = False
        for words in _EXPORTERS_WORDS:
            words.addFilter(self._hear)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._exporting = threading.get_ident()
        try:
            result = self._exporter.export(spans)
        finally:
            self._exporting = None
        if result is SpanExportResult.SUCCESS and self._away:
            self._away = False
            log.info("spans are exported to %s again", self._endpoint)
        return result

    def shutdown(self) -> None:
        if not self._over:
            self._over = True
            self._exporter.shutdown()

    async def close(self, provider: TracerProvider) -> None:
        """Sends what is left, and gives it up where that takes too long."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def shut_down() -> None:
            provider.shutdown()
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile: nobody waits
                loop.call_soon_threadsafe(ended.set)

        thread = threading.Thread(target=shut_down, name="otlp shutdown", daemon=True)
        thread.start()
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                await ended.wait()
        except TimeoutError:
            log.warning("spans for %s are left behind: they did not leave within %g s", self._endpoint, FLUSH_SECONDS)
        finally:
            self.shutdown()  # what is on its way fails at once then
            thread.join(_LAST_SECONDS)
            for words in _EXPORTERS_WORDS:
                words.removeFilter(self._hear)

    def _hear(self, record: logging.LogRecord) -> bool:
        """Tells the first of what the exporter says of each try, and keeps the rest from the log."""
        if threading.get_ident() != self._exporting:
            return not (self._away and record.getMessage().startswith("Queue full"))
        if not self._away:
            self._away = True
            log.warning(
                "spans cannot be exported to %s (%.300s); up to %d are kept until it answers, the newest",
                self._endpoint,
                record.getMessage(),
                QUEUE,
            )
        return False


def _resource(service: str) -> Resource:
    """What all spans of this process are of; what the environment says of it goes first."""
    own = {SERVICE_NAME: service, SERVICE_VERSION: metadata.version("atomesh"), SERVICE_INSTANCE_ID: new_request_id()}
    return Resource.create(own).merge(OTELResourceDetector().detect())
