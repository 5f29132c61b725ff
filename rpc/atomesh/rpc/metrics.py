"""The metrics that every gRPC dashboard knows, as values that are handed in.

Names and labels are those of go-grpc-prometheus (grpc_type, grpc_service,
grpc_method, grpc_code in CamelCase). Label children are bound once per method:
looking them up costs more than counting does.
"""

from __future__ import annotations

from google.rpc import code_pb2
from prometheus_client import CollectorRegistry

from atomesh.core.errors import Code, code_name
from atomesh.rpc.counting import Count, CounterFamily, HistogramFamily

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100)
"""Seconds. To 100 because agents are slow: an LLM call of a minute must not fall off the end."""

_LABELS = ("grpc_type", "grpc_service", "grpc_method")


class GrpcMetrics:
    """The families of one side, `server` or `client`."""

    def __init__(self, side: str, registry: CollectorRegistry) -> None:
        """Registers the families; once per registry and side."""
        self.side = side
        done = "handled by the server" if side == "server" else "completed by the client"
        self.started = CounterFamily(
            f"grpc_{side}_started_total", f"RPCs started on the {side}.", _LABELS, registry=registry
        )
        self.handled = CounterFamily(
            f"grpc_{side}_handled_total", f"RPCs {done}, by code.", (*_LABELS, "grpc_code"), registry=registry
        )
        self.seconds = HistogramFamily(
            f"grpc_{side}_handling_seconds",
            f"Time until RPCs were {done}.",
            _LABELS,
            buckets=BUCKETS,
            registry=registry,
        )
        self.received = CounterFamily(
            f"grpc_{side}_msg_received_total", f"Messages received by the {side}.", _LABELS, registry=registry
        )
        self.sent = CounterFamily(
            f"grpc_{side}_msg_sent_total", f"Messages sent by the {side}.", _LABELS, registry=registry
        )

    def method(self, grpc_type: str, service: str, method: str) -> MethodSeries:
        """The series of one method, bound."""
        return MethodSeries(self, (grpc_type, service, method))


class MethodSeries:
    """What is counted of one method."""

    __slots__ = ("_codes", "_handled", "_labels", "_requests", "_responses", "received", "seconds", "sent", "started")

    def __init__(self, families: GrpcMetrics, labels: tuple[str, str, str]) -> None:
        """Binds the labels."""
        self._labels = labels
        self._handled = families.handled
        self._codes: dict[Code, Count] = {}
        self.started = families.started.labels(*labels)
        self.seconds = families.seconds.labels(*labels)
        self.received = families.received.labels(*labels)
        self.sent = families.sent.labels(*labels)
        server = families.side == "server"
        self._requests = self.received if server else self.sent
        self._responses = self.sent if server else self.received

    def unary_began(self) -> None:
        """Counts an RPC that begins with its one request."""
        self.started.value += 1
        self._requests.value += 1

    def unary_ended(self, code: Code, seconds: float) -> None:
        """Counts an RPC that ended; a good end has one response."""
        if code == code_pb2.OK:
            self._responses.value += 1
        self.handled(code, seconds)

    def handled(self, code: Code, seconds: float) -> None:
        """Counts an RPC that ended."""
        counter = self._codes.get(code)
        if counter is None:
            counter = self._codes[code] = self._handled.labels(*self._labels, camel_case(code))
        counter.value += 1
        self.seconds.observe(seconds)


def camel_case(code: Code) -> str:
    """`DeadlineExceeded` of 4, as dashboards write it."""
    name = code_name(code)
    return "OK" if name == "OK" else "".join(word.capitalize() for word in name.split("_"))
