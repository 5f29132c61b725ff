"""Boxes in layers: who stands beside whom, and where.

The layered layout of Sugiyama, Tagawa and Toda (1981): a box stands below all
that it reads; an edge over several layers goes through lanes, which all edges
of one source share; layers are sorted by the barycentres of their neighbours;
and places are the nearest to the neighbours' middle that keep the distances,
found by pooling adjacent violators.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Key: TypeAlias = tuple[str, int]
"""A box, with the layer that it stands in, or the lane of a box's edges through another layer."""

MOST_LANES = 20_000
"""Lanes at most: half a second of work. Boxes that read thousands of others make no picture anyway."""
_SWEEPS = 6
"""Sortings down and up. After three of each hardly any graph changes; twice as many only take the time."""


@dataclass(frozen=True)
class Layers:
    """A graph in layers, sorted; lanes included."""

    rows: tuple[tuple[Key, ...], ...]
    down: Mapping[Key, tuple[Key, ...]]
    """What follows each in the next layer."""
    boxes: Mapping[str, Key]

    def is_lane(self, key: Key) -> bool:
        """Whether only edges are there."""
        return self.boxes[key[0]] != key

    def lanes(self, box: str) -> list[Key]:
        """The lanes that its edges go through, from the top."""
        level = self.boxes[box][1] + 1
        return list(
            itertools.takewhile(lambda key: key in self.down, ((box, lower) for lower in itertools.count(level)))
        )


