"""Chains as they are shown: each agent with its input, why it was chosen, and who could take its place."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from atomesh.pipelines.assembly.catalog import Catalog, Published
from atomesh.pipelines.assembly.choice import rank, why
from atomesh.pipelines.assembly.gaps import gaps
from atomesh.pipelines.assembly.groups import NOTHING, Ground, Group, State
from atomesh.pipelines.assembly.links import InputMapping
from atomesh.pipelines.assembly.query import Query, route
from atomesh.pipelines.assembly.reach import reach
from atomesh.pipelines.assembly.search import BUDGET, Search
from atomesh.pipelines.model import RESERVED


@dataclass(frozen=True, slots=True)
class Stage:
    """One agent of a chain."""

    id: str
    agent: Published
    capability: str
    """What it was asked for; empty where it is there for its contract alone."""
    input: InputMapping | None
    """What fills its input; None where the output before it does, or the pipeline's input, whole."""
    why: str
    rivals: tuple[Published, ...]
    """Agents that could take its place with the rest of the chain as it is, best first."""


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
        able = rank(_able(ground, agents, groups, befores, states, place), asked[place])
        stages.append(
            Stage(
                id=ids[place],
                agent=agent,
                capability=asked[place],
                input=ground.links.mapping(sources, groups[place].taken),
                why=why(agent, able, asked[place]),
                rivals=tuple(other for other in able if other.name != agent.name),
            )
        )
    kinds = ground.links.kinds.all
    return Chain(tuple(stages), kinds[start].name, ground.route.goal or kinds[groups[-1].given].name)


def _asked(ground: Ground, before: State, after: State) -> str:
    return ground.route.steps[before.step] if after.step > before.step else ""


def _able(
    ground: Ground,
    agents: Sequence[Published],
    groups: list[Group],
    befores: Sequence[State],
    afters: Sequence[State],
    place: int,
) -> list[Published]:
    """The agents that can stand at a place of a chain, the one that does included."""
    elsewhere = {agent.name for n, agent in enumerate(agents) if n != place}
    before, after = befores[place], afters[place]
    found: list[Published] = []
    holds = {(groups[place].taken, groups[place].given): True}  # the same for all groups of these kinds
    for group in ground.after(before.before):
        if ground.passed(before.step, group, last=place == len(groups) - 1) != after.step:
            continue
        kinds = (group.taken, group.given)
        if kinds not in holds:
            changed = [*groups[:place], group, *groups[place + 1 :]]
            holds[kinds] = ground.walk(changed, before, place) is not None
        if holds[kinds]:
            found += [agent for agent in group.agents if agent.name not in elsewhere]
    return found
