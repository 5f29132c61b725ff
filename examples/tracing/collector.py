"""A collector small enough to read: OTLP's one method, and what came as a tree.

In earnest this is the OpenTelemetry Collector, Jaeger, Tempo, or a vendor's.
"""

from typing import Any, Self

import grpc.aio
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as wire
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as services


class Collector(services.TraceServiceServicer):
    """Keeps every span."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []

    async def __aenter__(self) -> Self:
        self._server = grpc.aio.server()
        services.add_TraceServiceServicer_to_server(self, self._server)
        self.url = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._server.stop(0)

    async def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 # OTLP's name
        for group in request.resource_spans:
            (service,) = (pair.value.string_value for pair in group.resource.attributes if pair.key == "service.name")
            self.spans += [(service, span) for scope in group.scope_spans for span in scope.spans]
        return wire.ExportTraceServiceResponse()

    def show(self, parent: bytes = b"", depth: int = 0) -> None:
        """Prints the spans below one, in the order in which they began."""
        for service, span in sorted(self.spans, key=lambda known: known[1].start_time_unix_nano):
            if span.parent_span_id == parent:
                ended = f": {span.status.message}" if span.status.message else ""
                print(f"{service:<8}{'  ' * depth}{span.name}{ended}")
                self.show(span.span_id, depth + 1)
