"""How a process of agents is served: what may be said, with its defaults and checks."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, fields
from typing import Any

from atomesh.agents.drain import GRACE
from atomesh.agents.spec import AgentOptions
from atomesh.core.context import DEFAULT_TIMEOUT
from atomesh.core.errors import InvalidArgument
from atomesh.core.names import check_dialable, join_address, split_address
from atomesh.core.tracing import Tracer
from atomesh.rpc.credentials import PLAINTEXT, Credentials


class ServerOptions(AgentOptions, total=False):
    """Keyword arguments of AgentServer and serve: what is said of the agents, and ServerSettings' fields."""

    bind: str
    advertise: str | None
    registry: str | None
    credentials: Credentials
    http_bind: str | None
    ttl: float | None
    drain_grace: float
    default_timeout: float
    max_connection_age: float | None
    guard_calls: bool
    tracer: Tracer | None


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Where and how a process of agents is served."""

    bind: str = "127.0.0.1:0"
    """host:port to listen on; port 0 for any free one."""
    advertise: str | None = None
    """What callers dial, host:port; port 0 for the one that is bound. None: as bound."""
    registry: str | None = None
    """The registry's address. None: serve without one."""
    credentials: Credentials = PLAINTEXT
    http_bind: str | None = None
    """host:port for /metrics, /healthz and /readyz. None: no HTTP."""
    ttl: float | None = None
    """Seconds that a lease lasts. None: the registry's default."""
    drain_grace: float = GRACE
    """Seconds that executions may take to end in a drain."""
    default_timeout: float = DEFAULT_TIMEOUT
    """Seconds for a call whose caller gives no deadline."""
    max_connection_age: float | None = None
    """Seconds after which a client is asked to connect anew, so that connections spread over what is behind
    an address; what runs is finished. None: never."""
    guard_calls: bool = False
    """Whether calls need the token too, and not only draining."""
    tracer: Tracer | None = None
    """What begins the spans of executions. None: they are not traced, and a traceparent goes on as it came."""

    def __post_init__(self) -> None:
        """Raises InvalidArgument where something is wrong, in one line."""
        host, _ = split_address(self.bind)
        if self.advertise is None and is_wildcard(host):
            raise InvalidArgument(
                f"{self.bind} stands for every address of this machine; say which one callers dial with "
                "--advertise host:port (port 0 for the one that is bound)"
            )
        if self.advertise is not None:
            named, port = split_address(self.advertise)
            check_dialable(join_address(named, port or 1))
        for what, value, least in (
            ("drain_grace", self.drain_grace, 0.0),
            ("default_timeout", self.default_timeout, 0.001),
        ):
            if not least <= value <= 86_400:
                raise InvalidArgument(f"{what} is {value!r:.80} s; expected {least:g} to 86,400")
        if self.guard_calls and not self.credentials.token:
            raise InvalidArgument("guard_calls without a token would refuse every call; give one with --token-file")
        age = self.max_connection_age
        if age is not None and not 1 <= age <= 86_400:
            raise InvalidArgument(f"max_connection_age is {age!r:.80} s; expected 1 to 86,400")

    def advertised(self, bound: str) -> str:
        """What callers dial, once it is known what is bound."""
        if self.advertise is None:
            return bound
        host, port = split_address(self.advertise)
        return join_address(host, port or split_address(bound)[1])

    def advertised_http(self, bound: str, address: str) -> str:
        """Where Prometheus scrapes: as bound, or at the host that callers dial where that is a wildcard."""
        host, port = split_address(bound)
        return join_address(split_address(address)[0], port) if is_wildcard(host) else bound


def split_options(options: ServerOptions) -> tuple[ServerSettings, AgentOptions]:
    """The settings of the server, and what is said of the agents."""
    own = {field.name for field in fields(ServerSettings)}
    said: dict[str, Any] = dict(options)
    for key in said:
        if key not in own and key not in AgentOptions.__annotations__:
            raise InvalidArgument(f"no such option: {key}")
    settings = ServerSettings(**{key: value for key, value in said.items() if key in own})
    return settings, AgentOptions(**{key: value for key, value in said.items() if key not in own})  # type: ignore[typeddict-item] # the keys were checked above


def is_wildcard(host: str) -> bool:
    """Whether the host stands for every address of the machine."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
