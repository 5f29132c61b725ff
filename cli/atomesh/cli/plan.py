"""`atomesh plan`: chains of agents from what there is to what is wanted, as pipelines."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atomesh.cli._errors import CliError, ExitCode, UsageMistake
from atomesh.cli._flags import Dialling, Json
from atomesh.cli._output import counted, data_text, escape, fail, note, say, say_json

if TYPE_CHECKING:
    from atomesh.cli._settings import Settings
    from atomesh.pipelines.assembly import Catalog, Chain, Found, Query, Stage
    from atomesh.v1 import pipeline_pb2

_RIVALS = 5  # named in a line; the rest are counted


@dataclass(frozen=True)
class Question:
    """What is asked for."""

    start: Annotated[
        str, typer.Option("--from", metavar="TYPE|CAPABILITY", help="What there is.", show_default=False)
    ] = ""
    goal: Annotated[
        str, typer.Option("--to", metavar="TYPE|CAPABILITY", help="What is wanted.", show_default=False)
    ] = ""
    via: Annotated[
        list[str] | None,
        typer.Option("--via", metavar="CAP,CAP", help="Capabilities on the way, in order.", show_default=False),
    ] = None
    max_length: Annotated[int, typer.Option("--max-length", metavar="N", help="Agents in a chain, at most 16.")] = 6
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="Chains, at most 20.")] = 3

    def query(self) -> Query:
        """As the search understands it."""
        from atomesh.pipelines.assembly import Query
        from atomesh.pipelines.assembly.query import MOST_LENGTH, MOST_LIMIT

        for flag, value, most in (("max-length", self.max_length, MOST_LENGTH), ("limit", self.limit, MOST_LIMIT)):
            if not 1 <= value <= most:
                raise UsageMistake(f"--{flag} is {value}; expected 1 to {most}")
        via = tuple(word.strip() for given in self.via or () for word in given.split(","))
        return Query(self.start, self.goal, via, self.max_length, self.limit)


@dataclass(frozen=True)
class Making:
    """What is made of the best chain."""

    create: Annotated[
        str,
        typer.Option("--create", metavar="FILE|-", help="Write the best chain's pipeline there.", show_default=False),
    ] = ""
    name: Annotated[str, typer.Option("--name", help="The pipeline's name.", show_default=False)] = ""
    fallbacks: Annotated[
        bool, typer.Option("--fallbacks", help="Stages fall back to their best rival of the same contract.")
    ] = False
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False


def plan(question: Question, making: Making, flags: Dialling, as_json: Json = False) -> int:
    """Find chains of agents by their contracts and capabilities.

    \b
    atomesh plan --from text.v1.Document --to report.v1.Draft
    atomesh plan --via summarize,translate --create summary.yaml
    """
    from atomesh.cli._logging import configure
    from atomesh.cli._settings import load

    settings = load(flags)
    configure(settings, quiet=True)
    query = question.query()
    _free(making)
    catalog = asyncio.run(_catalog(settings))
    return _answer(query, catalog, making, as_json=as_json)


def _answer(query: Query, catalog: Catalog, making: Making, *, as_json: bool) -> int:
    from atomesh.pipelines.assembly import answer_of, find, without_fallback

    found = find(catalog, query)
    answer = answer_of(found, catalog, name=making.name, fallbacks=making.fallbacks)
    if as_json and making.create != "-":
        say_json(_data(answer, found))
    if not found.chains:
        if not as_json:
            fail("; ".join(found.missing))
        return ExitCode.NOT_FOUND
    if making.fallbacks and (alone := without_fallback(found.chains[0])):
        note(f"no fallback for {', '.join(alone)}: no rival has the same contract")
    if making.create == "-":
        say(data_text(answer.chains[0].pipeline).rstrip("\n"))
        return ExitCode.OK
    if not as_json:
        _show(found)
    if making.create:
        _write(Path(making.create), answer.chains[0].pipeline, over=making.force)
    return ExitCode.OK


async def _catalog(settings: Settings) -> Catalog:
    from atomesh.pipelines.assembly import RegistryFinder

    async with RegistryFinder(settings.mesh.registry, settings.credentials.load()) as finder:
        return await finder.catalog()


def _free(making: Making) -> None:
    """Whether the file may be written: better told before a search than after it."""
    if making.create not in ("", "-") and not making.force and Path(making.create).exists():
        raise UsageMistake(f"{making.create} is there already; write over it with --force, or name another file")


def _write(path: Path, text: str, *, over: bool) -> None:
    try:
        with path.open("w" if over else "x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise CliError(f"cannot write {path}: {error.strerror}") from None
    note(f"wrote {path}; run it with `atomesh pipeline run {path}`")


def _show(found: Found) -> None:
    told: dict[str, set[str]] = {}  # of each agent, in chains before
    for number, chain in enumerate(found.chains, 1):
        say(escape(f"{number}. {' -> '.join(_types(chain))}"))
        say(escape(f"   {counted(len(chain.stages), 'agent')}: {chain.fares}"))
        for stage in chain.stages:
            _show_stage(stage, told.setdefault(stage.agent.name, set()))
    for said in found.missing:
        note(said)


def _show_stage(stage: Stage, told: set[str]) -> None:
    """The agent, and a line for each fact that was not told before."""
    facts = [*stage.facts, *_more_rivals(stage)]
    new = [fact for fact in facts if fact not in told]
    told.update(new)
    say(escape(f"   {stage.id}: {stage.agent.name}{'' if new else ', as above'}"))
    for fact in new:
        say(escape(f"      {fact}"))


def _more_rivals(stage: Stage) -> list[str]:
    """Those that the facts do not name."""
    others = stage.rivals[1:]
    if not others:
        return []
    more = f" and {len(others) - _RIVALS} more" if len(others) > _RIVALS else ""
    return [f"also: {', '.join(rival.name for rival in others[:_RIVALS])}{more}"]


def _types(chain: Chain) -> list[str]:
    """What there is, and what each agent gives."""
    return [chain.start, *(stage.agent.output_type for stage in chain.stages)]


def _data(answer: pipeline_pb2.PlanResponse, found: Found) -> dict[str, Any]:
    return {
        "chains": [
            {
                "stages": [
                    {
                        "id": stage.id,
                        "agent": stage.agent,
                        "capability": stage.capability,
                        "input_type": stage.input_type,
                        "output_type": stage.output_type,
                        "input": shown.input,
                        "unset": list(shown.filling.unset),
                        "not_read": list(shown.filling.dropped),
                        "why": stage.why,
                        "rivals": list(stage.rivals),
                    }
                    for stage, shown in zip(chain.stages, way.stages, strict=True)
                ],
                "expected_seconds": chain.expected.ToTimedelta().total_seconds(),
                "success": chain.success,
                "free_slots": chain.free_slots,
                "pipeline": chain.pipeline,
            }
            for chain, way in zip(answer.chains, found.chains, strict=True)
        ],
        "missing": list(answer.missing),
    }
