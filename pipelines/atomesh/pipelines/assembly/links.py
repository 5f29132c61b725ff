"""Whether what there is can fill what an agent takes.

It can where the output before is of the type that is taken, or fits it whole
(structure and rules, `core.fits`), or where a mapping can be proved field by
field: the output before gives at least one field of that name, whose type and
rules fit, and every field that must be set has such a giver: the output before,
an earlier one or the pipeline's input. Rules of a whole message and required
oneofs speak of several fields at once, which no single field proves: a type
with such rules is filled whole or not at all.

All of it is decided once and kept as bit masks, so that a search asks with a
few operations on integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from atomesh.core.fits import fits
from atomesh.core.places import message_rules, required_oneofs
from atomesh.pipelines.assembly.figures import BY_FIELDS, IN_PART
from atomesh.pipelines.assembly.kinds import Kind, Kinds, Mask

InputMapping: TypeAlias = dict[str, str]
"""A stage's input, as `model.py` writes it: `{field: "$stage.field"}`."""


@dataclass(frozen=True, slots=True)
class Filling:
    """How one agent's input is filled."""

    input: InputMapping | None
    """What fills each field; None where what is there before fits whole."""
    unset: tuple[str, ...]
    """Fields that nothing fills."""
    dropped: tuple[str, ...]
    """Fields of what is there before that are not read."""


