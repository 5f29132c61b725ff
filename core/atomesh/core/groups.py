"""What is said of several fields at once: oneofs, and the rules of a whole message."""

from __future__ import annotations

from collections.abc import Iterator

from buf.validate import validate_pb2
from google.protobuf.descriptor import Descriptor

from atomesh.core.expressions import names, same_sense
from atomesh.core.implication import zero_of
from atomesh.core.places import Gap, message_rules, place_of, required_oneofs, unknown
from atomesh.core.trials import can_give_zero, can_leave_unset, empty_is_taken


def sense_gaps(given: Descriptor, taken: Descriptor) -> Iterator[Gap]:
    """Fields that the producer may set together, of which the consumer keeps the last one."""
    for oneof in taken.oneofs:
        members = [field.name for field in oneof.fields if field.number in given.fields_by_number]
        if not _exclusive(given, members):
            yield Gap(f"one of {', '.join(members)} is taken", "may give several")


def group_gaps(given: Descriptor, taken: Descriptor, *, unkept: bool) -> Iterator[Gap]:
    """Rules of the consumer's oneofs and of its message that the producer's do not imply."""
    for name in required_oneofs(taken):
        members = [str(field.name) for field in taken.oneofs_by_name[name].fields]
        if not _one_is_set(given, taken, members, unkept):
            yield Gap(f"one of {', '.join(members)} must be set", "may set none of them")
    rules = message_rules(taken)
    if not rules.ByteSize():
        return
    stated = validate_pb2.MessageRules() if unkept else message_rules(given)
    if unknown(rules) and rules.SerializeToString() != stated.SerializeToString():
        yield Gap("rules that are unknown here hold", "is not known to keep them")
    for group in rules.oneof:
        yield from _oneof_gaps(given, taken, group, None if unkept else stated)
    expressions = {*stated.cel_expression, *(rule.expression for rule in stated.cel)}
    wanted = [(rule.id or rule.expression, rule.expression) for rule in rules.cel]
    for name, expression in [*wanted, *((text, text) for text in rules.cel_expression)]:
        if expression in expressions and same_sense(expression, given, taken):
            continue
        if not _holds_of_the_unset(expression, given, taken):
            says = "states it of other fields" if expression in expressions else "does not state it"
            yield Gap(f"the rule {name} holds", says)


def _oneof_gaps(
    given: Descriptor, taken: Descriptor, group: validate_pb2.MessageOneofRule, stated: validate_pb2.MessageRules | None
) -> Iterator[Gap]:
    """What the producer's rules leave of the members that a consumer's group joins; None where it keeps no rules."""
    members, listed = list(group.fields), ", ".join(group.fields)
    alike = _names_alike(given, taken, members)
    known = [name for name in members if name in given.fields_by_name]
    groups = list(stated.oneof) if stated is not None else []
    if not _exclusive(given, known) and not any(set(known) <= set(other.fields) for other in groups):
        yield Gap(f"at most one of {listed} is taken", "may give several")
    needed = any(other.required and set(other.fields) <= set(known) for other in groups)
    if group.required and not (alike and needed) and not _one_is_set(given, taken, members, unkept=stated is None):
        yield Gap(f"one of {listed} must be set", "may set none of them")


def _names_alike(given: Descriptor, taken: Descriptor, members: list[str]) -> bool:
    """Whether what is set on the one side is set on the other: no explicit zero is lost."""
    for name in members:
        one, other = given.fields_by_name.get(name), taken.fields_by_name.get(name)
        if one is None or other is None or one.number != other.number:
            return False
        if one.has_presence and not other.has_presence:
            return False
    return True


def _exclusive(given: Descriptor, members: list[str]) -> bool:
    """Whether the producer sets at most one of them."""
    if len(members) < 2:
        return True
    oneofs = {given.fields_by_name[name].containing_oneof for name in members if name in given.fields_by_name}
    return len(oneofs) <= 1 and None not in oneofs


def _one_is_set(given: Descriptor, taken: Descriptor, members: list[str], unkept: bool) -> bool:
    """Whether the producer always sets one of the members, in a way that the consumer sees."""
    if unkept:
        return False
    numbers = {name: taken.fields_by_name[name].number for name in members if name in taken.fields_by_name}
    known = [field for name, field in given.fields_by_name.items() if name in numbers and field.number == numbers[name]]
    for field in known:
        place = place_of(field)
        seen = not field.has_presence or taken.fields_by_number[field.number].has_presence
        zero = field.message_type is None and not seen and can_give_zero(place, zero_of(field))
        if not can_leave_unset(place) and not zero:
            return True
    have = {str(field.name) for field in known}
    for name in required_oneofs(given):
        fields = given.oneofs_by_name[name].fields
        if {str(field.name) for field in fields} <= have and _names_alike(given, taken, [f.name for f in fields]):
            return True
    return False


def _holds_of_the_unset(expression: str, given: Descriptor, taken: Descriptor) -> bool:
    """Whether a rule speaks only of fields that the producer never sets, and takes them so."""
    spoken = names(expression, taken)
    if spoken is None or any(taken.fields_by_name[name].number in given.fields_by_number for name in spoken):
        return False
    return empty_is_taken(taken)
