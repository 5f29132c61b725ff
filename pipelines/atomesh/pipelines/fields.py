"""Puts the values of a run into the fields of a message, whichever classes they are of."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any, TypeAlias

from google.protobuf import json_format, message_factory
from google.protobuf.message import Message

from atomesh.pipelines.dynamic import WRAPPERS, MappingFailed
from atomesh.pipelines.references import Getter, Values
from atomesh.pipelines.shapes import Shape

Assign: TypeAlias = Callable[[Any, Values], None]
"""Sets something of a message from the values of a run."""


def put_value(get: Getter, name: str, wanted: Shape) -> Assign:
    """Sets one field; a value that is not there leaves it unset."""
    if wanted.many:
        return _put_many(get, name, wanted)
    if wanted.key:
        return _put_map(get, name, wanted)
    if wanted.message is not None:
        return lambda message, values: _copy(getattr(message, name), get(values))

    def put(message: Any, values: Values) -> None:
        if (value := get(values)) is not None:
            setattr(message, name, value)

    return put


def _put_many(get: Getter, name: str, wanted: Shape) -> Assign:
    def put(message: Any, values: Values) -> None:
        found = get(values)
        if found is None:
            return
        into = getattr(message, name)
        if wanted.message is None:
            into.extend(found)
            return
        for item in found:
            if item is not None:
                _copy(into.add(), item)

    return put


def _put_map(get: Getter, name: str, wanted: Shape) -> Assign:
    def put(message: Any, values: Values) -> None:
        into = getattr(message, name)
        for key, item in (get(values) or {}).items():
            if wanted.message is None:
                into[key] = item
            else:
                _copy(into[key], item)

    return put


def _copy(into: Any, value: Any) -> None:
    """Puts a message into another in place, by way of the wire where their classes differ."""
    if value is None:
        return
    if isinstance(value, type(into)):
        into.CopyFrom(value)
    elif isinstance(value, Message):
        into.ParseFromString(value.SerializePartialToString())
    elif isinstance(value, datetime.datetime):
        into.FromDatetime(value)
    elif isinstance(value, datetime.timedelta):
        into.FromTimedelta(value)
    elif into.DESCRIPTOR.full_name in WRAPPERS:
        into.value = value
    else:
        json_format.ParseDict(value, into)
    into.SetInParent()


def present(message: Any) -> Any:
    """The same message of another, there even where nothing in it is set."""
    message.SetInParent()
    return message


def converted(get: Getter, target: Any) -> Getter:
    """The same in the class of the target, whichever class the value is of."""
    wanted = message_factory.GetMessageClass(target)

    def convert(values: Values) -> Any:
        value = get(values)
        if value is None or isinstance(value, wanted):
            return value
        if not isinstance(value, Message):
            made = wanted()
            named(str(target.full_name), lambda message, _: _copy(message, value))(made, values)
            return made
        return wanted.FromString(value.SerializePartialToString())

    return convert


def named(name: str, assign: Assign) -> Assign:
    """The assignment with its field's name in whatever goes wrong."""

    def named(message: Any, values: Values) -> None:
        try:
            assign(message, values)
        except MappingFailed as error:
            raise MappingFailed(
                f"{name}.{error.message}" if error.placed else f"{name}: {error.message}", placed=True
            ) from None
        except (TypeError, ValueError, AttributeError, json_format.ParseError) as error:
            raise MappingFailed(f"{name}: {' '.join(str(error).split())[:200]}", placed=True) from None

    return named