class Links:
    """Who can fill whom, over all kinds of a catalog."""

    def __init__(self, kinds: Kinds) -> None:
        """Compares every field that is taken with the fields of its name."""
        self.kinds = kinds
        named: dict[str, list[int]] = {}
        for kind in kinds.all:
            for name in kind.members:
                named.setdefault(name, []).append(kind.number)
        self._named = named
        self.fillers: list[dict[str, Mask]] = [self._givers(kind) for kind in kinds.all]
        """By kind and field: the kinds that have a field which can fill it."""
        self.musts: list[tuple[str, ...]] = [self._must(kind) for kind in kinds.all]
        """The fields without which a message of the kind breaks its rules."""
        self.needs: list[tuple[Mask, ...]] = [
            tuple(self.fillers[kind.number][name] for name in self.musts[kind.number]) for kind in kinds.all
        ]
        self.gives: dict[int, Mask] = {}
        """By kind that is taken: those of which at least one field can go into a mapping; none where there can be none."""
        self.whole: dict[int, Mask] = {}
        """By kind that is taken: those that fit as they are, where a mapping does not do as well."""
        self._fitting: dict[int, Mask] = {}
        self._kept: dict[int, Mask] = {}
        for number in sorted({taken for taken, _ in kinds.of_contract.values()}):
            kind = kinds.all[number]
            self.gives[number] = _union(self.fillers[number].values()) if _mappable(kind, self.musts[number]) else 0
            self.whole[number] = self._whole(kind)

    def link(self, before: int, given: Mask, taken: int) -> bool:
        """Whether an agent that takes `taken` can follow an output of kind `before`; `given` is all that there is by then."""
        if self.whole[taken] >> before & 1:
            return True
        if not self.gives[taken] >> before & 1:
            return False
        for need in self.needs[taken]:  # noqa: SIM110 # a generator would be half of a search's time
            if not need & given:
                return False
        return True

    def could(self, taken: int, given: Mask) -> Mask:
        """The kinds that an agent may follow at best, with all of `given` at hand."""
        mapped = self.gives[taken] if all(need & given for need in self.needs[taken]) else 0
        return self.whole[taken] | mapped

    def lacking(self, given: Mask, taken: int) -> tuple[str, ...]:
        """The fields that must be set and that nothing at hand can fill."""
        return tuple(name for name in self.musts[taken] if not self.fillers[taken][name] & given)

    def fits_whole(self, given: int, taken: int) -> bool:
        """Whether a message of one kind can be given as it is where the other is taken."""
        if given == taken:
            return True
        one, other = self.kinds.all[given].descriptor, self.kinds.all[taken].descriptor
        return bool(other.fields) and fits(one, other)

    def fitting(self, taken: int) -> Mask:
        """All kinds that can be given as they are where one is taken; asked for ends of chains, so found when first asked."""
        if taken not in self._fitting:
            kind = self.kinds.all[taken]
            self._fitting[taken] = self._those_that_fit(kind, self._alike(kind))
        return self._fitting[taken]

    def kept(self, taken: int) -> Mask:
        """Those of the kinds that fit whole of which no field is dropped: the type itself, and subsets of it."""
        if taken not in self._kept:
            found = 0
            for number in bits(self.fitting(taken)):
                found |= (not self._dropped(number, taken)) << number
            self._kept[taken] = found
        return self._kept[taken]

    def loss(self, before: int, taken: int) -> int:
        """What a link costs beside its agents: nothing where it is whole, most where it is by fields."""
        if self.kept(taken) >> before & 1:
            return 0
        return IN_PART if self.fitting(taken) >> before & 1 else BY_FIELDS

    def filling(self, sources: Sequence[tuple[str, int]], taken: int) -> Filling:
        """How a kind is filled, where there is a link.

        Args:
            sources: the names and kinds of what there is: the output before, earlier ones, the input.
            taken: the kind to fill.
        """
        (first, before), kinds = sources[0], self.kinds.all
        if self.fits_whole(before, taken):
            missing = tuple(name for name in kinds[taken].members if name not in kinds[before].members)
            return Filling(None, missing, self._dropped(before, taken))
        found = self.by_field(sources, taken)
        read = set(found.values())
        return Filling(
            found,
            tuple(name for name in kinds[taken].members if name not in found),
            tuple(name for name in kinds[before].members if f"${first}.{name}" not in read),
        )

    def by_field(self, sources: Sequence[tuple[str, int]], taken: int) -> InputMapping:
        """Every field of a kind that something can fill, each from the first source that can."""
        members = self.kinds.all[taken].members
        found: InputMapping = {}
        groups: set[str] = set()
        for source, kind in sources:  # the output before comes first, with whichever member of a oneof it has
            for name, givers in self.fillers[taken].items():
                field: Any = members[name].field
                group = field.containing_oneof.name if field.containing_oneof is not None else name
                if name in found or group in groups or not givers >> kind & 1:
                    continue
                groups.add(group)
                found[name] = f"${source}.{name}"
        return {name: found[name] for name in members if name in found}

    def _dropped(self, before: int, taken: int) -> tuple[str, ...]:
        """The fields of a kind that another which it fits whole does not know."""
        known = self.kinds.all[taken].members
        return tuple(name for name in self.kinds.all[before].members if name not in known)

    # -- once ----------------------------------------------------------------

    def _givers(self, taken: Kind) -> dict[str, Mask]:
        found: dict[str, Mask] = {}
        for name, member in taken.members.items():
            mask = 0
            for number in self._named[name]:
                if self.kinds.fills(self.kinds.all[number].members[name], member):
                    mask |= 1 << number
            found[name] = mask
        return found

    def _must(self, kind: Kind) -> tuple[str, ...]:
        return tuple(name for name, member in kind.members.items() if self.kinds.must_be_set(member))

    def _whole(self, taken: Kind) -> Mask:
        """Its own kind, and those that fit whole where a mapping from them alone is not proved."""
        mapped = self.gives[taken.number]
        for need in self.needs[taken.number]:
            mapped &= need
        return self._those_that_fit(taken, self._alike(taken) & ~mapped)

    def _alike(self, taken: Kind) -> Mask:
        """The kinds that may fit whole: they share a field, and have what must be set."""
        found = 0
        for name, member in taken.members.items():
            for number in self._named[name]:
                if self.kinds.all[number].members[name].field.number == member.field.number:
                    found |= 1 << number
        for need in self.needs[taken.number]:
            found &= need
        return found

    def _those_that_fit(self, taken: Kind, candidates: Mask) -> Mask:
        found = 1 << taken.number
        for number in bits(candidates):
            if self.fits_whole(number, taken.number):
                found |= 1 << number
        return found


def bits(mask: Mask) -> list[int]:
    """The numbers in a mask, ascending."""
    found = []
    while mask:
        lowest = mask & -mask
        found.append(lowest.bit_length() - 1)
        mask ^= lowest
    return found


def _mappable(kind: Kind, musts: Sequence[str]) -> bool:
    """Whether fields that fit one by one make a message that keeps its rules."""
    if message_rules(kind.descriptor).ByteSize() or required_oneofs(kind.descriptor):
        return False
    must: list[Any] = [kind.members[name].field for name in musts]
    return not any(field.containing_oneof is not None and len(field.containing_oneof.fields) > 1 for field in must)


def _union(masks: Any) -> Mask:
    found = 0
    for mask in masks:
        found |= mask
    return found