def depths(boxes: Sequence[str], before: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """The layer of each box: one below the lowest that it reads. The first box stands alone above, the last below."""
    after: dict[str, list[str]] = {box: [] for box in boxes}
    left = {box: len(before[box]) for box in boxes}
    for box in boxes:
        for other in before[box]:
            after[other].append(box)
    depth = dict.fromkeys(boxes, 1)
    depth[boxes[0]] = 0
    ready = [box for box in boxes if not left[box]]
    for box in ready:  # grows while it is read
        for other in after[box]:
            depth[other] = max(depth[other], depth[box] + 1)
            left[other] -= 1
            if not left[other]:
                ready.append(other)
    depth[boxes[-1]] = max(depth[box] for box in boxes[:-1]) + 1
    return depth


def in_layers(boxes: Sequence[str], before: Mapping[str, Sequence[str]], most: int = MOST_LANES) -> Layers | None:
    """The graph in sorted layers; None where it takes more than `most` lanes."""
    depth = depths(boxes, before)
    keys = {box: (box, depth[box]) for box in boxes}
    reach = {box: depth[box] for box in boxes}
    for box in boxes:
        for other in before[box]:
            reach[other] = max(reach[other], depth[box] - 1)
    if sum(reach[box] - depth[box] for box in boxes) > most:
        return None
    rows: list[list[Key]] = [[] for _ in range(max(depth.values()) + 1)]
    down: dict[Key, list[Key]] = {}
    for box in boxes:
        for level in range(depth[box], reach[box] + 1):
            rows[level].append((box, level))
            down[(box, level)] = [(box, level + 1)] if level < reach[box] else []
    for box in boxes:
        for other in before[box]:
            down[(other, depth[box] - 1)].append(keys[box])
    return Layers(_sorted(rows, down), {key: tuple(found) for key, found in down.items()}, keys)


def without_lanes(boxes: Sequence[str], before: Mapping[str, Sequence[str]]) -> Layers:
    """The graph in layers where long edges have no lanes and go straight, behind the boxes."""
    depth = depths(boxes, before)
    keys = {box: (box, depth[box]) for box in boxes}
    rows: list[list[Key]] = [[] for _ in range(max(depth.values()) + 1)]
    down: dict[Key, list[Key]] = {key: [] for key in keys.values()}
    for box in boxes:
        rows[depth[box]].append(keys[box])
        for other in before[box]:
            if depth[other] == depth[box] - 1:
                down[keys[other]].append(keys[box])
    return Layers(tuple(map(tuple, rows)), {key: tuple(found) for key, found in down.items()}, keys)


# -- who stands beside whom --------------------------------------------------


def _sorted(rows: list[list[Key]], down: Mapping[Key, Sequence[Key]]) -> tuple[tuple[Key, ...], ...]:
    up = _turned(down)
    best, fewest = [list(row) for row in rows], _crossings(rows, down)
    for sweep in range(_SWEEPS):
        if not fewest:
            break
        if sweep % 2:
            for level in range(len(rows) - 2, -1, -1):
                _sort(rows[level], rows[level + 1], down)
        else:
            for level in range(1, len(rows)):
                _sort(rows[level], rows[level - 1], up)
        if (crossings := _crossings(rows, down)) < fewest:
            best, fewest = [list(row) for row in rows], crossings
    return tuple(tuple(row) for row in best)


def _turned(down: Mapping[Key, Sequence[Key]]) -> dict[Key, list[Key]]:
    up: dict[Key, list[Key]] = {key: [] for key in down}
    for key, found in down.items():
        for other in found:
            up[other].append(key)
    return up


def _sort(row: list[Key], beside: Sequence[Key], near: Mapping[Key, Sequence[Key]]) -> None:
    """Sorts a layer by the mean place of each one's neighbours; who has none stays where it is."""
    places = {key: float(place) for place, key in enumerate(beside)}
    scale = len(beside) / len(row)
    wanted = {
        key: sum(places[other] for other in near[key]) / len(near[key]) if near[key] else place * scale
        for place, key in enumerate(row)
    }
    row.sort(key=wanted.__getitem__)


def _crossings(rows: Sequence[Sequence[Key]], down: Mapping[Key, Sequence[Key]]) -> int:
    count = 0
    for above, below in itertools.pairwise(rows):
        places = {key: place for place, key in enumerate(below)}
        seen: list[int] = []
        for key in above:
            ends = [places[other] for other in down[key]]
            count += sum(len(seen) - bisect.bisect_right(seen, end) for end in ends)
            for end in ends:
                bisect.insort(seen, end)
    return count


# -- where they stand --------------------------------------------------------


def places(layers: Layers, width: Callable[[Key], float], gap: float) -> dict[Key, float]:
    """The middle of each box and lane, such that the leftmost edge is at 0."""
    up = _turned(layers.down)
    at: dict[Key, float] = {}
    for row in layers.rows:
        spread = itertools.accumulate((width(key) + gap for key in row), initial=0.0)
        at.update({key: start + width(key) / 2 for key, start in zip(row, spread, strict=False)})
    above: Callable[[Key], list[Key]] = up.__getitem__
    below: Callable[[Key], list[Key]] = lambda key: list(layers.down[key])  # a twin of the line above
    both: Callable[[Key], list[Key]] = lambda key: above(key) + below(key)  # and of both
    settling = [(both, layers.rows), (both, layers.rows[::-1])] * 2
    for near, rows in ((above, layers.rows), (below, layers.rows[::-1]), *settling):
        for row in rows:
            _place(row, near, at, width, gap, layers)
    left = min(at[row[0]] - width(row[0]) / 2 for row in layers.rows if row)
    return {key: place - left for key, place in at.items()}


def _place(
    row: Sequence[Key],
    near: Callable[[Key], list[Key]],
    at: dict[Key, float],
    width: Callable[[Key], float],
    gap: float,
    layers: Layers,
) -> None:
    """Moves a layer's boxes to the middle of their neighbours, as far as the others let them.

    Lanes weigh more: a bend in one is seen, a box a little aside is not.
    """
    offset, offsets = 0.0, []
    for before, key in zip([None, *row[:-1]], row, strict=True):
        offset += 0 if before is None else (width(before) + width(key)) / 2 + gap
        offsets.append(offset)
    pools: list[tuple[float, float, int]] = []  # where, weight, how many
    for key, aside in zip(row, offsets, strict=True):
        around = near(key)
        wanted = sum(at[other] for other in around) / len(around) if around else at[key]
        pool = (wanted - aside, 8.0 if layers.is_lane(key) else 1.0, 1)
        while pools and pools[-1][0] > pool[0]:
            where, weight, count = pools.pop()
            total = weight + pool[1]
            pool = ((where * weight + pool[0] * pool[1]) / total, total, count + pool[2])
        pools.append(pool)
    settled = itertools.chain.from_iterable(itertools.repeat(where, count) for where, _, count in pools)
    for key, aside, where in zip(row, offsets, settled, strict=True):
        at[key] = where + aside
