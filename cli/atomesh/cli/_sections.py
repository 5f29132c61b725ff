"""The tables of the configuration file: each key with its type, its limits and its default."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

if TYPE_CHECKING:
    from atomesh.rpc.credentials import Credentials


def _pairs(given: Any) -> Any:
    """`k=v,k2=v2` of the environment, or a list of `k=v` of flags, as a mapping."""
    if isinstance(given, str):
        given = [pair for pair in given.split(",") if pair]
    if not isinstance(given, list | tuple):
        return given
    pairs = [str(pair).partition("=") for pair in given]
    if bad := next((key for key, equals, _ in pairs if not (key and equals)), None):
        raise ValueError(f"{bad!r:.80} is not key=value")
    return {key: value for key, _, value in pairs}


def _listed(given: Any) -> Any:
    """`a, b` of the environment as a list; anything else as it is."""
    return [each.strip() for each in given.split(",") if each.strip()] if isinstance(given, str) else given


def _modules(given: Any) -> Any:
    """`a,b.c` of the environment, or a list, as names of modules that are names."""
    given = _listed(given)
    if isinstance(given, list | tuple):
        bad = next((name for name in given if not (isinstance(name, str) and _MODULE.fullmatch(name))), None)
        if bad is not None:
            raise ValueError(f"{bad!r:.80} is no module; write my_package or my_package.my_module")
    return given


_MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")


def _networks(given: Any) -> Any:
    """`10.0.0.0/8,fd00::/8` of the environment, or a list, as networks that may be probed."""
    from atomesh.core.errors import InvalidArgument
    from atomesh.registry.allow_list import AllowList

    given = _listed(given)
    if isinstance(given, list | tuple) and all(isinstance(network, str) for network in given):
        try:
            AllowList(given)
        except InvalidArgument as error:
            raise ValueError(error.message) from None
    return given


def _breakers(given: dict[str, str]) -> dict[str, str]:
    for agent, text in given.items():
        failures, slash, seconds = text.partition("/")
        try:
            good = int(failures) >= 1 and (not slash or 0 < float(seconds) <= 3600)
        except ValueError:
            good = False
        if not good:
            raise ValueError(
                f"{agent}={text!r:.40} is no breaker; write failures in a row, such as 5, or 5/30 for 30 s"
            )
    return given


HTTP_PORT = 7401
"""Where a registry has its HTTP pages unless it is told otherwise."""

Pairs = Annotated[dict[str, str], BeforeValidator(_pairs)]
Modules = Annotated[list[str], BeforeValidator(_modules)]
Networks = Annotated[list[str], BeforeValidator(_networks)]
Seconds = Annotated[float, Field(gt=0, le=1e6)]


def _path(said: str | None) -> Path | None:
    return Path(said).expanduser() if said else None


class Section(BaseModel):
    """One table of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    prefix: ClassVar[str] = ""

    def shown(self, key: str) -> Any:
        """The value of a key as it may be printed: without secrets."""
        return getattr(self, key)


class MeshSection(Section):
    """What clients of the mesh need."""

    registry: str = "127.0.0.1:7400"
    """The registry's address."""
    registry_http: str | None = None
    """Its HTTP address; where unset, HTTP_PORT where the registry is."""
    deadline: Seconds = 30.0
    """Seconds that a call may take."""
    policy: str = "late_binding"
    """How endpoints are picked."""
    breakers: Annotated[dict[str, str], BeforeValidator(_pairs), AfterValidator(_breakers)] = {}
    """Agents whose whole fleet may be ejected, by how many failures in a row: `5`, or `5/30` for 30 s at first."""

    @property
    def http_address(self) -> str:
        """host:port of the registry's HTTP pages.

        Raises:
            InvalidArgument: `registry` is no address.
        """
        from atomesh.core.names import join_address, split_address

        return self.registry_http or join_address(split_address(self.registry)[0], HTTP_PORT)


class CredentialsSection(Section):
    """Files that hold who we are and whom we believe."""

    tls_cert: str | None = None
    tls_key: str | None = None
    tls_ca: str | None = None
    token_file: str | None = None
    insecure: bool = False
    """Plaintext off loopback too."""

    def load(self) -> Credentials:
        """The credentials in the files.

        Raises:
            InvalidArgument: a file that cannot be read, an expired certificate, half a pair.
        """
        from atomesh.rpc.credentials import load_credentials

        return load_credentials(
            tls_cert=_path(self.tls_cert),
            tls_key=_path(self.tls_key),
            tls_ca=_path(self.tls_ca),
            token_file=_path(self.token_file),
            insecure=self.insecure,
        )


