"""Whether one message can be given where another is taken.

They need not share a name: what counts is that the producer's wire form and
JSON are read as the consumer's with the same meaning, and that the producer's
rules imply the consumer's. Fields that the consumer does not know pass by; one
that the producer does not know arrives unset, which the consumer's rules must
take. The answer is sound and not complete: what cannot be shown is a breach.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from buf.validate import validate_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from atomesh.core.groups import group_gaps, sense_gaps
from atomesh.core.implication import implication, unset_gap, zero_gap
from atomesh.core.places import MAX_DEPTH, Gap, Place, is_map, place_of
from atomesh.core.shapes import mismatch, name_mismatch

_PRODUCER = "the producer"


@dataclass(frozen=True, slots=True)
class Breach:
    """One reason why a message does not fit."""

    field: str
    """Path in the consumer's message, such as `options.top_k`; empty for the message itself."""
    problem: str
    """In one line: what is taken, and what the producer does instead."""

    def __str__(self) -> str:
        """The path, where there is one, and the problem."""
        return f"{self.field}: {self.problem}" if self.field else self.problem


@functools.lru_cache(maxsize=16384)
def fit(producer: Descriptor, consumer: Descriptor) -> tuple[Breach, ...]:
    """Why messages of `producer` cannot be given where `consumer` is taken; empty where they fit."""
    if not _same(producer, consumer) and (said := _strangers(producer, consumer)):
        return (Breach("", said),)
    return structure_fit(producer, consumer) + rules_fit(producer, consumer)


@functools.lru_cache(maxsize=65536)
def fits(producer: Descriptor, consumer: Descriptor) -> bool:
    """Whether `fit` finds nothing; it ends at the first breach."""
    if producer is consumer:
        return True
    if _strangers(producer, consumer) or _named_apart(producer, consumer):
        return False
    if _same(producer, consumer):
        return True
    for walk in (Walk(structure=True, rules=False), Walk(structure=False, rules=True)):
        if next(walk.messages(producer, consumer), None) is not None:
            return False
    return True


def structure_fit(producer: Descriptor, consumer: Descriptor) -> tuple[Breach, ...]:
    """Why the wire form and the JSON of `producer` are not read as `consumer`; rules apart."""
    return () if _same(producer, consumer) else tuple(Walk(rules=False).messages(producer, consumer))


def rules_fit(producer: Descriptor, consumer: Descriptor, giver: str = _PRODUCER) -> tuple[Breach, ...]:
    """The consumer's rules that the producer's do not imply; where the structure differs, nothing is said.

    Args:
        producer: the type of the messages that are given.
        consumer: the type that is taken.
        giver: who gives, as the breaches call it.
    """
    walk = Walk(structure=False, giver=giver)
    return () if _same(producer, consumer) else tuple(walk.messages(producer, consumer))


def field_fit(producer: FieldDescriptor, consumer: FieldDescriptor) -> tuple[Breach, ...]:
    """Why one field's value cannot be put into another field; empty where it can.

    Names and numbers are nobody's business here. As on the wire, a zero of a
    field that tracks no presence leaves one that does unset.
    """
    if said := mismatch(producer, consumer):
        return (Breach(consumer.name, said),)
    structure, rules = Walk(rules=False), Walk(structure=False)
    return (*structure.field(producer, consumer), *rules.field(producer, consumer))


