"""What `atomesh doctor` looks at, one function for each thing."""

from __future__ import annotations

import platform
import re
import socket
import sys
import tempfile
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from atomesh.cli._errors import CliError
from atomesh.cli._flags import Dialling
from atomesh.cli._settings import Settings, load, state_dir

SKEW_SECONDS = 2.0
"""Between this clock and the registry's. Leases do not care, they run on
monotonic time; logs and traces of several machines become a puzzle from here on."""

_PROBE_SECONDS = 2.0


@dataclass(frozen=True)
class Finding:
    """One line of the doctor."""

    check: str
    level: Literal["ok", "warn", "fail"]
    message: str
    todo: str = ""

    def data(self) -> dict[str, str]:
        """For JSON."""
        return asdict(self)


async def run(flags: Dialling) -> list[Finding]:
    """Everything, in the order in which one thing needs the other."""
    findings = [_python(), *_packages(), _generated()]
    try:
        settings = load(flags)
    except CliError as error:
        findings.append(Finding("config", "fail", error.message, "the rest was not checked"))
        return findings
    findings.append(Finding("config", "ok", f"{settings.file or 'no file, defaults and environment'}"))
    findings += [_state(settings), _credentials(settings)]
    if findings[-1].level == "fail":
        return findings
    findings += await _registry(settings)
    return findings


def _python() -> Finding:
    # An older one cannot even read this file, so there is nothing to compare.
    return Finding("python", "ok", f"{platform.python_version()} at {sys.executable}")


def _packages() -> list[Finding]:
    """Whether what is installed is new enough, as our own metadata states it."""
    wanted = [re.match(r"([A-Za-z0-9_.-]+)>=([0-9.]+)", line) for line in metadata.requires("atomesh") or []]
    found = []
    for match in [match for match in wanted if match]:
        name, least = match[1], match[2]
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            found.append(Finding(name, "fail", "is not installed", f"pip install '{name}>={least}'"))
            continue
        if _parts(version) < _parts(least):
            found.append(Finding(name, "fail", f"{version} is older than {least}", f"pip install '{name}>={least}'"))
        elif name in ("grpcio", "protobuf", "protovalidate"):
            found.append(Finding(name, "ok", version))
    family = {metadata.version(name) for name in ("grpcio", "grpcio-health-checking", "grpcio-reflection")}
    if len(family) > 1:
        said = f"grpcio and its companions are on different versions ({', '.join(sorted(family))})"
        found.append(Finding("grpcio", "warn", said, "install them all on one"))
    return found


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _generated() -> Finding:
    """Generated code refuses a runtime that is older than the protoc that wrote it, at import."""
    try:
        from atomesh.text.v1 import text_pb2
        from atomesh.v1 import registry_pb2

        names = (text_pb2.DESCRIPTOR.name, registry_pb2.DESCRIPTOR.name)
    except Exception as error:  # noqa: BLE001 # protobuf's own VersionError, which moved between its versions
        return Finding("generated", "fail", f"the generated code does not load: {error}", "upgrade protobuf")
    return Finding("generated", "ok", f"loads on protobuf {metadata.version('protobuf')} ({', '.join(names)})")


def _state(settings: Settings) -> Finding:
    said = settings.registry.data_dir
    directory = Path(said).expanduser() if said else state_dir()
    existing = next((path for path in (directory, *directory.parents) if path.exists()), Path("/"))
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        why = f"{directory} cannot be written: {error.strerror or error}"
        return Finding("state", "fail", why, "choose another with --data-dir, or run registries with --memory")
    return Finding("state", "ok", f"{directory} can be written")


def _credentials(settings: Settings) -> Finding:
    from atomesh.core.errors import AtomeshError

    try:
        loaded = settings.credentials.load()
    except AtomeshError as error:
        return Finding("credentials", "fail", error.message, "the rest was not checked")
    tls = "TLS" if loaded.has_tls else "plaintext, fine on loopback"
    return Finding("credentials", "ok", f"{tls}, {'a' if loaded.token else 'no'} token")