class LogSection(Section):
    """What is logged, on stderr."""

    prefix = "log_"
    level: Literal["debug", "info", "warning", "error", "critical"] = "info"
    format: Literal["auto", "json", "text"] = "auto"


def _collector(said: str) -> str:
    from atomesh.core.errors import InvalidArgument
    from atomesh.core.names import collector_url

    try:
        return collector_url(said) if said else ""
    except InvalidArgument as error:
        raise ValueError(error.message.partition("; ")[2]) from None


class TracingSection(Section):
    """Where spans go."""

    otlp_endpoint: Annotated[str, AfterValidator(_collector)] = ""
    """A collector's URL; nowhere where empty."""
    trace_ratio: Annotated[float, Field(ge=0, le=1)] = 1.0
    """The share that is sampled of the traces that begin here."""


class RegistrySection(Section):
    """`atomesh registry`."""

    prefix = "registry_"
    bind: str = "127.0.0.1:7400"
    http_bind: str = "127.0.0.1:7401"
    data_dir: str | None = None
    """Where its state is kept; `$XDG_STATE_HOME/atomesh` where unset."""
    memory: bool = False
    """Keep no state at all."""
    min_ttl: Seconds = 15.0
    default_ttl: Seconds = 15.0
    max_ttl: Seconds = 3600.0
    strict_contracts: bool = False
    """Registrations are held to the rules of live contracts too."""
    probe_interval: Annotated[float, Field(ge=0, le=86_400)] = 30.0
    """Seconds between two probes of an endpoint; 0 for none."""
    probe_timeout: Annotated[float, Field(gt=0, le=300)] = 5.0
    """Seconds that a probe may take."""
    probe_networks: Networks | None = None
    """Where probes may go; loopback and private addresses where unset."""


class ServeSection(Section):
    """`atomesh serve`."""

    prefix = "serve_"
    bind: str = "127.0.0.1:0"
    advertise: str | None = None
    """What callers dial; the bound address where unset."""
    http_bind: str = "127.0.0.1:0"
    slots: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Executions at once; the class's own where unset."""
    weight: Annotated[float, Field(ge=0.001, le=1000)] | None = None
    """How fast it is beside others of its agent; the class's own where unset."""
    zone: str | None = None
    labels: Pairs = {}
    name: str | None = None
    version: str | None = None
    drain_grace: Annotated[float, Field(ge=0, le=3600)] = 25.0
    """Seconds that running calls may take at the end."""
    ttl: Seconds | None = None
    """Seconds that the lease lasts; the registry's default where unset."""
    max_connection_age: Annotated[float, Field(ge=1, le=86_400)] | None = None
    """Seconds after which clients are asked to connect anew; never where unset."""
    guard_calls: bool = False
    """Calls need the token too."""
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    """Processes, each an endpoint of its own. At most as many as the cores of a
    large machine: a thousand is a typing mistake, and costs 60 GB."""


class UpSection(Section):
    """`atomesh up`."""

    prefix = "up_"
    endpoints: Annotated[int, Field(ge=1, le=64)] = 3
    slots: Annotated[int, Field(ge=1, le=100_000)] | None = None
    registry_bind: str = "127.0.0.1:7400"
    http_bind: str = "127.0.0.1:7401"
    memory: bool = False


class PipelinesSection(Section):
    """Pipelines: where their runs are kept, and what may be started."""

    prefix = "pipelines_"
    store: str | None = None
    """A path, `sqlite:///...`, `postgresql://...` or `memory`; `pipelines.db` in `$XDG_STATE_HOME/atomesh` where unset."""
    retention_days: Annotated[float, Field(gt=0, le=36_500)] = 7.0
    """Days that a run is kept after it began."""
    retention_runs: Annotated[int, Field(ge=1, le=100_000_000)] = 10_000
    """Runs that are kept, the newest."""
    keep_outputs: Annotated[int, Field(ge=0, le=64 * 1024 * 1024)] = 64 * 1024
    """Bytes up to which an output is kept with its run; 0 keeps none."""
    allow_modules: Modules = ["atomesh.agents.builtin"]
    """Modules, and packages with all in them, whose classes `atomesh start` may start."""

    def shown(self, key: str) -> Any:
        """The store without its password."""
        value = super().shown(key)
        if key != "store" or not value or "://" not in value:
            return value
        from atomesh.pipelines.store.location import without_password

        return without_password(value)


SECTIONS: Mapping[str, type[Section]] = {
    "mesh": MeshSection,
    "credentials": CredentialsSection,
    "log": LogSection,
    "tracing": TracingSection,
    "registry": RegistrySection,
    "serve": ServeSection,
    "up": UpSection,
    "pipelines": PipelinesSection,
}
