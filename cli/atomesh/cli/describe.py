"""`atomesh describe AGENT`: what it takes and gives, what it can do, where it is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atomesh.cli._errors import CliError, ExitCode
from atomesh.cli._flags import Dialling, Json
from atomesh.cli._output import escape, say, say_json
from atomesh.cli.call import no_agent

if TYPE_CHECKING:
    from atomesh.cli._settings import Settings
    from atomesh.core import ContractDescriptor
    from atomesh.rpc.registry_client import Snapshot


def describe(
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="The agent's name.", show_default=False)],
    flags: Dialling,
    as_json: Json = False,
) -> int:
    """Show an agent's contract as proto, its capabilities and its endpoints.

    \b
    atomesh describe text-processor
    """
    from atomesh.cli._logging import configure
    from atomesh.cli._settings import load

    settings = load(flags)
    configure(settings, quiet=True)
    contract, snapshot = asyncio.run(_ask(agent, settings))
    if as_json:
        say_json(_data(agent, contract, snapshot))
    else:
        _show(agent, contract, snapshot, settings)
    return ExitCode.OK


async def _ask(agent: str, settings: Settings) -> tuple[ContractDescriptor, Snapshot]:
    from atomesh.core import ALL_STATES, Selector
    from atomesh.core.names import check_agent_name
    from atomesh.rpc import RegistryClient

    check_agent_name(agent)
    async with RegistryClient(settings.mesh.registry, settings.credentials.load()) as client:
        snapshot = await client.discover(Selector(agent=agent, states=ALL_STATES))
        if not snapshot.endpoints:
            raise CliError(await no_agent(agent, settings), ExitCode.NOT_FOUND)
        return await client.get_contract(contract_hash=_newest(snapshot).contract_hash), snapshot


def _typed_service(contract: ContractDescriptor) -> str:
    from atomesh.core.contract import typed_service

    return typed_service(contract.load())


def _newest(snapshot: Snapshot) -> Any:
    from atomesh.core.versions import parse_version

    return max(snapshot.endpoints, key=lambda endpoint: parse_version(endpoint.version))


def _show(agent: str, contract: ContractDescriptor, snapshot: Snapshot, settings: Settings) -> None:
    from atomesh.cli._contract_text import readable
    from atomesh.cli._output import console
    from atomesh.cli._tables import endpoint_table

    newest = _newest(snapshot)
    capabilities = ", ".join(c.name if c.score is None else f"{c.name} {c.score:.2f}" for c in newest.capabilities)
    versions = ", ".join(sorted({endpoint.version for endpoint in snapshot.endpoints}))
    say(escape(f"{agent} {versions}" + (", idempotent" if newest.idempotent else ", not idempotent")))
    say(escape(f"capabilities: {capabilities or 'none'}"))
    say(escape(f"contract {contract.hash[:12]}, typed service: {_typed_service(contract) or 'none'}"))
    say("")
    say(escape(readable(contract), keep="\n"))
    say("")
    out = console()
    out.print(endpoint_table(snapshot, settings.mesh.registry, width=out.width))


def _data(agent: str, contract: ContractDescriptor, snapshot: Snapshot) -> dict[str, Any]:
    from atomesh.cli._contract_text import readable
    from atomesh.cli._tables import endpoint_data

    endpoints = [endpoint_data(endpoint) for endpoint in snapshot.endpoints]
    return {
        "agent": agent,
        "contract": {
            "input_type": contract.input_type,
            "output_type": contract.output_type,
            "chunk_type": contract.chunk_type,
            "hash": contract.hash,
            "typed_service": _typed_service(contract),
            "proto": readable(contract),
        },
        "capabilities": endpoints[0]["capabilities"],
        "endpoints": endpoints,
    }
