"""The best chains: shortest first, then with most links whole, then by what agents cost, then by name.

The search goes over groups of agents that link alike, and over agents only
within them. For each length it is best-first (A*): a bound of what is left to
pay comes from a relaxed question, in which all that any agent gives is at
hand, and a chain that cannot be ended is never begun, by a memo of what can
be. So chains come out in their order, and each costs about as many steps as it
has agents.

A mapping may read anything given before, so whether a chain can go on depends
on how it came there. In the worst case that is exponential; BUDGET bounds it,
and whoever asked is told.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TypeAlias

from atomesh.pipelines.assembly.catalog import Published
from atomesh.pipelines.assembly.groups import NOTHING, Ground, Group, State
from atomesh.pipelines.assembly.kinds import Mask
from atomesh.pipelines.assembly.links import bits

BUDGET = 200_000
"""Groups of agents that one search tries to add to a chain, a microsecond each: a
few tenths of a second. Ordinary questions need some thousand; with ten times as
many a hostile one would compute for seconds."""

_CHAIN = 10
"""What a chain costs that is taken up again, in the same measure."""

_Agents: TypeAlias = tuple[Published, ...]


class _Spent(Exception):
    """The budget is used up."""


@dataclass(frozen=True, slots=True)
class _Way:
    """The beginning of a chain."""

    agents: _Agents
    names: tuple[str, ...]
    cost: int
    state: State


@dataclass(frozen=True, slots=True)
class _Turn:
    """A beginning, and one group whose agents may come next: the cheapest first, the others when it is their turn."""

    way: _Way
    after: State
    paid: int
    """What the beginning costs, with the link to the group."""
    order: list[tuple[int, str, Published]]
    rest: int
    """A bound of what the links and agents after it cost."""


_Heap: TypeAlias = list[tuple[int, tuple[str, ...], int, _Turn]]  # no two have the same names


class Search:
    """One question over one ground."""

    def __init__(self, ground: Ground, budget: int = BUDGET) -> None:
        """Nothing is looked at yet."""
        self._ground = ground
        self._left = budget
        self.complete = True
        """Whether nothing had to be left unlooked at."""
        self._found: list[_Agents] = []
        self._rest: list[list[dict[int, int]]] = [[]]
        self._live: list[list[list[tuple[Group, int]]]] = [[]]
        self._next: dict[tuple[int, int, int], list[tuple[Group, int]]] = {}
        self._can: dict[tuple[int, int, Mask, int], bool] = {}
        self._orders: dict[tuple[int, int, int, str], list[tuple[int, str, Published]]] = {}
        self._read: Mask = 0
        for taken in ground.could:
            for need in ground.links.needs[taken]:
                self._read |= need

    def chains(self, max_length: int, limit: int) -> list[_Agents]:
        """The best ones, best first."""
        try:
            for length in range(1, max_length + 1):
                self._of_length(length, limit)
                if len(self._found) >= limit:
                    break
        except _Spent:
            self.complete = False
        return self._found

    def order(self, group: Group, capability: str) -> list[tuple[int, str, Published]]:
        """A group's agents with what they cost for a capability, or for none; cheapest first."""
        key = (group.taken, group.given, group.able, capability)
        if key not in self._orders:
            # Names differ, so that agents themselves are never compared.
            self._orders[key] = sorted((agent.cost(capability), agent.name, agent) for agent in group.agents)
        return self._orders[key]

    # -- one length ----------------------------------------------------------

    def _of_length(self, length: int, limit: int) -> None:
        while len(self._rest) <= length:
            self._relax(len(self._rest))
        heap: _Heap = []
        self._expand(heap, _Way((), (), 0, self._ground.begin()), length)
        while heap and len(self._found) < limit:
            self._spend(_CHAIN)
            _, names, place, turn = heapq.heappop(heap)
            self._push(heap, turn, place + 1)
            cost, _, agent = turn.order[place]
            way = _Way((*turn.way.agents, agent), names, turn.paid + cost, turn.after)
            if len(names) < length:
                self._expand(heap, way, length - len(names))
            else:
                self._found.append(way.agents)

    def _expand(self, heap: _Heap, way: _Way, left: int) -> None:
        """Adds every group that may come next and from which the end can be reached."""
        following = self._following(way.state, left)
        self._spend(len(following))
        for group, rest in following:
            after = self._ground.advance(way.state, group, last=left == 1)
            if after is not None and (left == 1 or self._can_end(after, left - 1)):
                order = self.order(group, self._capability(way.state.step, after.step))
                paid = way.cost + self._ground.loss(way.state.before, group.taken)
                self._push(heap, _Turn(way, after, paid, order, rest), 0)

    def _push(self, heap: _Heap, turn: _Turn, place: int) -> None:
        """Adds the group's next agent that is not in the chain yet."""
        for at in range(place, len(turn.order)):
            cost, name, _ = turn.order[at]
            if name not in turn.way.names:
                heapq.heappush(heap, (turn.paid + cost + turn.rest, (*turn.way.names, name), at, turn))
                return

    # -- what is left --------------------------------------------------------

    def _can_end(self, state: State, left: int) -> bool:
        """Whether a chain can be ended with so many agents more, were they all others than those in it."""
        key = (state.before, state.step, state.given & self._read, left)
        if key not in self._can:
            self._can[key] = self._ends(state, left)
        return self._can[key]

    def _ends(self, state: State, left: int) -> bool:
        for group, _ in self._following(state, left):
            self._spend(1)
            after = self._ground.advance(state, group, last=left == 1)
            if after is not None and (left == 1 or self._can_end(after, left - 1)):
                return True
        return False

    def _following(self, state: State, left: int) -> list[tuple[Group, int]]:
        """The groups that may come next at best, each with a bound of what is left to pay after it."""
        key = (state.before, state.step, left)
        if key not in self._next:
            live, could, before = self._live[left][state.step], self._ground.could, state.before
            self._next[key] = [pair for pair in live if before == NOTHING or could[pair[0].taken] >> before & 1]
        return self._next[key]

    def _relax(self, left: int) -> None:
        """Adds, by capabilities passed: which groups can begin the last so many agents, and the least that costs.

        The least is by the kind that there is before them, with everything at hand.
        """
        self._live.append([])
        self._rest.append([])
        for step in range(len(self._ground.route.steps) + 1):
            live: list[tuple[Group, int]] = []
            best: dict[int, int] = {}
            for group in self._ground.groups:
                passed = self._ground.passed(step, group, last=left == 1)
                rest = None if passed is None else self._rest[left - 1][passed].get(group.given) if left > 1 else 0
                if passed is None or rest is None:
                    continue
                live.append((group, rest))
                cost = self.order(group, self._capability(step, passed))[0][0] + rest
                best[group.taken] = min(cost, best.get(group.taken, cost))
            self._live[left].append(live)
            self._rest[left].append(self._spread(best))

    def _spread(self, best: dict[int, int]) -> dict[int, int]:
        """From costs by what is taken to costs by what was given before it: the cheapest that could follow."""
        ways = [(best[taken] + loss, taken, befores) for taken in best for loss, befores in self._ground.by_loss(taken)]
        found: dict[int, int] = {}
        seen: Mask = 0
        for cost, _, befores in sorted(ways):
            new = befores & ~seen
            seen |= new
            for before in bits(new):
                found[before] = cost
        return found

    def _capability(self, step: int, passed: int) -> str:
        """The capability that an agent is asked for where it takes a chain from one step to another."""
        return self._ground.route.steps[step] if passed > step else ""

    def _spend(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise _Spent
