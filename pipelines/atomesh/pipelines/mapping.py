"""What fills a message: literals, references and expressions, checked against its descriptor before anything runs.

Literals are put into a message once, when the plan is made; a run copies that
and sets what depends on the run.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from google.protobuf import json_format, message_factory
from google.protobuf.message import Message

from atomesh.core.fits import field_fit
from atomesh.core.rules import ContractRuleError, Rules
from atomesh.pipelines.dynamic import JSON_TYPES, WRAPPERS, typed
from atomesh.pipelines.expressions import Expressions
from atomesh.pipelines.fields import Assign, converted, named, present, put_value
from atomesh.pipelines.references import Getter, Values, Wrong, is_reference, raise_all, resolve
from atomesh.pipelines.shapes import Shape, misfit, of_field
from atomesh.pipelines.typespace import TypeSpace

CEL = "$cel"
"""The key of an object that is an expression."""

_INSIDE = re.compile(r"\$([a-z][a-z0-9_]*)\.")  # a reference in the middle of a text
_BARE = re.compile(r"([a-z][a-z0-9_]*)(\.[a-z][a-z0-9_]*)+")  # one without its dollar

_CEL_INTS = ("int32", "int64", "uint32", "uint64")


@dataclass
class Mapper:
    """Makes functions of mappings, in the types of one plan."""

    types: TypeSpace
    notes: list[str] = field(default_factory=list)
    """Rules of fields that what fills them does not promise to keep: the endpoint checks them all the same."""

    def __post_init__(self) -> None:
        """The expressions of these types."""
        self._expressions = Expressions(self.types)
        self._rules = Rules()

    def message(self, value: Any, target: Any, scope: Mapping[str, Shape]) -> Getter:
        """A function that gives the message of type `target`, or None where all of it is a value that is not there.

        Raises:
            Wrong: a field that is not there, or a value of another type.
        """
        wanted = Shape(message=target)
        if is_reference(value):
            found = resolve(value, scope)
            if problem := misfit(found.shape, wanted):
                raise Wrong(f"{value}: {problem}")
            return converted(found.get, target)
        if _is_expression(value):
            return converted(self._expression(value[CEL], wanted, scope), target)
        if (kind := str(target.full_name)) in JSON_TYPES or (kind in WRAPPERS and not isinstance(value, dict)):
            return self._json(value, target)
        if not isinstance(value, dict):
            raise Wrong(f"expected fields of {target.full_name}, a reference or an expression, not {value!r:.60}")
        made = message_factory.GetMessageClass(target)
        fill = self._fields(value, target, scope)

        def build(values: Values) -> Message:
            message = made()
            fill(message, values)
            return message

        return build

    def boolean(self, text: str, scope: Mapping[str, Shape]) -> Getter:
        """A guard: a reference to a bool, or an expression.

        Raises:
            Wrong: it is neither.
        """
        if is_reference(text):
            found = resolve(text, scope)
            if found.shape != Shape(scalar="bool"):
                raise Wrong(f"{text} is {found.shape}, and a guard is a bool; compare it in CEL")
            return found.get
        shape, get = self._expressions.compile(text, scope)
        if shape is not None and shape != Shape(scalar="bool"):
            raise Wrong(f"{text!r:.80} is {shape}, and a guard is a bool")
        return get if shape is not None else typed(get, Shape(scalar="bool"))

    def value(self, value: Any, scope: Mapping[str, Shape]) -> tuple[Shape, Getter]:
        """The shape of a value for which nothing is declared, and the function that gives it.

        Raises:
            Wrong: it is of no one shape.
        """
        if is_reference(value):
            found = resolve(value, scope)
            return found.shape, found.get
        if _is_expression(value):
            shape, get = self._expressions.compile(str(value[CEL]), scope)
            if shape is None:
                raise Wrong(f"{value[CEL]!r:.80} is of no one type before a run; name an output_type")
            return shape, get
        for kind, scalar in ((bool, "bool"), (int, "int64"), (float, "double"), (str, "string")):
            if isinstance(value, kind):
                return Shape(scalar=scalar), _always(_unescaped(value))
        raise Wrong(f"{value!r:.60} has no type of its own; name an output_type")

    # -- inside --------------------------------------------------------------

    @staticmethod
    def _json(value: Any, target: Any) -> Getter:
        """What gives a message that has a JSON form of its own, such as Struct, from a literal."""
        if not _is_literal(value):
            raise Wrong(f"{target.full_name} is filled whole, by a literal, a reference or an expression")
        made = message_factory.GetMessageClass(target)
        fixed = made()
        _parse(fixed, value, Shape(message=target))
        return lambda values: made.FromString(fixed.SerializeToString())

    def _expression(self, text: Any, wanted: Shape, scope: Mapping[str, Shape]) -> Getter:
        shape, get = self._expressions.compile(str(text), scope)
        if shape is not None and (problem := _cel_misfit(shape, wanted)):
            raise Wrong(f"{text!r:.80}: {problem}")
        return get if shape is not None else typed(get, wanted)

    def _fields(self, value: Mapping[str, Any], target: Any, scope: Mapping[str, Shape]) -> Assign:
        fixed = message_factory.GetMessageClass(target)()
        assigns: list[Assign] = []
        oneofs: dict[str, str] = {}
        literal: dict[str, str] = {}
        wrong: list[Wrong] = []
        for name, item in value.items():
            try:
                member = _member(target, name)
                if (group := member.containing_oneof) is not None and oneofs.setdefault(group.name, name) != name:
                    raise Wrong(f"{oneofs[group.name]} and {name} of {target.full_name} exclude one another; fill one")
                if _is_literal(item):
                    self._check_inside(member, item, scope)
                    _set_literal(fixed, member, item)
                    literal[str(member.name)] = str(name)
                    self._note_text(str(name), item, scope)
                else:
                    assigns.append(named(member.name, self._assign(member, item, scope)))
            except Wrong as error:
                wrong.append(error.below(str(name)))
        raise_all([*wrong, *self._broken_rules(fixed, literal)])

        def fill(message: Any, values: Values) -> None:
            message.MergeFrom(fixed)
            for assign in assigns:
                assign(message, values)

        return fill

    def _check_inside(self, member: Any, item: Any, scope: Mapping[str, Shape]) -> None:
        """Raises Wrong for what is wrong inside an object, in our own words and at its own place."""
        wanted = of_field(member)
        if not isinstance(item, dict) or wanted.message is None or wanted.many or wanted.key:
            return
        if wanted.message.file.package != "google.protobuf":  # whose JSON is not an object of their fields
            self._fields(item, wanted.message, scope)

    def _broken_rules(self, fixed: Message, literal: Mapping[str, str]) -> list[Wrong]:
        """Rules of a contract that literals break: what the run fills beside them cannot mend that."""
        try:
            broken = self._rules.check(fixed) if literal else ()
        except ContractRuleError:
            return []  # the contract's own fault, which its endpoint tells of
        found = []
        for violation in broken:
            first = violation.field.partition(".")[0].partition("[")[0]
            if first in literal:
                found.append(Wrong(f"{violation.field}: {violation.message}").below(literal[first]))
        return found

    def _note_text(self, name: str, item: Any, scope: Mapping[str, Shape]) -> None:
        """Notes text that looks as if a reference was meant: nothing is put into the middle of a text."""
        for text in _texts(item):
            inside = next((found[1] for found in _INSIDE.finditer(text) if found[1] in scope), None)
            bare = _BARE.fullmatch(text)
            if inside is not None or (bare is not None and bare[1] in scope):
                self.notes.append(
                    f"{name}: {text!r:.60} is sent as it stands; a reference stands alone ($input.x), "
                    "and text is put together in CEL"
                )

    def _assign(self, member: Any, item: Any, scope: Mapping[str, Shape]) -> Assign:
        """What sets one field from a value that depends on the run."""
        wanted, name = of_field(member), str(member.name)
        if is_reference(item):
            found = resolve(item, scope)
            if problem := misfit(found.shape, wanted):
                raise Wrong(f"{item}: {problem}")
            if found.field is not None and found.field.type == member.type:
                self.notes += [f"{name}: {item}: {breach}" for breach in field_fit(found.field, member)]
            return put_value(found.get, name, wanted)
        if _is_expression(item):
            return put_value(self._expression(item[CEL], wanted, scope), name, wanted)
        if isinstance(item, list) and wanted.many:
            return self._list(member, item, wanted.one, scope)
        if isinstance(item, dict) and (wanted.key or (wanted.message and wanted.message.full_name in JSON_TYPES)):
            raise Wrong(f"{name} is {wanted}; fill it whole, by a reference or an expression")
        if isinstance(item, dict) and wanted.message is not None and not wanted.many:
            fill = self._fields(item, wanted.message, scope)
            return lambda message, values: fill(present(getattr(message, name)), values)
        raise Wrong(f"{name} is {wanted}, which {item!r:.60} does not fit")

    def _list(self, member: Any, items: list[Any], one: Shape, scope: Mapping[str, Shape]) -> Assign:
        name = str(member.name)
        makers = []
        for index, item in enumerate(items):
            try:
                makers.append(self._item(member, item, one, scope))
            except Wrong as error:
                raise error.below(index) from None

        def assign(message: Any, values: Values) -> None:
            found = (make(values) for make in makers)
            getattr(message, name).extend([value for value in found if value is not None])

        return assign

    def _item(self, member: Any, item: Any, one: Shape, scope: Mapping[str, Shape]) -> Getter:
        """What gives one item of a list that is not literal all through."""
        if _is_literal(item):
            holder = message_factory.GetMessageClass(member.containing_type)()
            _set_literal(holder, member, [item])
            return _always(getattr(holder, member.name)[0])
        if one.message is not None:
            return self.message(item, one.message, scope)
        if _is_expression(item):
            return self._expression(item[CEL], one, scope)
        shape, get = self.value(item, scope)
        if problem := misfit(shape, one):
            raise Wrong(f"{item}: {problem}")
        return get


def roots(value: Any, names: Callable[[str], list[str]]) -> set[str]:
    """What a mapping reads; `names` finds the names in an expression."""
    if is_reference(value):
        return {value[1:].partition(".")[0].partition("[")[0]}
    if _is_expression(value):
        return set(names(str(value[CEL])))
    if isinstance(value, dict):
        return set().union(*(roots(item, names) for item in value.values()), set())
    if isinstance(value, list | tuple):
        return set().union(*(roots(item, names) for item in value), set())
    return set()


def _is_expression(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {CEL}


def _texts(value: Any) -> Iterator[str]:
    """The texts in a literal."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _is_literal(value: Any) -> bool:
    if isinstance(value, dict):
        return not _is_expression(value) and all(_is_literal(item) for item in value.values())
    if isinstance(value, list):
        return all(_is_literal(item) for item in value)
    return not is_reference(value)


