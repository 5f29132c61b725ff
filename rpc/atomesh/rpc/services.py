"""The standard services beside our own: health and reflection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, TypeAlias

import grpc.aio
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from atomesh.core.errors import NotFound
from atomesh.rpc.server import Server

_Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
_Status: TypeAlias = Any  # the wheel's enum is an int without a type of its own
_SERVING: _Status = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: _Status = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN: _Status = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
_REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"


class HealthService:
    """grpc.health.v1: Check, Watch and List; "" stands for the whole process.

    grpcio-health-checking's own asyncio servicer has no List, and holds a lock
    while it writes, so one watcher that does not read stalls a drain.
    """

    def __init__(self, server: Server) -> None:
        """Adds the service; the process is NOT_SERVING until said otherwise."""
        self._states: dict[str, _Status] = {"": _NOT_SERVING}
        self._watchers: set[asyncio.Event] = set()
        self._stopped = False
        server.add(health_pb2_grpc.add_HealthServicer_to_server, self)
        server.at_stop.append(self._stop)

    def set(self, states: Mapping[str, bool]) -> None:
        """Says which services serve, and tells whoever watches."""
        for name, serving in states.items():
            self._states[name] = _SERVING if serving else _NOT_SERVING
        for watcher in self._watchers:
            watcher.set()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: _Context) -> health_pb2.HealthCheckResponse:  # noqa: N802 # gRPC's name
        """The state of one service; NOT_FOUND where there is none of that name."""
        del context
        if request.service not in self._states:
            raise NotFound(f"no service {request.service!r:.80} here; List names those there are")
        return health_pb2.HealthCheckResponse(status=self._states[request.service])

    async def List(self, request: health_pb2.HealthListRequest, context: _Context) -> health_pb2.HealthListResponse:  # noqa: N802 # gRPC's name
        """The states of all services."""
        del request, context
        response = health_pb2.HealthListResponse()
        for name, status in self._states.items():
            response.statuses[name].status = status
        return response

    async def Watch(  # noqa: N802 # gRPC's name
        self, request: health_pb2.HealthCheckRequest, context: _Context
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """The state of one service, again whenever it changes; states in between may be skipped."""
        del context
        changed, told = asyncio.Event(), None
        self._watchers.add(changed)
        try:
            while True:
                changed.clear()
                status = self._states.get(request.service, _UNKNOWN)
                if status != told:
                    yield health_pb2.HealthCheckResponse(status=status)
                    told = status
                if self._stopped:
                    return
                await changed.wait()
        finally:
            self._watchers.discard(changed)

    def _stop(self) -> None:
        """Nothing serves any more, and whoever watches is told so last."""
        self._stopped = True
        self.set(dict.fromkeys(self._states, False))


class _Renamed:
    """Adds what v1alpha's generated code registers under v1's name; the messages are the same."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Not needed: the registered form follows."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """The same handlers, the other name."""
        del service
        self._server.add_registered_method_handlers(_REFLECTION_V1, handlers)


class _Symbols:
    """A pool that finds methods as well, which reflection asks for by `package.Service.Method`."""

    def __init__(self, pool: descriptor_pool.DescriptorPool) -> None:
        self._pool = pool

    def __getattr__(self, name: str) -> Any:
        """Everything else is the pool's."""
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> Any:  # noqa: N802 # protobuf's name
        """The file that defines it; KeyError where none does."""
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service, _, method = symbol.rpartition(".")
            return self._pool.FindServiceByName(service).methods_by_name[method].containing_service.file


def add_reflection(server: Server, pool: descriptor_pool.DescriptorPool | None = None) -> None:
    """Adds reflection v1 and v1alpha for all services added so far: call it last."""
    names = (*server.services, reflection.SERVICE_NAME, _REFLECTION_V1)
    servicer = reflection.aio.ReflectionServicer(names, pool=_Symbols(pool or descriptor_pool.Default()))
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, _Renamed(server))
