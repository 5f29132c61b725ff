"""`$input.text` and `$summary.sentences[0]`: a place in the pipeline's input or in a stage's output.

A reference is parsed and typed when the plan is made, and becomes a function
of the values of a run. A message, an optional field or an item that is not
there makes the whole of it None, which leaves unset whatever it was to fill.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from atomesh.pipelines.shapes import Shape, of_field

Values: TypeAlias = Mapping[str, Any]
"""The pipeline's input, the outputs of stages and the current item, by name; None for what is not there."""
Getter: TypeAlias = Callable[[Values], Any]

_STEP = re.compile(r"""\.([A-Za-z_][A-Za-z0-9_]*)|\[([0-9]+)\]|\["([^"\\]*)"\]""")
_ROOT = re.compile(r"\$([a-z][a-z0-9_]*)")


class Wrong(Exception):
    """A mapping is wrong; the message says how, and `path` where in it."""

    path: tuple[str | int, ...] = ()
    beside: tuple[Wrong, ...] = ()
    """What is wrong in other fields of the same message."""

    def below(self, key: str | int) -> Wrong:
        """The same, seen from the value around it."""
        for each in self.all:
            each.path = (key, *each.path)
        return self

    @property
    def all(self) -> tuple[Wrong, ...]:
        """This and all beside it."""
        return (self, *self.beside)


def raise_all(found: list[Wrong]) -> None:
    """Raises what is wrong with several fields at once; returns where nothing is."""
    if found:
        first, *others = [each for one in found for each in one.all]
        first.beside = tuple(others)
        for each in others:
            each.beside = ()
        raise first


@dataclass(frozen=True)
class Reference:
    """A reference, typed."""

    text: str
    root: str
    shape: Shape
    field: Any = None
    """The descriptor of its last field; None where it is a whole value."""
    get: Getter = lambda values: None


def is_reference(value: object) -> bool:
    """Whether a value of a mapping is a reference, and no text that begins with a dollar."""
    return isinstance(value, str) and value.startswith("$") and not value.startswith("$$")


def root_of(text: str) -> str:
    """The name that a reference begins with.

    Raises:
        Wrong: it is no reference.
    """
    found = _ROOT.match(text)
    if found is None:
        raise Wrong(f"{text!r:.80} is no reference; write $input.field or $stage.field, and $$ for a dollar")
    return found[1]


def resolve(text: str, scope: Mapping[str, Shape]) -> Reference:
    """The reference, typed by what its names stand for.

    Raises:
        Wrong: a name, a field or an index that is not there.
    """
    root = root_of(text)
    if root not in scope:
        near = difflib.get_close_matches(root, scope, n=1, cutoff=0.6)
        raise Wrong(f"{text}: there is no stage {root!r}{_hint(near, scope)}")
    shape, field, place = scope[root], None, len(root) + 1
    steps: list[Callable[[Any], Any]] = []
    while place < len(text):
        step = _STEP.match(text, place)
        if step is None:
            raise Wrong(f'{text}: {text[place:]!r:.40} is no .field, [index] or ["key"]')
        shape, field, take = _step(text[:place], step, shape)
        steps.append(take)
        place = step.end()
    return Reference(text, root, shape, field, _getter(root, steps))


def _getter(root: str, steps: list[Callable[[Any], Any]]) -> Getter:
    if not steps:
        return lambda values: values.get(root)

    def get(values: Values) -> Any:
        value = values.get(root)
        for step in steps:
            if value is None:
                return None
            value = step(value)
        return value

    return get


def _step(before: str, step: re.Match[str], shape: Shape) -> tuple[Shape, Any, Callable[[Any], Any]]:
    name, index, key = step.groups()
    if name is not None:
        return _field(before, name, shape)
    if index is not None:
        if not shape.many:
            raise Wrong(f"{before} is {shape} and no list, so that [{index}] means nothing")
        return shape.one, None, _item(int(index))
    if not shape.key:
        raise Wrong(f'{before} is {shape} and no map, so that ["{key}"] means nothing')
    return shape.one, None, _entry(_map_key(before, key, shape.key))


def _field(before: str, name: str, shape: Shape) -> tuple[Shape, Any, Callable[[Any], Any]]:
    if shape.many or shape.key:
        raise Wrong(f"{before} is {shape}; take one of it with [0], or say what you mean in CEL")
    if shape.message is None:
        raise Wrong(f"{before} is {shape}, which has no fields")
    found: Any = shape.message.fields_by_name.get(name)
    if found is None:
        names = [field.name for field in shape.message.fields]
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        raise Wrong(f"{before}.{name}: {shape.message.full_name} has no field {name!r}{_hint(near, names)}")
    return of_field(found), found, _attribute(name, presence=bool(found.has_presence))


def _attribute(name: str, *, presence: bool) -> Callable[[Any], Any]:
    if presence:
        return lambda message: getattr(message, name) if message.HasField(name) else None
    return lambda message: getattr(message, name)


def _item(index: int) -> Callable[[Any], Any]:
    return lambda items: items[index] if index < len(items) else None


def _entry(key: Any) -> Callable[[Any], Any]:
    return lambda entries: entries[key] if key in entries else None  # noqa: SIM401 # a proto map's get makes no default for messages


def _map_key(before: str, key: str, kind: str) -> Any:
    try:
        if kind == "bool":
            return {"true": True, "false": False}[key]
        return key if kind == "string" else int(key)
    except (KeyError, ValueError):
        raise Wrong(f"{before} has keys of type {kind}, which {key!r:.40} is not") from None


def _hint(near: list[str], known: Any) -> str:
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(map(str, known)) or 'none'}"[:200]
