"""Values whose type only a run can tell: held against what is wanted before they are put there.

protobuf would do worse than refuse some of them: set to a message, a bool of
upb's ends the process, and bytes of one message are read as another's.
"""

from __future__ import annotations

import datetime
from typing import Any

from google.protobuf.message import Message

from atomesh.core.errors import InvalidArgument
from atomesh.pipelines.references import Getter, Values
from atomesh.pipelines.shapes import Shape

JSON_TYPES = frozenset({"google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.ListValue"})
"""Messages that hold whatever JSON does."""
WRAPPERS = frozenset(
    f"google.protobuf.{kind}Value"
    for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)
"""Messages that hold one scalar, which CEL knows as that scalar or null."""
_KINDS: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "string": (str,),
    "bytes": (bytes,),
    "double": (float, int),
    "float": (float, int),
}
_TIMES = {"google.protobuf.Timestamp": datetime.datetime, "google.protobuf.Duration": datetime.timedelta}


class MappingFailed(InvalidArgument):
    """A mapping was right in itself and failed on the values of a run, such as a number beyond its field's range."""

    reason = "MAPPING_FAILED"

    def __init__(self, message: str, *, placed: bool = False) -> None:
        """`placed` is whether the message begins with the field's path."""
        super().__init__(message)
        self.placed = placed


def typed(get: Getter, wanted: Shape) -> Getter:
    """The same, for values that fit `wanted`; MappingFailed for others."""

    def checked(values: Values) -> Any:
        value = get(values)
        if value is not None and not _fits(value, wanted):
            raise MappingFailed(f"expected {wanted}, and a run gave {_said(value)}")
        return value

    return checked


def _fits(value: Any, wanted: Shape) -> bool:
    if wanted.many:
        return isinstance(value, list) and all(_fits(item, wanted.one) for item in value)
    if wanted.key:
        return isinstance(value, dict) and all(_fits(item, wanted.one) for item in value.values())
    if wanted.message is not None:
        return _fits_message(value, str(wanted.message.full_name))
    kinds = _KINDS.get(wanted.scalar, (int,))  # an enum is an int to CEL
    return isinstance(value, kinds) and (wanted.scalar == "bool" or not isinstance(value, bool))


def _fits_message(value: Any, name: str) -> bool:
    if isinstance(value, Message):
        return value.DESCRIPTOR.full_name == name
    if isinstance(value, datetime.datetime | datetime.timedelta):
        return isinstance(value, _TIMES.get(name, ()))
    return isinstance(value, dict) or name in JSON_TYPES or name in WRAPPERS


def _said(value: Any) -> str:
    return str(value.DESCRIPTOR.full_name) if isinstance(value, Message) else f"{value!r:.60}"
