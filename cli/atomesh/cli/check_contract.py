"""`atomesh check-contract FILE --agent NAME`: what a changed contract would break, before it runs anywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atomesh.cli._errors import CliError, ExitCode
from atomesh.cli._flags import Json
from atomesh.cli._output import escape, say, say_json
from atomesh.cli._pipelines import PipelineFlags
from atomesh.cli.call import no_agent

if TYPE_CHECKING:
    from atomesh.cli._settings import Settings
    from atomesh.core import ContractDescriptor
    from atomesh.core.evolution import Break, Consumer


@dataclass(frozen=True)
class Types:
    """Which messages of the file are the contract, and where what it imports is."""

    input_type: Annotated[
        str, typer.Option("--input-type", metavar="TYPE", help="Its input [the live one's].", show_default=False)
    ] = ""
    output_type: Annotated[
        str, typer.Option("--output-type", metavar="TYPE", help="Its output [the live one's].", show_default=False)
    ] = ""
    chunk_type: Annotated[
        str, typer.Option("--chunk-type", metavar="TYPE", help="Its chunks [the live one's].", show_default=False)
    ] = ""
    proto_path: Annotated[
        str,
        typer.Option(
            "--proto-path",
            metavar="DIR",
            help="Where imports start [the folder above the package's].",
            show_default=False,
        ),
    ] = ""


@dataclass(frozen=True)
class Live:
    """A contract that endpoints speak now."""

    contract: ContractDescriptor
    versions: tuple[str, ...]


def check_contract(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A .proto, or a serialized FileDescriptorSet.", show_default=False)
    ],
    agent: Annotated[str, typer.Option("--agent", metavar="NAME", help="Whose contract it is.", show_default=False)],
    types: Types,
    flags: PipelineFlags,
    as_json: Json = False,
) -> int:
    """Say what a changed contract breaks for those who speak the live one; exit code 1 where it breaks anything.

    \b
    atomesh check-contract protos/greeter/v1/greeter.proto --agent greeter
    atomesh check-contract greeter.binpb --agent greeter --json
    """
    from atomesh.cli._changed_contract import read_contract
    from atomesh.cli._consumers import consumers_of
    from atomesh.cli._logging import configure
    from atomesh.cli._settings import load

    settings = load(flags)
    configure(settings, quiet=True)
    live = asyncio.run(_live(agent, settings))
    newest = live[0].contract
    names = (
        types.input_type or newest.input_type,
        types.output_type or newest.output_type,
        types.chunk_type or newest.chunk_type,
    )
    changed = read_contract(Path(file), types.proto_path, names)
    found = compare(live, changed, asyncio.run(consumers_of(agent, settings)))
    if as_json:
        say_json(_data(agent, live, changed, found))
    else:
        _show(file, agent, live, found)
    return ExitCode.FAILED if found else ExitCode.OK


def compare(live: Iterable[Live], changed: ContractDescriptor, consumers: Iterable[Consumer] = ()) -> list[Break]:
    """What breaks of any live contract, each thing once."""
    from atomesh.core.evolution import breaks

    known = tuple(consumers)
    return list(dict.fromkeys(each for one in live for each in breaks(one.contract, changed, known)))


async def _live(agent: str, settings: Settings) -> list[Live]:
    """The contracts of the agent's endpoints, that of the newest version first."""
    from atomesh.core import ALL_STATES, Selector
    from atomesh.core.names import check_agent_name
    from atomesh.core.versions import parse_version
    from atomesh.rpc import RegistryClient

    check_agent_name(agent)
    async with RegistryClient(settings.mesh.registry, settings.credentials.load()) as client:
        snapshot = await client.discover(Selector(agent=agent, states=ALL_STATES))
        if not snapshot.endpoints:
            raise CliError(await no_agent(agent, settings), ExitCode.NOT_FOUND)
        versions: dict[str, dict[str, None]] = {}
        for endpoint in sorted(snapshot.endpoints, key=lambda each: parse_version(each.version), reverse=True):
            versions.setdefault(endpoint.contract_hash, {})[endpoint.version] = None
        return [Live(await client.get_contract(contract_hash=each), tuple(of)) for each, of in versions.items()]


def _show(file: str, agent: str, live: list[Live], found: list[Break]) -> None:
    for each in found:
        say(escape(f"{each.cause}: {each}" if each.cause == "wire" else str(each)))
    versions = ", ".join(version for one in live for version in one.versions)
    if not found:
        say(escape(f"nothing breaks: {file} can take the place of the contract of {agent} {versions}"))


def _data(agent: str, live: list[Live], changed: ContractDescriptor, found: list[Break]) -> dict[str, Any]:
    return {
        "agent": agent,
        "compatible": not found,
        "live": [{"contract_hash": one.contract.hash, "versions": list(one.versions)} for one in live],
        "changed": {
            "input_type": changed.input_type,
            "output_type": changed.output_type,
            "chunk_type": changed.chunk_type,
            "contract_hash": changed.hash,
        },
        "breaks": [
            {"cause": each.cause, "field": each.breach.field, "problem": each.breach.problem, "breaks": each.whom}
            for each in found
        ],
    }
