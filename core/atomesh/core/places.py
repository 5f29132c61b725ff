"""Where values stand and which rules hold there: a field, or the items, keys or values in one.

The rules are protovalidate's, read from the options of any pool's descriptors:
in a pool of a stranger's they are an extension that this process's classes do
not know, so options are parsed anew from their bytes.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from buf.validate import validate_pb2
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.unknown_fields import UnknownFieldSet

FieldRules: TypeAlias = validate_pb2.FieldRules

MAX_DEPTH = 100
"""Levels of messages in messages that protobuf's parsers read (upb's and Java's default); half would leave values
unjudged, twice runs out of Python's stack."""

_NONE = FieldRules()


@dataclass(frozen=True, slots=True)
class Gap:
    """A rule of the consumer that the producer's rules do not imply."""

    taken: str
    """What the consumer takes: `at most 10 characters are taken`."""
    given: str
    """What the producer does instead, without its subject: `states no limit`."""


@dataclass(frozen=True, eq=False)
class Place:
    """A place for a value, with the rules that hold there; one object per place, so that readings can be remembered."""

    root: FieldDescriptor
    """The field in whose message the rules are checked."""
    rules: FieldRules
    where: str = ""
    """`item`, `key` or `value` in the root; empty for the root itself."""
    free: bool = False
    """Nothing is checked there, not even inside a message."""

    @functools.cached_property
    def field(self) -> FieldDescriptor:
        """The field that bears the value's type: the root, or the one in a map's entry."""
        if self.where in ("key", "value"):
            return entry(self.root)[0 if self.where == "key" else 1]
        return self.root

    @functools.cached_property
    def kind(self) -> str:
        """The type of the rules, such as `string`; empty where there are none of a type."""
        return self.rules.WhichOneof("type") or ""

    @functools.cached_property
    def type_rules(self) -> Any:
        """The rules of the value's type, such as StringRules; None where there are none."""
        return getattr(self.rules, self.kind) if self.kind else None

    @functools.cached_property
    def expressions(self) -> tuple[str, ...]:
        """The CEL rules."""
        return (*self.rules.cel_expression, *(rule.expression for rule in self.rules.cel))

    @functools.cached_property
    def takes_all(self) -> bool:
        """Whether no rule is checked of the values themselves."""
        return self.free or not self.rules.ByteSize()

    @functools.cached_property
    def serialized(self) -> bytes:
        """The rules in bytes, to compare."""
        return self.rules.SerializeToString(deterministic=True)

    @functools.cached_property
    def item(self) -> Place:
        """The place of a list's items."""
        return _place(self.root, self.rules.repeated.items, "item", self.free)

    @functools.cached_property
    def pair(self) -> tuple[Place, Place]:
        """The places of a map's keys and values."""
        rules = self.rules.map
        return _place(self.root, rules.keys, "key", self.free), _place(self.root, rules.values, "value", self.free)

    def unchecked(self) -> Place:
        """The same place where nobody checks it."""
        return replace(self, rules=_NONE, free=True)


@functools.lru_cache(maxsize=16384)
def place_of(field: FieldDescriptor) -> Place:
    """The place that a field is."""
    options = descriptor_pb2.FieldOptions.FromString(field.GetOptions().SerializeToString())
    rules: FieldRules = options.Extensions[validate_pb2.field] if options.HasExtension(validate_pb2.field) else _NONE
    return _place(field, rules, "", free=False)


def _place(root: FieldDescriptor, rules: FieldRules, where: str, free: bool) -> Place:
    if free or rules.ignore == validate_pb2.IGNORE_ALWAYS:
        return Place(root, _NONE, where, free=True)
    return Place(root, rules, where)


@functools.lru_cache(maxsize=4096)
def message_rules(message: Descriptor) -> validate_pb2.MessageRules:
    """The rules of a whole message."""
    options = descriptor_pb2.MessageOptions.FromString(message.GetOptions().SerializeToString())
    return options.Extensions[validate_pb2.message]


@functools.lru_cache(maxsize=4096)
def required_oneofs(message: Descriptor) -> tuple[str, ...]:
    """The oneofs of which one member must be set."""
    names = []
    for oneof in message.oneofs:
        options = descriptor_pb2.OneofOptions.FromString(oneof.GetOptions().SerializeToString())
        if options.Extensions[validate_pb2.oneof].required:
            names.append(str(oneof.name))
    return tuple(names)


def unknown(rules: Any) -> bool:
    """Whether there are rules that this release of protovalidate's messages does not know, or predefined ones."""
    return len(UnknownFieldSet(rules)) > 0


def entry(field: FieldDescriptor) -> tuple[FieldDescriptor, FieldDescriptor]:
    """The key and the value of a map."""
    assert field.message_type is not None
    fields = field.message_type.fields_by_name
    return fields["key"], fields["value"]


def is_map(field: FieldDescriptor) -> bool:
    """Whether the field is a map."""
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)
