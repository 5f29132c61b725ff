"""`atomesh drain ENDPOINT`: out of service without losing a call."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atomesh.cli._errors import CliError, ExitCode, UsageMistake
from atomesh.cli._flags import Dialling, Json
from atomesh.cli._output import note, say_json

if TYPE_CHECKING:
    from atomesh.cli._settings import Settings
    from atomesh.core import Endpoint
    from atomesh.rpc import RegistryClient

POLL_SECONDS = 0.1
"""How often a draining endpoint is looked at: a person sees no faster."""

MARGIN_SECONDS = 10.0
"""Beyond the grace that it may take, before we stop to wait for it."""

ANSWER_SECONDS = 5.0


@dataclass(frozen=True)
class Way:
    """How it is drained."""

    agent: Annotated[str, typer.Option("--agent", help="Only this agent of the process.", show_default=False)] = ""
    grace: Annotated[
        float | None, typer.Option("--grace", metavar="SECONDS", help="What running calls get [its own setting].")
    ] = None
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Return as soon as the draining has begun.")] = False


def drain(
    endpoint: Annotated[
        str, typer.Argument(metavar="ENDPOINT", help="Address, instance id, or its beginning.", show_default=False)
    ],
    way: Way,
    flags: Dialling,
    as_json: Json = False,
) -> int:
    """Take an endpoint out of service; what runs there is finished.

    \b
    atomesh drain 127.0.0.1:40123
    atomesh drain 3f9a --grace 10
    """
    from atomesh.cli._logging import configure
    from atomesh.cli._settings import load

    settings = load(flags)
    configure(settings, quiet=True)
    if way.grace is not None and not 0 <= way.grace <= 3600:
        raise UsageMistake(f"--grace is {way.grace:g}; expected 0 to 3600 seconds")
    told = asyncio.run(_drain(endpoint, way, settings))
    if as_json:
        say_json(told)
    return ExitCode.OK


async def _drain(wanted: str, way: Way, settings: Settings) -> dict[str, Any]:
    from atomesh.core.clock import SYSTEM_CLOCK
    from atomesh.rpc import RegistryClient

    begun = SYSTEM_CLOCK.now()
    async with RegistryClient(settings.mesh.registry, settings.credentials.load()) as client:
        address, found = await _find(wanted, client, settings)
        running = await begin(address, settings, agent=way.agent, grace=way.grace)
        note(
            f"{address} drains, {running} executions still run" + ("" if way.no_wait else "; waiting until it is gone")
        )
        told = {"address": address, "in_flight": running, "gone": False}
        if way.no_wait:
            return told
        # Agents of one process share its instance id.
        instances = {(endpoint.agent, endpoint.instance_id) for endpoint in found if way.agent in ("", endpoint.agent)}
        limit = begun + (25.0 if way.grace is None else way.grace) + MARGIN_SECONDS
        while await _there(address, instances, client, settings):
            if SYSTEM_CLOCK.now() > limit:
                raise CliError(f"{address} is not gone after {limit - begun:g} s; its log says why", ExitCode.FAILED)
            await SYSTEM_CLOCK.sleep(POLL_SECONDS)
    note(f"{address} is gone after {SYSTEM_CLOCK.now() - begun:.1f} s")
    return {**told, "gone": True, "seconds": round(SYSTEM_CLOCK.now() - begun, 3)}


async def _find(wanted: str, client: RegistryClient, settings: Settings) -> tuple[str, list[Endpoint]]:
    """The address, and the registered endpoints there; an address that nobody registered is dialled as it is."""
    from atomesh.core import ALL_STATES, Selector
    from atomesh.core.errors import InvalidArgument, RegistryUnavailable
    from atomesh.core.names import check_dialable

    try:
        check_dialable(wanted)
        is_address = True
    except InvalidArgument:
        is_address = False
    try:
        known = (await client.discover(Selector(states=ALL_STATES))).endpoints
    except RegistryUnavailable:
        if not is_address:
            raise
        known = ()
    found = [e for e in known if e.address == wanted or (not is_address and e.instance_id.startswith(wanted))]
    addresses = sorted({endpoint.address for endpoint in found})
    if len(addresses) > 1:
        raise UsageMistake(
            f"{wanted!r:.80} begins {len(addresses)} instances ({', '.join(addresses)}); write more of it"
        )
    if not found and not is_address:
        raise CliError(
            f"no endpoint with the address or instance id {wanted!r:.80} at registry {settings.mesh.registry}; "
            "`atomesh agents --all --json` lists both",
            ExitCode.NOT_FOUND,
        )
    return (addresses[0] if addresses else wanted), found


async def begin(address: str, settings: Settings, *, agent: str = "", grace: float | None = None) -> int:
    """Asks the endpoint to drain; the executions that still run there.

    Raises:
        Unauthenticated: it wants a token, and not this one.
        CliError: nothing answers there.
    """
    import grpc.aio

    from atomesh.core.errors import ConnectionLost
    from atomesh.rpc.channel import from_rpc_error, open_channel
    from atomesh.v1 import agent_pb2, agent_pb2_grpc

    credentials = settings.credentials.load()
    request = agent_pb2.DrainRequest(agent=agent)
    if grace is not None:
        request.grace.FromNanoseconds(int(grace * 1e9))
    async with open_channel(address, credentials) as channel:
        stub: Any = agent_pb2_grpc.AgentServiceStub(channel)
        try:
            answer = await stub.Drain(request, timeout=ANSWER_SECONDS, metadata=credentials.metadata())
        except grpc.aio.AioRpcError as raw:
            error = from_rpc_error(raw)
            if isinstance(error, ConnectionLost):
                raise CliError(
                    f"nothing answers at {address}; check the address, and whether it needs TLS", ExitCode.UNAVAILABLE
                ) from None
            if raw.code() is grpc.StatusCode.UNIMPLEMENTED:
                raise CliError(
                    f"{address} is no endpoint of an agent; `atomesh agents` lists those there are", ExitCode.NOT_FOUND
                ) from None
            raise error from None
        return int(answer.in_flight)


async def _there(address: str, instances: set[tuple[str, str]], client: RegistryClient, settings: Settings) -> bool:
    """Whether the registry lists any of the instances still; without it, whether anything answers there."""
    from atomesh.core import ALL_STATES, Selector
    from atomesh.core.errors import RegistryUnavailable

    if instances:
        try:
            known = (await client.discover(Selector(states=ALL_STATES))).endpoints
            return any((endpoint.agent, endpoint.instance_id) in instances for endpoint in known)
        except RegistryUnavailable:
            instances.clear()  # it went away: ask the endpoint itself from now on
    return await _answers(address, settings)


async def _answers(address: str, settings: Settings) -> bool:
    import grpc.aio

    from atomesh.rpc.channel import open_channel
    from atomesh.v1 import agent_pb2, agent_pb2_grpc

    async with open_channel(address, settings.credentials.load()) as channel:
        stub: Any = agent_pb2_grpc.AgentServiceStub(channel)
        try:
            await stub.Health(agent_pb2.HealthRequest(), timeout=ANSWER_SECONDS)
        except grpc.aio.AioRpcError:
            return False
        return True
