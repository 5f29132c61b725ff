"""The message types of a catalog, each once, and which fields of one can fill fields of another.

Contracts come from many processes, each with descriptors in a pool of its own.
Two types are one where their names and the files of their closure are equal.
Whether a field can fill another depends on what is stated of the two alone, not
on whose they are: so equal statements are compared once, and a catalog of 200
contracts costs a few hundred comparisons and not tens of thousands.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import Descriptor

from atomesh.core.contract import ContractDescriptor
from atomesh.core.fits import field_fit
from atomesh.core.implication import unset_gap
from atomesh.core.places import place_of
from atomesh.pipelines.shapes import misfit, of_field

Mask: TypeAlias = int
"""A set of kinds, one bit for each by its number."""

_SHARED = ("google/protobuf/", "buf/validate/")  # each release of a library brings its own; all say the same


@dataclass(frozen=True, slots=True)
class Member:
    """One field, and what is stated of it."""

    field: Any
    statement: bytes
    """All that is stated of it but its number and the oneof that it is in; equal ones fill and take the same."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One message type."""

    number: int
    descriptor: Descriptor
    members: dict[str, Member]

    @property
    def name(self) -> str:
        """Its full name."""
        return str(self.descriptor.full_name)


class Kinds:
    """All of them, numbered in the order of their contracts' hashes."""

    def __init__(self, contracts: Iterable[ContractDescriptor]) -> None:
        """Loads each contract; costs a millisecond for each that was not loaded before."""
        self.all: list[Kind] = []
        self.of_contract: dict[str, tuple[int, int]] = {}
        """Numbers of the input and the output, by the contract's hash."""
        self.by_name: dict[str, list[int]] = {}
        self._known: dict[tuple[str, bytes], int] = {}
        self._files: dict[Any, bytes] = {}
        self._fills: dict[tuple[bytes, bytes], bool] = {}
        self._must: dict[bytes, bool] = {}
        for contract in sorted(contracts, key=lambda contract: contract.hash):
            loaded = contract.load()
            self.of_contract[contract.hash] = (
                self._add(loaded.input.DESCRIPTOR),
                self._add(loaded.output.DESCRIPTOR),
            )

    def fills(self, giver: Member, taker: Member) -> bool:
        """Whether one field's value can be put into another, whatever it is."""
        key = (giver.statement, taker.statement)
        if key not in self._fills:
            self._fills[key] = not misfit(of_field(giver.field), of_field(taker.field)) and not field_fit(
                giver.field, taker.field
            )
        return self._fills[key]

    def must_be_set(self, member: Member) -> bool:
        """Whether a message without the field breaks the field's rules."""
        if member.statement not in self._must:
            required = bool(member.field.is_required)
            self._must[member.statement] = required or unset_gap(None, place_of(member.field)) is not None
        return self._must[member.statement]

    def _add(self, descriptor: Any) -> int:
        key = (str(descriptor.full_name), self._closure(descriptor.file))
        if key not in self._known:
            number = self._known[key] = len(self.all)
            self.all.append(Kind(number, descriptor, self._members(descriptor)))
            self.by_name.setdefault(key[0], []).append(number)
        return self._known[key]

    def _members(self, descriptor: Any) -> dict[str, Member]:
        stated = descriptor_pb2.DescriptorProto()
        descriptor.CopyToProto(stated)
        return {
            field.name: Member(field, self._statement(field, proto))
            for field, proto in zip(descriptor.fields, stated.field, strict=True)
        }

    def _statement(self, field: Any, proto: descriptor_pb2.FieldDescriptorProto) -> bytes:
        proto.ClearField("number")
        proto.ClearField("oneof_index")
        said = proto.SerializeToString(deterministic=True) + bytes((field.has_presence, field.is_required))
        named = field.message_type or field.enum_type
        return said + (self._closure(named.file) if named is not None else b"")

    def _closure(self, file: Any) -> bytes:
        """A digest of a file and of all that it imports."""
        if file not in self._files:
            digest = hashlib.sha256(file.name.encode())
            if not file.name.startswith(_SHARED):
                digest.update(file.serialized_pb)
                for imported in file.dependencies:
                    digest.update(self._closure(imported))
            self._files[file] = digest.digest()
        return self._files[file]
