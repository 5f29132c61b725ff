"""Why there is no way, in words: how far one comes, and what the nearest agent lacks."""

from __future__ import annotations

from collections.abc import Iterable

from atomesh.core.fits import field_fit, fit
from atomesh.pipelines.assembly.groups import NOTHING, Ground, Group
from atomesh.pipelines.assembly.links import bits
from atomesh.pipelines.assembly.query import MOST_LENGTH, Query
from atomesh.pipelines.assembly.reach import Reach

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_SHOWN = 5
"""Agents in one line; the rest are counted."""


def gaps(ground: Ground, query: Query, reach: Reach) -> tuple[str, ...]:
    """Why no chain answers the query, nearest first."""
    targets = _targets(ground, reach.step)
    what = _what(ground, reach.step)
    if not targets:
        return (f"no live agent gives {ground.route.goal}",)
    if ground.start != NOTHING and not any(_takes_some(ground, group) for group in ground.groups):
        return (f"no live agent takes {ground.route.start}, nor any of its fields as they are",)
    if any(reach.precedes(ground, group) for group in targets):
        return _too_long(ground, query, what)
    ways = [way for way in _leading(ground, targets) if not reach.precedes(ground, way[1])]
    return (f"nothing {what}", *_nearest(ground, ways, reach))


def _targets(ground: Ground, step: int) -> list[Group]:
    """The groups that have what comes next: the next capability, or the type that is wanted."""
    steps = len(ground.route.steps)
    if step < steps:
        return [group for group in ground.groups if group.able >> step & 1]
    if ground.route.last:
        return [group for group in ground.groups if group.able >> (steps - 1) & 1]
    return [group for group in ground.groups if ground.goal >> group.given & 1]


def _what(ground: Ground, step: int) -> str:
    """What nothing does: `turns text.v1.Keywords into report.v1.Draft`."""
    steps, route = ground.route.steps, ground.route
    come = route.start if step == 0 and route.start else f"what {steps[max(0, step - 1)]} gives"
    there = f"what {steps[step]} takes" if step < len(steps) else route.goal or f"what {steps[-1]} takes"
    return f"turns {come} into {there}"


def _takes_some(ground: Ground, group: Group) -> bool:
    """Whether what there is at the beginning gives an agent anything at all."""
    return bool((ground.links.gives[group.taken] | ground.links.whole[group.taken]) >> ground.start & 1)


def _leading(ground: Ground, targets: Iterable[Group]) -> list[tuple[int, Group]]:
    """The targets, and every group from which one could be reached if all were at hand, with how far it is."""
    found = [(0, group) for group in targets]
    sought = {group.taken for _, group in found}
    known = {id(group) for _, group in found}
    distance = 0
    while sought:
        distance += 1
        leads = 0
        for taken in sought:
            leads |= ground.could[taken]
        new = [group for group in ground.groups if id(group) not in known and leads >> group.given & 1]
        known |= {id(group) for group in new}
        found += [(distance, group) for group in new]
        sought = {group.taken for group in new}
    return found


def _nearest(ground: Ground, ways: Iterable[tuple[int, Group]], reach: Reach) -> tuple[str, ...]:
    """The agents that lack the fewest fields, of those the ones nearest the end; else what keeps them apart."""
    short: dict[tuple[int, int], list[tuple[Group, tuple[str, ...]]]] = {}
    for distance, group in ways:
        lacking = ground.links.lacking(reach.given, group.taken)
        short.setdefault((len(lacking), distance), []).append((group, lacking))
    nearest = min((key for key in short if key[0]), default=None)
    if nearest is None:
        return tuple(_apart(ground, group, reach) for key in sorted(short) for group, _ in short[key][:_SHOWN])[:_SHOWN]
    named = [
        (agent.name, f"{agent.name} (needs {', '.join(_needs(ground, group, name, reach) for name in names)})")
        for group, names in short[nearest]
        for agent in group.agents
    ]
    fields = f"{_number(nearest[0])} field{'s' if nearest[0] > 1 else ''} short"
    return (_listed([text for _, text in sorted(named)], fields),)


def _needs(ground: Ground, group: Group, name: str, reach: Reach) -> str:
    """A field, and where something at hand has one of its name, why that will not do."""
    kinds = ground.links.kinds.all
    wanted = kinds[group.taken].members[name]
    for number in bits(reach.given):
        if (member := kinds[number].members.get(name)) is not None:
            breaches = field_fit(member.field, wanted.field)
            return f"{name}, and that of {kinds[number].name} does not fit: {breaches[0].problem}" if breaches else name
    return name


def _apart(ground: Ground, group: Group, reach: Reach) -> str:
    """Why an agent that lacks no field cannot follow."""
    kinds = ground.links.kinds.all
    agents, taken = ", ".join(agent.name for agent in group.agents[:_SHOWN]), kinds[group.taken]
    alike = [n for n in bits(reach.before) if kinds[n].members.keys() & taken.members.keys()]
    if not alike:
        return f"{agents}: {taken.name} has no field in common with what there is by then"
    said = fit(kinds[alike[0]].descriptor, taken.descriptor)
    return f"{agents}: {kinds[alike[0]].name} does not fit {taken.name}" + (f": {said[0]}" if said else "")


def _too_long(ground: Ground, query: Query, what: str) -> tuple[str, ...]:
    if query.max_length < MOST_LENGTH:
        return (
            f"nothing {what} with {query.max_length} agent{'s' if query.max_length > 1 else ''} at most; allow more, up to {MOST_LENGTH}",
        )
    return (f"nothing {what}: there is no chain without an agent twice, or with all that its mappings need",)


def _listed(named: list[str], what: str) -> str:
    count = f"{_number(len(named))} agent{'s end' if len(named) > 1 else ' ends'}"
    more = f", and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
    return f"{count} {what}: {', '.join(named[:_SHOWN])}{more}"


def _number(count: int) -> str:
    return _NUMBERS[count] if count < len(_NUMBERS) else f"{count:,}"
