"""JSON to a message and back, against a contract; what does not fit is named with what would."""

from __future__ import annotations

import difflib
import json
import re
import sys
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from atomesh.cli._errors import UsageMistake

MAX_INPUT_BYTES = 4 * 1024 * 1024
"""gRPC's own limit for a message; JSON of it is longer, but not by much."""


def read_argument(argument: str) -> tuple[str, str]:
    """The text that `JSON`, `@file` or `-` stands for, and where it came from in words.

    Raises:
        UsageMistake: it cannot be read, is too long or not UTF-8.
    """
    if argument == "-":
        return _decoded(sys.stdin.buffer.read(4 * MAX_INPUT_BYTES + 1), "stdin"), "stdin"
    if argument.startswith("@"):
        return read_file(argument[1:]), argument[1:]
    return argument, "the input"


def read_file(name: str) -> str:
    """A file's text, or that of stdin for `-`.

    Raises:
        UsageMistake: it cannot be read, is too long or not UTF-8.
    """
    if name == "-":
        return _decoded(sys.stdin.buffer.read(4 * MAX_INPUT_BYTES + 1), "stdin")
    try:
        with Path(name).open("rb") as file:
            return _decoded(file.read(4 * MAX_INPUT_BYTES + 1), name)
    except OSError as error:
        raise UsageMistake(f"{name} cannot be read: {error.strerror or error}") from None
    except ValueError:  # a name with a zero byte
        raise UsageMistake(f"{name!r:.80} is no file's name") from None


def _decoded(content: bytes, where: str) -> str:
    if len(content) > 4 * MAX_INPUT_BYTES:
        raise UsageMistake(f"{where} has more than {4 * MAX_INPUT_BYTES} bytes, which no message may have; send less")
    try:
        return content.decode("utf-8-sig" if content.startswith(b"\xef\xbb\xbf") else "utf-8")
    except UnicodeDecodeError as error:
        raise UsageMistake(
            f"{where} is not UTF-8: byte 0x{content[error.start]:02x} at offset {error.start}; convert it first, "
            "such as with iconv"
        ) from None


def parse(text: str, where: str, kind: type[Message]) -> Message:
    """The message of a contract's type that the JSON states.

    Raises:
        UsageMistake: it is no JSON, no object, or a field or value does not fit; the field is named.
    """
    try:
        data = json.loads(text)
    except RecursionError:
        raise UsageMistake(f"{where} is nested too deep to read") from None
    except ValueError as error:
        raise UsageMistake(f"{where} is not JSON: {error}; write an object such as {example(kind)}") from None
    descriptor: Any = kind.DESCRIPTOR  # typed twice over, for each of protobuf's implementations
    if isinstance(data, dict):
        _check_names(data, descriptor, "")
    elif descriptor.file.package != "google.protobuf":  # whose JSON may be anything: a StringValue's is a string
        raise UsageMistake(f"{where} is JSON, but no object; {descriptor.full_name} is one: {example(kind)}")
    message = kind()
    try:
        json_format.ParseDict(data, message, descriptor_pool=descriptor.file.pool, max_recursion_depth=90)
    except (json_format.ParseError, TypeError) as error:  # the latter of an object where another kind is due
        raise UsageMistake(f"{where} does not fit {descriptor.full_name}: {_tidy(str(error))}") from None
    return message


def to_data(message: Message, *, whole: bool = False) -> Any:
    """The message as JSON data, with the fields' own names.

    `whole` shows fields at their zero too, for an agent's output: a count of 0
    and a verdict of false are answers, and `{}` is none.

    Raises:
        ValueError, TypeError: it holds an Any of a type that the contract does not bring.
    """
    pool: Any = message.DESCRIPTOR.file.pool
    data: Any = json_format.MessageToDict(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=whole,
        descriptor_pool=pool,
    )
    if not isinstance(data, dict) or message.DESCRIPTOR.file.package == "google.protobuf":
        return data
    # As the fields are declared: those of a pipeline's own message have numbers in no order.
    return {field.name: data[field.name] for field in message.DESCRIPTOR.fields if field.name in data}


def example(kind: type[Message]) -> str:
    """An object with the message's first fields, to show the shape."""
    fields = [field for field in kind.DESCRIPTOR.fields if field.type != FieldDescriptor.TYPE_MESSAGE][:3]
    return json.dumps({field.name: _sample(field) for field in fields})


def _sample(field: Any) -> Any:
    value: Any = "..."
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        value = True
    elif field.cpp_type == FieldDescriptor.CPPTYPE_ENUM and field.enum_type is not None:
        value = field.enum_type.values[0].name
    elif field.cpp_type != FieldDescriptor.CPPTYPE_STRING:
        value = 1
    return [value] if field.is_repeated else value


def _check_names(data: dict[str, Any], descriptor: Descriptor, path: str) -> None:
    """Names the first key that is no field, with the nearest that is."""
    if descriptor.file.package == "google.protobuf":
        return  # their JSON is not an object of their fields
    known = {name: field for field in descriptor.fields for name in (field.name, field.json_name)}
    for key, value in data.items():
        field = known.get(key)
        if field is None:
            names = [field.name for field in descriptor.fields]
            near = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names) or 'none'}"
            raise UsageMistake(f"{descriptor.full_name} has no field {(path + key)!r:.120}; {hint}")
        _check_value(value, field, f"{path}{key}")


def _check_value(value: Any, field: FieldDescriptor, path: str) -> None:
    inner = field.message_type
    if inner is None:
        return
    if inner.GetOptions().map_entry:
        inner = inner.fields_by_name["value"].message_type
        if inner is None or not isinstance(value, dict):
            return
        items = [(f'{path}["{key}"].', item) for key, item in value.items()]
    elif isinstance(value, list):
        items = [(f"{path}[{index}].", item) for index, item in enumerate(value)]
    else:
        items = [(f"{path}.", value)]
    for prefix, item in items:
        if isinstance(item, dict):
            _check_names(item, inner, prefix)


def _tidy(text: str) -> str:
    """protobuf's complaint as `outer.inner: what is wrong`."""
    rest, path = " ".join(text.split()), []
    while found := re.match(r"Failed to parse (\S+) field: ", rest):
        path.append(found[1])
        rest = rest[found.end() :]
    rest = rest.replace("expected string or bytes-like object, got", "expected a string, got").rstrip(".")
    return f"{'.'.join(path)}: {rest}" if path else rest
