"""Chains as they are shown: each agent with its input, why it was chosen, and who could take its place."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from atomesh.pipelines.assembly.catalog import Catalog, Published
from atomesh.pipelines.assembly.choice import facts, milliseconds, percent_ok, slots_free
from atomesh.pipelines.assembly.figures import BY_FIELDS
from atomesh.pipelines.assembly.gaps import gaps
from atomesh.pipelines.assembly.groups import NOTHING, Ground, Group, State
from atomesh.pipelines.assembly.links import Filling, InputMapping
from atomesh.pipelines.assembly.query import Query, route
from atomesh.pipelines.assembly.reach import reach
from atomesh.pipelines.assembly.search import BUDGET, Search
from atomesh.pipelines.model import RESERVED

_SHOWN = 8
"""Fields named in a list; a message of a hundred would hide the other facts."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One agent of a chain."""

    id: str
    agent: Published
    capability: str
    """What it was asked for; empty where it is there for its contract alone."""
    filling: Filling
    """What fills its input: the output before it, or the pipeline's input, whole or by fields."""
    facts: tuple[str, ...]
    """Why it and no other, and what its input is filled with: one fact each."""
    rivals: tuple[Published, ...]
    """Agents that could take its place with the rest of the chain as it is, best first."""

    @property
    def input(self) -> InputMapping | None:
        """What fills each field; None where what is there before it does so whole."""
        return self.filling.input

    @property
    def why(self) -> str:
        """The facts in one line."""
        return "; ".join(self.facts)


@dataclass(frozen=True, slots=True)
class Chain:
    """One way from what there is to what is wanted."""

    stages: tuple[Stage, ...]
    start: str
    """The type of the pipeline's input."""
    goal: str
    """The type of its output."""

    @property
    def expected(self) -> float:
        """Seconds that it takes in the mean, waits for slots included."""
        return math.fsum(stage.agent.figures.expected for stage in self.stages)

    @property
    def success(self) -> float:
        """The chance that every execution goes well at the first attempt."""
        return math.prod(stage.agent.figures.success for stage in self.stages)

    @property
    def free_slots(self) -> int:
        """The fewest free slots of any of its agents."""
        return min(stage.agent.figures.free for stage in self.stages)

    @property
    def fares(self) -> str:
        """These in words; the slots are those at the narrowest."""
        return f"{milliseconds(self.expected)}, {percent_ok(self.success)}, {slots_free(self.free_slots)}"


@dataclass(frozen=True, slots=True)
class Found:
    """What a query came to."""

    chains: tuple[Chain, ...]
    missing: tuple[str, ...]
    """Why there is no chain, and the nearest missing links; or what was left unlooked at."""


def find(catalog: Catalog, query: Query, *, budget: int = BUDGET) -> Found:
    """The best chains for a query; with another budget, after more or less trying.

    Raises:
        NotFound: a name that no live agent knows.
        InvalidArgument: more capabilities than a chain may have agents.
    """
    ground = Ground(catalog, route(query, catalog))
    come = reach(ground)
    if not come.arrives:
        return Found((), gaps(ground, query, come))
    ground.narrow(come.given)
    search = Search(ground, budget)
    found = search.chains(query.max_length, query.limit)
    groups = {agent.name: group for group in ground.groups for agent in group.agents}
    chains = tuple(_chain(ground, agents, [groups[agent.name] for agent in agents]) for agents in found)
    if not search.complete:
        spent = "there are more ways than were looked at; name a capability on the way, or allow fewer agents"
        return Found(chains, (spent,))
    return Found(chains, () if chains else gaps(ground, query, come))


def stage_ids(words: Sequence[str]) -> list[str]:
    """Ids of stages made of names: valid, and each its own."""
    taken: set[str] = set()
    ids = []
    for word in words:
        base = re.sub(r"[^a-z0-9_]", "_", word.lower()).strip("_")[:56] or "stage"
        if base in RESERVED or not base[0].isalpha():
            base = f"stage_{base}"
        made, turn = base, 2
        while made in taken:
            made, turn = f"{base}_{turn}", turn + 1
        taken.add(made)
        ids.append(made)
    return ids