class Walk:
    """One walk over two messages and all that they hold; a pair that is met again is taken to fit.

    That is right for messages that hold themselves, as every value of theirs is
    finite: were one refused, it would be at a place that the walk has seen.
    """

    def __init__(self, *, structure: bool = True, rules: bool = True, giver: str = _PRODUCER) -> None:
        """Of the structure, the rules or both, with the words for who gives."""
        self._structure = structure
        self._rules = rules
        self._giver = giver
        self._depth = 0
        self._seen: set[tuple[Descriptor, Descriptor, bool, bool]] = set()

    def messages(
        self, given: Descriptor, taken: Descriptor, path: str = "", *, unkept: bool = False, free: bool = False
    ) -> Iterator[Breach]:
        """The breaches of two messages; `unkept` where the producer keeps no rules, `free` where the consumer asks none."""
        key = (given, taken, unkept, free)
        if key in self._seen or (given is taken and (free or not unkept)):
            return
        self._seen.add(key)
        if self._structure and (said := _strangers(given, taken)):
            yield Breach(path, said)
            return
        for field in taken.fields:
            yield from self._member(given, field, path, unkept=unkept, free=free)
        if self._structure:
            yield from self._worded(path, sense_gaps(given, taken))
        if self._rules and not free:
            yield from self._worded(path, group_gaps(given, taken, unkept=unkept))

    def field(
        self,
        given: FieldDescriptor,
        taken: FieldDescriptor,
        path: str = "",
        *,
        unkept: bool = False,
        free: bool = False,
    ) -> Iterator[Breach]:
        """The breaches of the values of two fields whose types match."""
        path = path or str(taken.name)
        one, other = place_of(given), place_of(taken)
        if unkept:
            one = one.unchecked()
        if free:
            other = other.unchecked()
        if self._rules and (gap := unset_gap(one, other) or zero_gap(one, other)):
            yield from self._worded(path, [gap])
        yield from self._values(one, other, path)

    def _member(
        self, given: Descriptor, taken: FieldDescriptor, path: str, *, unkept: bool, free: bool
    ) -> Iterator[Breach]:
        where = f"{path}.{taken.name}" if path else str(taken.name)
        one = given.fields_by_number.get(taken.number)
        if one is None:
            if self._structure and (said := _missing(given, taken)):
                yield Breach(where, said)
            if self._rules and not free and (gap := unset_gap(None, place_of(taken))):
                yield from self._worded(where, [gap])
        elif said := name_mismatch(one, taken) or mismatch(one, taken):
            if self._structure:
                yield Breach(where, said)
        else:
            yield from self.field(one, taken, where, unkept=unkept, free=free)

    def _values(self, one: Place, other: Place, path: str) -> Iterator[Breach]:
        """What the rules and the messages of two places come to, with what is inside a list or a map."""
        if self._rules:
            if one.where and (gap := zero_gap(one, other)):
                yield from self._worded(path, [gap])
            yield from self._worded(path, implication(one, other))
        if one.where == "" and is_map(one.root):
            for where, given, taken in zip(("key", "value"), one.pair, other.pair, strict=True):
                yield from self._values(given, taken, f"{path}[{where}]")
        elif one.where == "" and one.field.is_repeated:
            yield from self._values(one.item, other.item, f"{path}[]")
        elif one.field.message_type is not None and other.field.message_type is not None:
            unkept = one.free or _may_skip_empty(one, other)
            if self._depth < MAX_DEPTH:
                self._depth += 1
                yield from self.messages(
                    one.field.message_type, other.field.message_type, path, unkept=unkept, free=other.free
                )
                self._depth -= 1

    def _worded(self, path: str, gaps: Iterable[Gap]) -> Iterator[Breach]:
        for gap in gaps:
            yield Breach(path, f"{gap.taken}, and {self._giver} {gap.given}")


def _same(producer: Descriptor, consumer: Descriptor) -> bool:
    """One type, stated by the same files."""
    if producer is consumer:
        return True
    return producer.full_name == consumer.full_name and _files(producer) == _files(consumer)


@functools.lru_cache(maxsize=4096)
def _files(message: Descriptor) -> bytes:
    files, pending = dict[str, bytes](), [message.file]
    while pending:
        file = pending.pop()
        if file.name not in files:
            files[file.name] = file.serialized_pb
            pending += file.dependencies
    return hashlib.sha256(b"".join(name.encode() + b"\n" + files[name] for name in sorted(files))).digest()


def _strangers(given: Descriptor, taken: Descriptor) -> str | None:
    """Why two messages of different names have nothing to do with each other."""
    if given.full_name == taken.full_name:
        return None
    if any(name.startswith("google.protobuf.") for name in (given.full_name, taken.full_name)):
        return f"it is {taken.full_name}, not {given.full_name}"
    if (wanted := _names(taken)) and wanted.keys().isdisjoint(_names(given)):
        return f"{given.full_name} has none of the fields of {taken.full_name}"
    return None


@functools.lru_cache(maxsize=4096)
def _names(message: Descriptor) -> dict[int, str]:
    """The fields by number."""
    return {field.number: str(field.name) for field in message.fields}


def _named_apart(given: Descriptor, taken: Descriptor) -> bool:
    """Whether a number is another field's on the other side: what most types have in common, and cheap to see."""
    names = _names(given)
    return any(names.get(number, name) != name for number, name in _names(taken).items())


def _missing(given: Descriptor, taken: FieldDescriptor) -> str | None:
    if taken.is_required:
        return f"it is required, and {given.full_name} does not have it"
    for field in given.fields:
        if taken.name in (field.name, field.json_name) or taken.json_name in (field.name, field.json_name):
            return f"its number is {taken.number}, not {field.number}"
    return None


def _may_skip_empty(one: Place, other: Place) -> bool:
    """Whether the producer may pass over an empty item that the consumer looks at."""
    zero = validate_pb2.IGNORE_IF_ZERO_VALUE
    return bool(one.where) and one.rules.ignore == zero and other.rules.ignore != zero
