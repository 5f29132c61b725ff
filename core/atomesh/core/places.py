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

_NONE = FieldRules()


@dataclass(frozen=True, slots=True)
class Gap:
    """A rule of the consumer that the producer's rules do not imply."""

    taken: str
    """What the consumer takes: `at most 10 characters are taken`."""
    given: str
    """What the producer does instead, without its subject: `states no limit`."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place for a value, with the rules that hold there."""

    root: FieldDescriptor
    """The field in whose message the rules are checked."""
    rules: FieldRules
    where: str = ""
    """`item`, `key` or `value` in the root; empty for the root itself."""
    free: bool = False
    """Nothing is checked there, not even inside a message."""

    @property
    def field(self) -> FieldDescriptor:
        """The field that bears the value's type: the root, or the one in a map's entry."""
        if self.where in ("key", "value"):
            return entry(self.root)[0 if self.where == "key" else 1]
        return self.root

    @property
    def type_rules(self) -> Any:
        """The rules of the value's type, such as StringRules; None where there are none."""
        kind = self.rules.WhichOneof("type")
        return getattr(self.rules, kind) if kind else None

    @property
    def expressions(self) -> tuple[str, ...]:
        """The CEL rules."""
        return (*self.rules.cel_expression, *(rule.expression for rule in self.rules.cel))

    def inside(self, where: str) -> Place:
        """The place of the items, keys or values."""
        rules = {
            "item": self.rules.repeated.items,
            "key": self.rules.map.keys,
            "value": self.rules.map.values,
        }[where]
        return _place(self.root, rules, where, self.free)

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
