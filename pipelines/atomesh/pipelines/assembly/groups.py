"""Agents that link alike, and how a chain goes on with one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from atomesh.pipelines.assembly.catalog import Catalog, Published
from atomesh.pipelines.assembly.figures import BY_FIELDS, IN_PART
from atomesh.pipelines.assembly.kinds import Mask
from atomesh.pipelines.assembly.links import Links
from atomesh.pipelines.assembly.query import Route

NOTHING = -1
"""What there is before the first agent, where its own input is what the pipeline takes."""


@dataclass(frozen=True, slots=True)
class Group:
    """Agents of the same types that have the same of the route's capabilities."""

    taken: int
    given: int
    able: int
    """The route's capabilities that they have, one bit for each."""
    agents: tuple[Published, ...]


@dataclass(frozen=True, slots=True)
class State:
    """How far a chain has come."""

    before: int
    """The kind that there is: what the last agent gave, or the pipeline's input; NOTHING before the first."""
    step: int = 0
    """Capabilities passed."""
    given: Mask = 0
    """All kinds at hand: the input, and what was given since."""


class Ground:
    """The groups of a catalog, seen from one route."""

    def __init__(self, catalog: Catalog, route: Route) -> None:
        """Groups the agents, and finds the kinds that the route begins and ends with."""
        self.links: Links = catalog.links
        self.route = route
        self.groups = _groups(catalog, route)
        kinds = self.links.kinds
        self.start = _most_used(kinds.by_name[route.start], self.groups) if route.start else NOTHING
        self.goal: Mask = (1 << len(kinds.all)) - 1
        if route.goal:
            self.goal = 0
            for wanted in kinds.by_name[route.goal]:
                self.goal |= self.links.fitting(wanted)
        self.all_given = self._at_hand()
        self.could = {group.taken: self.links.could(group.taken, self.all_given) for group in self.groups}
        """By kind that is taken: those that it could follow if all that anybody gives were at hand."""
        self._after: dict[int, tuple[Group, ...]] = {}

    def narrow(self, given: Mask) -> None:
        """Leaves out the groups that nothing leads to where no more than `given` is ever at hand."""
        could = {taken: self.links.could(taken, given) & given for taken in self.could}
        first = self.route.first
        self.groups = tuple(group for group in self.groups if could[group.taken] or (first and group.able & 1))
        self.could = {group.taken: could[group.taken] for group in self.groups}
        self._after.clear()

    def begin(self) -> State:
        """The chain without agents."""
        return State(self.start, 0, 0 if self.start == NOTHING else 1 << self.start)

    def after(self, before: int) -> tuple[Group, ...]:
        """The groups that could come after a kind, at best."""
        if before not in self._after:
            able = (group for group in self.groups if before == NOTHING or self.could[group.taken] >> before & 1)
            self._after[before] = tuple(able)
        return self._after[before]

    def advance(self, state: State, group: Group, *, last: bool) -> State | None:
        """The chain with one of these agents next; None where it cannot be."""
        if state.before == NOTHING:
            if self.route.first and not group.able & 1:
                return None
        elif not self.links.link(state.before, state.given, group.taken):
            return None
        step = self.passed(state.step, group, last=last)
        if step is None:
            return None
        return State(group.given, step, (state.given or 1 << group.taken) | 1 << group.given)

    def passed(self, step: int, group: Group, *, last: bool) -> int | None:
        """Capabilities passed with one of these agents next; None where the chain ends there and must not."""
        steps = len(self.route.steps)
        if step < steps and group.able >> step & 1 and (last or not self.route.last or step < steps - 1):
            step += 1
        if last and (step < steps or not self.goal >> group.given & 1):
            return None
        return step

    def loss(self, before: int, taken: int) -> int:
        """What a link costs beside its agents; before the first agent there is none, where its own input is the start."""
        return 0 if before == NOTHING else self.links.loss(before, taken)

    def by_loss(self, taken: int) -> list[tuple[int, Mask]]:
        """The kinds that one could follow, by what that link costs."""
        could, kept = self.could[taken], self.links.kept(taken)
        whole = self.links.fitting(taken)
        return [(0, could & kept), (IN_PART, could & whole & ~kept), (BY_FIELDS, could & ~whole)]

    def walk(self, groups: Sequence[Group], state: State | None = None, done: int = 0) -> list[State] | None:
        """The states of a whole chain, after each agent; None where it is none. `done` agents led to `state`."""
        states = []
        now = state or self.begin()
        for place, group in enumerate(groups[done:], done + 1):
            then = self.advance(now, group, last=place == len(groups))
            if then is None:
                return None
            states.append(then)
            now = then
        return states

    def _at_hand(self) -> Mask:
        found = 0 if self.start == NOTHING else 1 << self.start
        for group in self.groups:
            found |= 1 << group.given
            if self.start == NOTHING and (not self.route.first or group.able & 1):
                found |= 1 << group.taken
        return found


def _groups(catalog: Catalog, route: Route) -> tuple[Group, ...]:
    steps = tuple(enumerate(route.steps))
    found: dict[tuple[int, int, int], list[Published]] = {}
    of_contract = catalog.links.kinds.of_contract
    for agent in catalog.agents.values():
        if agent.contract_hash in of_contract:
            able = sum(1 << place for place, capability in steps if capability in agent.capabilities)
            found.setdefault((*of_contract[agent.contract_hash], able), []).append(agent)
    return tuple(Group(*key, tuple(found[key])) for key in sorted(found))


def _most_used(numbers: Sequence[int], groups: Sequence[Group]) -> int:
    """Of several types of one name, as while a new version rolls out, the one that most agents know."""
    known = dict.fromkeys(numbers, 0)
    for group in groups:
        for number in {group.taken, group.given} & known.keys():
            known[number] += len(group.agents)
    return max(numbers, key=lambda number: (known[number], -number))
