"""Which agent is best for a capability, and why: declared score, how it fares, whether it has room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from atomesh.core.errors import NotFound
from atomesh.pipelines.assembly.catalog import Catalog, Published, nearest

NO_WORDS: Mapping[str, str] = MappingProxyType({})
_SHOWN = 3
"""Names in a line of words; more would hide what the line says."""


@dataclass(frozen=True, slots=True)
class Choice:
    """An agent, why it and no other, and the others, best first."""

    agent: Published
    why: str
    rivals: tuple[Published, ...]


def choose(catalog: Catalog, capability: str, *, input_type: str = "", output_type: str = "") -> Choice:
    """The best agent for a capability, of those that take and give these types where they are named.

    Raises:
        NotFound: no live agent has the capability, or none that has it is of these types.
    """
    able = catalog.able(capability)
    if not able:
        raise NotFound(f"no live agent has the capability {capability}{nearest(capability, catalog.capabilities)}")
    fitting = [
        agent
        for agent in able
        if (not input_type or agent.input_type == input_type) and (not output_type or agent.output_type == output_type)
    ]
    if not fitting:
        there = "; ".join(f"{agent.name} is {agent.input_type} -> {agent.output_type}" for agent in able[:_SHOWN])
        wanted = f"{input_type or 'anything'} -> {output_type or 'anything'}"
        raise NotFound(f"no live agent with the capability {capability} is {wanted}: {there}")
    ranked = rank(fitting, capability)
    return Choice(ranked[0], why(ranked[0], ranked, capability), tuple(ranked[1:]))


def rank(agents: Sequence[Published], capability: str = "") -> list[Published]:
    """Best first; equals by name."""
    return sorted(agents, key=lambda agent: (agent.cost(capability), agent.name))


def why(chosen: Published, ranked: Sequence[Published], capability: str = "") -> str:
    """One line: how the agent fares, and the next best with what is different about it."""
    return "; ".join(facts(chosen, ranked, capability))


def facts(
    chosen: Published, ranked: Sequence[Published], capability: str = "", worse: Mapping[str, str] = NO_WORDS
) -> tuple[str, ...]:
    """The clauses of `why`; `worse` says of others by name how they fit less well."""
    place = next(n for n, agent in enumerate(ranked) if agent.name == chosen.name)
    if len(ranked) < 2:
        return (fares(chosen, capability), "no other agent can")
    other, which = (ranked[0], "better") if place else (ranked[1], "next best")
    said = [*_difference(other, chosen, capability), *([worse[other.name]] if other.name in worse else [])]
    return (fares(chosen, capability), f"{which}: {other.name} {', '.join(said)}")


def fares(agent: Published, capability: str = "") -> str:
    """An agent's figures: `44 ms, 95 % ok, 4 slots free, score 0.9`."""
    score = (_score(agent, capability),) if capability else ()
    return ", ".join((_latency(agent), _ok(agent), slots_free(agent.figures.free), *score))


def _difference(other: Published, chosen: Published, capability: str) -> list[str]:
    """Its time, and whatever else differs."""
    said = [_latency(other)]
    if _ok(other) != _ok(chosen):
        said.append(_ok(other))
    if not other.figures.free and chosen.figures.free:
        said.append(slots_free(0))
    if capability and _score(other, capability) != _score(chosen, capability):
        said.append(_score(other, capability))
    return said


def milliseconds(seconds: float) -> str:
    """`1.3 s`, `12 ms`, `4.2 ms`, `0.03 ms`: no more digits than decide anything."""
    if seconds >= 0.9995:
        return f"{seconds:.0f} s" if seconds >= 9.95 else f"{seconds:.2g} s"
    thousandths = seconds * 1000
    if thousandths >= 9.95:
        return f"{thousandths:.0f} ms"
    return f"{thousandths:.2g} ms" if thousandths >= 1 else f"{thousandths:.1g} ms"


def percent_ok(success: float) -> str:
    """`95 % ok`; what is not quite all is never called all."""
    whole = round(success * 100)
    return f"{whole} % ok" if success == 1 or whole < 100 else ">99 % ok"


def slots_free(count: int) -> str:
    """`no slot free`, `1 slot free`, `4 slots free`."""
    return f"{count or 'no'} slot{'s' if count > 1 else ''} free"


def _ok(agent: Published) -> str:
    return percent_ok(agent.figures.success)


def _latency(agent: Published) -> str:
    latency = agent.figures.latency
    return "unmeasured" if latency is None else milliseconds(latency)


def _score(agent: Published, capability: str) -> str:
    score = agent.capabilities.get(capability)
    return "no score stated" if score is None else f"score {score:.2g}"
