"""The lines between two layers of boxes, in characters.

What a box gives goes down to a row, along it, and down to all that read it;
boxes whose readers are the same share theirs. Lines of others never touch, not
even at a box that reads both, and one that crosses another goes over it: where
that cannot be had, there are no rows, and the graph is told instead of drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from atomesh.pipelines.drawing.layers import Key

UP, DOWN, LEFT, RIGHT = 1, 2, 4, 8
STROKES = {
    UP | DOWN: "│",
    LEFT | RIGHT: "─",
    DOWN | RIGHT: "┌",
    DOWN | LEFT: "┐",
    UP | RIGHT: "└",
    UP | LEFT: "┘",
    UP | DOWN | RIGHT: "├",
    UP | DOWN | LEFT: "┤",
    DOWN | LEFT | RIGHT: "┬",
    UP | LEFT | RIGHT: "┴",
    UP | DOWN | LEFT | RIGHT: "┼",
}


@dataclass(frozen=True)
class Net:
    """The columns where lines come down, and those where each of them goes on."""

    sources: frozenset[int]
    targets: frozenset[int]

    @property
    def ends(self) -> tuple[int, int]:
        """The first and the last column of its row."""
        columns = self.sources | self.targets
        return min(columns), max(columns)

    @property
    def straight(self) -> bool:
        """Whether it needs no row."""
        return self.sources == self.targets and len(self.sources) == 1


def nets_between(
    above: Mapping[Key, Sequence[Key]], at: Mapping[Key, int], reach: Mapping[Key, int]
) -> list[Net] | None:
    """The nets from what stands above to what reads it below; None where a box has no room for all that it reads.

    `at` says the middle of each, and `reach` how far from it lines may come down on it.
    """
    sources: dict[frozenset[Key], list[int]] = {}
    for key, targets in above.items():
        sources.setdefault(frozenset(targets), []).append(at[key])
    arriving: dict[Key, list[frozenset[Key]]] = {}
    middles = {group: sum(columns) / len(columns) for group, columns in sources.items()}
    for group in sorted(sources, key=lambda group: (middles[group], min(sources[group]))):
        for key in group:
            arriving.setdefault(key, []).append(group)
    ports: dict[frozenset[Key], set[int]] = {group: set() for group in sources}
    for key, groups in arriving.items():
        if len(groups) - 1 > reach[key]:
            return None
        wanted = [round(middles[group]) for group in groups]
        for group, port in zip(groups, _ports(wanted, at[key], reach[key]), strict=True):
            ports[group].add(port)
    return [Net(frozenset(columns), frozenset(ports[group])) for group, columns in sources.items()]


def _ports(wanted: Sequence[int], middle: int, reach: int) -> list[int]:
    """Where lines come down on a box: each below where it comes from, if it can, two columns apart, near the middle."""
    near = min(reach, 2 * (len(wanted) - 1))
    ports: list[int] = []
    for number, column in enumerate(wanted):
        left = ports[-1] + 2 if ports else middle - near
        ports.append(min(max(column, left), middle + near - 2 * (len(wanted) - 1 - number)))
    return ports


def rows_between(nets: Sequence[Net], width: int) -> list[str] | None:
    """The rows of lines; None where they cannot be told apart."""
    bent = [net for net in nets if not net.straight]
    row_of = _row_of_each(bent)
    if row_of is None:
        return None
    height = max(row_of.values(), default=-1) + 1
    begins = {column: row_of.get(net, -1) for net in nets for column in net.targets}
    legs = {column: row_of.get(net, height) for net in nets for column in net.sources}
    rows = []
    for row in range(height):
        cells = [" "] * width
        here = [net for net in bent if row_of[net] == row]
        for net in here:
            first, last = net.ends
            cells[first : last + 1] = "─" * (last + 1 - first)
        for column in {*legs, *begins}:
            if legs.get(column, -1) > row or begins.get(column, height) < row:
                cells[column] = "│"
        for net in here:
            for column, stroke in _joints(net):
                cells[column] = stroke
        rows.append("".join(cells))
    return rows


def _joints(net: Net) -> Iterator[tuple[int, str]]:
    """Where a net's row meets its own lines down."""
    first, last = net.ends
    for column in net.sources | net.targets:
        bits = (LEFT if column > first else 0) | (RIGHT if column < last else 0)
        bits |= (UP if column in net.sources else 0) | (DOWN if column in net.targets else 0)
        yield column, STROKES[bits]


def _row_of_each(nets: Sequence[Net]) -> dict[Net, int] | None:
    """A row for each net: below all that come down into it by another's column, and apart from those beside it."""
    below: dict[Net, set[Net]] = {net: set() for net in nets}
    for net in nets:
        for other in nets:
            if other is not net and (net.sources & other.targets) - net.targets:
                below[other].add(net)  # its line ends above where the other's begins
    rows: dict[Net, int] = {}
    ends: list[list[tuple[int, int]]] = []
    left = list(nets)
    while left:
        ready = [net for net in left if all(other in rows for other in below[net])]
        if not ready:
            return None
        net = ready[0]
        left.remove(net)
        row = max((rows[other] + 1 for other in below[net]), default=0)
        first, last = net.ends
        while row < len(ends) and any(first <= end + 1 and start <= last + 1 for start, end in ends[row]):
            row += 1
        ends += [[] for _ in range(row + 1 - len(ends))]
        ends[row].append(net.ends)
        rows[net] = row
    return rows
