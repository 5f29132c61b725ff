"""Which agent is best for a capability, and why: declared score, how it fares, whether it has room."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from atomesh.core.errors import NotFound
from atomesh.pipelines.assembly.catalog import Catalog, Published, nearest

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
    """One line with figures: the agent's place among those that can, and what sets it apart from the next best."""
    if len(ranked) < 2:
        return f"the only agent that can: {_alone(chosen, capability)}"
    place = next(n for n, agent in enumerate(ranked) if agent.name == chosen.name)
    other = ranked[0] if place else ranked[1]
    differences = [text for compare in _COMPARED if (text := compare(chosen, other, capability))]
    said = ", ".join(differences) if differences else f"even with {other.name}, first by name"
    against = f" (against {other.name})" if differences else ""
    return f"{_ordinal(place + 1)} of {len(ranked)} that can: {said}{against}"


def milliseconds(seconds: float) -> str:
    """`12 ms`, `1.3 s`; below ten milliseconds with one more digit."""
    if seconds >= 1:
        return f"{seconds:.3g} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.2g} ms"


def _alone(agent: Published, capability: str) -> str:
    figures = agent.figures
    parts = [_latency(agent), f"{_percent(figures.success)} succeed", f"{figures.free} of {figures.slots} slots free"]
    return ", ".join([*parts, f"score {_score(agent, capability)}"] if capability else parts)


def _by_score(chosen: Published, other: Published, capability: str) -> str:
    if not capability:
        return ""
    ours, theirs = _score(chosen, capability), _score(other, capability)
    return f"score {ours} against {theirs}" if ours != theirs else f"score {ours}"


def _by_latency(chosen: Published, other: Published, capability: str) -> str:
    del capability
    ours, theirs = _latency(chosen), _latency(other)
    return f"{ours} against {theirs}" if ours != theirs else ""


def _by_success(chosen: Published, other: Published, capability: str) -> str:
    del capability
    ours, theirs = _percent(chosen.figures.success), _percent(other.figures.success)
    return f"{ours} succeed against {theirs}" if ours != theirs else ""


def _by_room(chosen: Published, other: Published, capability: str) -> str:
    del capability
    ours, theirs = chosen.figures.free, other.figures.free
    return f"{ours} slots free against {theirs}" if ours != theirs else ""


_COMPARED: tuple[Callable[[Published, Published, str], str], ...] = (_by_score, _by_latency, _by_success, _by_room)


def _latency(agent: Published) -> str:
    latency = agent.figures.latency
    return "not measured yet" if latency is None else milliseconds(latency)


def _score(agent: Published, capability: str) -> str:
    score = agent.capabilities.get(capability)
    return "not stated" if score is None else f"{score:.2g}"


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"


def _ordinal(place: int) -> str:
    words = ("first", "second", "third")
    return words[place - 1] if place <= len(words) else f"{place}th"