async def _registry(settings: Settings) -> list[Finding]:
    """Whether one answers; where none does, whether its ports are free for one."""
    from atomesh.core import ALL_STATES, Selector
    from atomesh.core.errors import AtomeshError, InvalidArgument
    from atomesh.rpc import RegistryClient

    address = settings.mesh.registry
    try:
        async with RegistryClient(address, settings.credentials.load()) as client:
            snapshot = await client.discover(Selector(states=ALL_STATES))
    except InvalidArgument as error:
        return [Finding("registry", "fail", error.message)]
    except AtomeshError as error:
        return [Finding("registry", *_unreachable(address, error)), *_ports(settings)]
    found = [Finding("registry", "ok", f"{address}, revision {snapshot.position.revision}")]
    if snapshot.self_preservation:
        found.append(
            Finding("registry", "warn", "it preserves itself: many leases ran out at once", "check the network")
        )
    found.append(_agents(snapshot.endpoints))
    if (skew := _skew(snapshot.endpoints)) is not None:
        found.append(skew)
    return found


def _unreachable(address: str, error: Exception) -> tuple[Literal["warn", "fail"], str, str]:
    message = str(error)
    if "is not a registry" in message:
        return "fail", f"something else than a registry answers at {address}", "name another with --registry"
    if _answers(address):
        todo = "if it is one, its TLS or its token differ from ours: check --tls-ca, --tls-cert and --token-file"
        return "fail", f"what listens at {address} does not answer as a registry", todo
    return "fail", f"none answers at {address}", "start one: atomesh up, or atomesh registry"


def _ports(settings: Settings) -> list[Finding]:
    """Whether a registry could bind here."""
    wanted = {"registry port": settings.registry.bind, "http port": settings.registry.http_bind}
    return [_port(name, address) for name, address in wanted.items()]


def _port(name: str, address: str) -> Finding:
    from atomesh.core.errors import InvalidArgument
    from atomesh.core.names import split_address

    try:
        host, port = split_address(address)
    except InvalidArgument as error:
        return Finding(name, "fail", error.message)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return Finding(name, "warn", f"{address} cannot be bound: {error.strerror or error}", "choose with --bind")
    return Finding(name, "ok", f"{address} is free")


def _answers(address: str) -> bool:
    from atomesh.core.names import split_address

    try:
        with socket.create_connection(split_address(address), timeout=_PROBE_SECONDS):
            return True
    except OSError:
        return False


def _agents(endpoints: Any) -> Finding:
    from atomesh.core import State

    serving = [endpoint for endpoint in endpoints if endpoint.state is State.SERVING]
    others = len(endpoints) - len(serving)
    if not serving:
        return Finding(
            "agents", "warn", f"none serves ({others} in other states)", "start one: atomesh serve text-processor"
        )
    names = sorted({endpoint.agent for endpoint in serving})
    said = f"{len(serving)} endpoints serve {', '.join(names)}" + (f", {others} do not serve" if others else "")
    return Finding("agents", "warn" if others else "ok", said, "atomesh agents --all shows them" if others else "")


def _skew(endpoints: Any) -> Finding | None:
    """The registry stamps renewals, each within a third of its lease: none is ever in our future."""
    from atomesh.core.clock import SYSTEM_CLOCK

    latest = max((endpoint.last_renewed_at for endpoint in endpoints), default=0.0)
    if not latest:
        return None
    ahead = latest - SYSTEM_CLOCK.wall()
    todo = "synchronize the clocks (NTP); leases do not depend on them, logs and traces do"
    if ahead > SKEW_SECONDS:
        return Finding("clock", "warn", f"the registry's clock is {ahead:.0f} s ahead of this one", todo)
    if ahead < -60:
        said = f"the last renewal is {-ahead:.0f} s old: leases are long, or the registry's clock is behind this one"
        return Finding("clock", "warn", said, todo)
    return Finding("clock", "ok", "agrees with the registry's")
