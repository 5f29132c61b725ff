"""Whether a changed contract can replace a live one, as far as its rules go.

What goes over the wire is `compatibility`'s business. Beside it a rule can
break somebody in two ways: made narrower for inputs, it refuses what callers
send; made wider for outputs or chunks, it lets through what readers count on
not to see. So the old rules must imply the new ones for inputs, and the new
ones the old for what comes back.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from atomesh.core.compatibility import differences
from atomesh.core.contract import ContractDescriptor
from atomesh.core.fits import Breach, rules_fit, structure_fit

_LIVE, _CHANGED = "the live contract", "the changed one"

Breaking: TypeAlias = Callable[[ContractDescriptor, ContractDescriptor], Iterable[Breach]]


@dataclass(frozen=True, slots=True)
class Consumer:
    """Somebody who uses an agent in a way that is known."""

    name: str
    kind: str
    """What it is in a word: `pipeline`."""
    breaks: Breaking
    """What breaks for it where the second contract takes the place of the first."""


@dataclass(frozen=True, slots=True)
class Break:
    """One thing that a changed contract breaks."""

    cause: str
    """`wire`, `rules`, or the kind of a consumer."""
    breach: Breach
    whom: str
    """Who is broken: `callers`, `readers`, or a consumer by name."""

    def __str__(self) -> str:
        """In one line."""
        return f"{self.breach}; breaks {self.whom}"


_WHOM = {"input": "callers", "output": "readers", "chunks": "readers"}


def breaks(old: ContractDescriptor, new: ContractDescriptor, consumers: Iterable[Consumer] = ()) -> tuple[Break, ...]:
    """All that `new` breaks in the place of `old`: on the wire, by its rules, and for consumers that are known."""
    found = [Break("wire", Breach("", text), "callers and readers") for text in differences(old, new)]
    found += [Break("rules", breach, _WHOM[breach.field.partition(" ")[0]]) for breach in narrowed(old, new)]
    for consumer in consumers:
        whom = f"{consumer.kind} {consumer.name}"
        found += [Break(consumer.kind, breach, whom) for breach in consumer.breaks(old, new)]
    return tuple(found)


def by_fields(sets: Collection[str], reads: Collection[str]) -> Breaking:
    """What breaks for somebody of whom only the fields are known, as paths from the input and from the output.

    A field of the input breaks it where it sets that field, something in it or
    all around it, and where the field must be set and it does not. A field that
    is gone breaks whoever names it.
    """

    def broken(old: ContractDescriptor, new: ContractDescriptor) -> Iterator[Breach]:
        was, now = old.load(), new.load()
        for side, given, taken, giver, used in (
            ("input", _of(was.input), _of(now.input), _LIVE, sets),
            ("output", _of(now.output), _of(was.output), _CHANGED, reads),
        ):
            changed = taken if side == "input" else given
            gone = [Breach(path, "it is gone") for path in used if not _has(changed, path)]
            found = (*structure_fit(given, taken), *rules_fit(given, taken, giver))
            touched = [breach for breach in found if _touches(breach, used)]
            yield from _sided(side, taken.full_name, [*gone, *touched])

    return broken


def _has(message: Descriptor, path: str) -> bool:
    """Whether a path leads to a field; what is inside a map or an Any is not looked into."""
    kind: Descriptor | None = message
    for name in filter(None, path.split(".")):
        if kind is None or kind.GetOptions().map_entry or kind.full_name.startswith("google.protobuf."):
            return True
        if (field := kind.fields_by_name.get(name)) is None:
            return False
        kind = field.message_type
    return True


def _touches(breach: Breach, used: Collection[str]) -> bool:
    path = breach.field.replace("[]", "").replace("[key]", "").replace("[value]", "")
    if not path or breach.problem.startswith("it must be set"):
        return True
    return any(f"{path}.".startswith(f"{name}.") or f"{name}.".startswith(f"{path}.") for name in used)


@functools.lru_cache(maxsize=256)
def narrowed(old: ContractDescriptor, new: ContractDescriptor) -> tuple[Breach, ...]:
    """The rules by which `new` breaks callers and readers of `old`; empty where it can take its place.

    The field of a breach begins with the side and the type: `input text.v1.TextInput.content`.
    """
    if old.hash == new.hash:
        return ()
    was, now = old.load(), new.load()
    taken, before = _of(was.input), _of(was.output)
    breaches = [
        *_sided("input", taken.full_name, rules_fit(taken, _of(now.input), _LIVE)),
        *_sided("output", before.full_name, rules_fit(_of(now.output), before, _CHANGED)),
    ]
    if was.chunk is not None and now.chunk is not None:
        pieces = _of(was.chunk)
        breaches += _sided("chunks", pieces.full_name, rules_fit(_of(now.chunk), pieces, _CHANGED))
    return tuple(breaches)


def _of(message: type[Message]) -> Descriptor:
    descriptor: Any = message.DESCRIPTOR  # typeshed knows two classes of it, of which one is the other's face
    return cast("Descriptor", descriptor)


def _sided(side: str, kind: str, breaches: Iterable[Breach]) -> Iterator[Breach]:
    for breach in breaches:
        yield Breach(f"{side} {kind}.{breach.field}" if breach.field else f"{side} {kind}", breach.problem)
