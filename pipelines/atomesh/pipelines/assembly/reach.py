"""How far chains come at best, when everything that is given on any of them is at hand."""

from __future__ import annotations

from dataclasses import dataclass

from atomesh.pipelines.assembly.groups import NOTHING, Ground, Group
from atomesh.pipelines.assembly.kinds import Mask


@dataclass(frozen=True, slots=True)
class Reach:
    """What a fixed point came to. No chain comes further, and not every one comes so far."""

    step: int
    """The most capabilities passed."""
    before: Mask
    """Kinds that a chain which passed so many can end with so far."""
    given: Mask
    """Kinds that were given on the way, the input included."""
    arrives: bool
    """Whether what is wanted was among them, with all capabilities passed."""

    def precedes(self, ground: Ground, group: Group) -> bool:
        """Whether the group's agents can follow one of the chains that came furthest."""
        return bool(ground.links.could(group.taken, self.given) & self.before)


def reach(ground: Ground) -> Reach:
    """How far chains come; each round adds what the agents that can follow give."""
    steps = len(ground.route.steps)
    given, ends = _begin(ground)
    while True:
        was = (given, tuple(ends))
        for group in ground.groups:
            could = ground.links.could(group.taken, given)
            for step in range(steps + 1):
                if could & ends[step]:
                    given |= 1 << group.given
                    able = step < steps and group.able >> step & 1
                    ends[step + 1 if able else step] |= 1 << group.given
        if was == (given, tuple(ends)):
            furthest = max((step for step, mask in enumerate(ends) if mask), default=0)
            return Reach(furthest, ends[furthest], given, bool(ends[steps] & ground.goal))


def _begin(ground: Ground) -> tuple[Mask, list[Mask]]:
    begin = ground.begin()
    given, ends = begin.given, [0] * (len(ground.route.steps) + 1)
    if begin.before != NOTHING:
        ends[0] = given
        return given, ends
    for group in ground.groups:  # the input is that of whichever agent is first
        if group.able & 1:
            given |= 1 << group.taken | 1 << group.given
            ends[1] |= 1 << group.given
    return given, ends
