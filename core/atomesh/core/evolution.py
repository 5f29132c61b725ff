"""Whether a changed contract can replace a live one, as far as its rules go.

What goes over the wire is `compatibility`'s business. Beside it a rule can
break somebody in two ways: made narrower for inputs, it refuses what callers
send; made wider for outputs or chunks, it lets through what readers count on
not to see. So the old rules must imply the new ones for inputs, and the new
ones the old for what comes back.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from atomesh.core.compatibility import differences
from atomesh.core.contract import ContractDescriptor
from atomesh.core.fits import Breach, rules_fit

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