def _chain(ground: Ground, agents: Sequence[Published], groups: list[Group]) -> Chain:
    states = ground.walk(groups)
    assert states is not None, "the search gives chains that hold"
    befores = [ground.begin(), *states[:-1]]
    asked = [_asked(ground, before, after) for before, after in zip(befores, states, strict=True)]
    ids = stage_ids([capability or agent.name for capability, agent in zip(asked, agents, strict=True)])
    start = groups[0].taken if ground.start == NOTHING else ground.start
    stages = []
    for place, agent in enumerate(agents):
        sources = [(ids[n], groups[n].given) for n in reversed(range(place))] + [("input", start)]
        filling = ground.links.filling(sources, groups[place].taken)
        able = _ranked(_able(ground, agents, groups, befores, states, place), asked[place])
        others = [other for _, other in able]
        stages.append(
            Stage(
                id=ids[place],
                agent=agent,
                capability=asked[place],
                filling=filling,
                facts=(*facts(agent, others, asked[place], _worse(able, agent)), *_filled(filling, agent.input_type)),
                rivals=tuple(other for other in others if other.name != agent.name),
            )
        )
    kinds = ground.links.kinds.all
    return Chain(tuple(stages), kinds[start].name, ground.route.goal or kinds[groups[-1].given].name)


def _asked(ground: Ground, before: State, after: State) -> str:
    return ground.route.steps[before.step] if after.step > before.step else ""


def _filled(filling: Filling, taken: str) -> list[str]:
    """What an input is filled with, where it is not the whole of what is there before."""
    said = []
    if filling.input is not None:
        said.append(f"fills {taken} by fields: {', '.join(f'{name} from {s}' for name, s in filling.input.items())}")
    if filling.unset:
        said.append(f"unset: {_some(filling.unset)}")
    if filling.dropped:
        said.append(f"not read: {_some(filling.dropped)}")
    return said


def _ranked(able: Sequence[tuple[int, Published]], capability: str) -> list[tuple[int, Published]]:
    """As chains with them in this place are."""
    return sorted(able, key=lambda pair: (pair[0], pair[1].cost(capability), pair[1].name))


def _worse(able: Sequence[tuple[int, Published]], chosen: Published) -> dict[str, str]:
    """How others fit less well than the one that is chosen, by name."""
    ours = next(loss for loss, agent in able if agent is chosen)
    return {
        agent.name: "by fields" if loss // BY_FIELDS > ours // BY_FIELDS else "drops fields"
        for loss, agent in able
        if loss > ours
    }


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"


def _able(
    ground: Ground,
    agents: Sequence[Published],
    groups: list[Group],
    befores: Sequence[State],
    afters: Sequence[State],
    place: int,
) -> list[tuple[int, Published]]:
    """The agents that can stand at a place of a chain, the one that does included, with what their links cost."""
    elsewhere = {agent.name for n, agent in enumerate(agents) if n != place}
    before, after = befores[place], afters[place]
    found: list[tuple[int, Published]] = []
    holds = {(groups[place].taken, groups[place].given): True}  # the same for all groups of these kinds
    for group in ground.after(before.before):
        if ground.passed(before.step, group, last=place == len(groups) - 1) != after.step:
            continue
        kinds = (group.taken, group.given)
        if kinds not in holds:
            changed = [*groups[:place], group, *groups[place + 1 :]]
            holds[kinds] = ground.walk(changed, before, place) is not None
        if holds[kinds]:
            loss = ground.loss(before.before, group.taken)
            loss += ground.loss(group.given, groups[place + 1].taken) if place + 1 < len(groups) else 0
            found += [(loss, agent) for agent in group.agents if agent.name not in elsewhere]
    return found