def _unescaped(value: Any) -> Any:
    if isinstance(value, str):
        return value[1:] if value.startswith("$$") else value
    if isinstance(value, dict):
        return {key: _unescaped(item) for key, item in value.items()}
    return [_unescaped(item) for item in value] if isinstance(value, list) else value


def _always(value: Any) -> Getter:
    return lambda values: value


def _member(target: Any, name: str) -> Any:
    found = target.fields_by_name.get(name) or target.fields_by_camelcase_name.get(name)
    if found is None:
        names = [member.name for member in target.fields]
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        if name == CEL:
            raise Wrong("an expression stands alone: an object with $cel has no other key")
        if name.startswith("$"):
            raise Wrong(f"the key {name!r:.40} means nothing; write {{$cel: EXPRESSION}} for an expression")
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names) or 'none'}"[:200]
        raise Wrong(f"{target.full_name} has no field {name!r:.60}; {hint}")
    return found


def _set_literal(message: Any, member: Any, item: Any) -> None:
    wrapped = str(member.containing_type.full_name) in WRAPPERS  # whose JSON is that of the scalar in it
    _parse(message, item if wrapped else {member.name: item}, of_field(member), item)


def _parse(message: Any, value: Any, shape: Shape, item: Any = None) -> None:
    try:
        json_format.ParseDict(_unescaped(value), message, descriptor_pool=message.DESCRIPTOR.file.pool)
    except (json_format.ParseError, TypeError, ValueError) as error:
        shown = value if item is None else item
        why = ""
        if shape.enum is not None:
            why = f"; one of {', '.join(each.name for each in shape.enum.values)}"[:200]
        elif isinstance(shown, dict) and any(key.startswith("$") for key in shown):
            why = "; write {$cel: EXPRESSION} for an expression"
        elif shape.message is not None:
            why = f" ({' '.join(str(error).split()).rstrip('.')[-160:]})"
        raise Wrong(f"{shown!r:.60} does not fit {shape}{why}") from None


def _cel_misfit(given: Shape, wanted: Shape) -> str:
    """As `misfit`, for CEL, which knows one width of each number; what is too large fails in the run."""
    if wanted.message is not None and not wanted.many and not wanted.key:
        kind = str(wanted.message.full_name)
        if kind == "google.protobuf.Value" or (kind == "google.protobuf.Struct" and given.key == "string"):
            return ""
        if kind == "google.protobuf.ListValue" and given.many:
            return ""
        if kind in WRAPPERS and given.message is None:
            return _cel_misfit(given, of_field(wanted.message.fields_by_name["value"]))
    keys = given.key == wanted.key or (given.key in _CEL_INTS and wanted.key in _CEL_INTS)
    same, numbers = given.many == wanted.many and keys, (*_CEL_INTS, "double", "float")
    if same and given.scalar in numbers and (wanted.enum is not None or wanted.scalar in numbers):
        fractional = given.scalar == "double" and wanted.scalar not in ("double", "float")
        return f"{given} does not fit {wanted}; say int(...)" if fractional else ""
    return misfit(replace(given, key=wanted.key) if keys else given, wanted)
