"""A context as call metadata, and back: for doors that have no Context message in their request.

gRPC takes only printable ASCII in a plain header and raises ExecuteBatchError
for the rest, so a value like "Zoë" or one with a newline travels as UTF-8 in
the header's `-bin` twin. What has no header of its own (the caller's pairs,
the way, the timestamp) travels as a Context message in one `-bin` header.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from google.protobuf.message import DecodeError

from atomesh.core.context import Context
from atomesh.core.errors import InvalidArgument
from atomesh.core.rules import WIRE_RULES
from atomesh.v1 import context_pb2

REQUEST_ID = "x-request-id"
CONTEXT = "x-atomesh-context-bin"
AGENT = "x-atomesh-agent"
"""Names one of several agents that share a typed service."""
NO_WAIT = "x-atomesh-no-wait"
"""Whoever sends it holds calls itself: refuse at once where no slot is free."""

_FIELDS = {
    REQUEST_ID: "request_id",
    "x-user-id": "user_id",
    "x-session-id": "session_id",
    "traceparent": "traceparent",
    "x-idempotency-key": "idempotency_key",
}
_BIN = "-bin"
_BY_KEY = {f"{key}{suffix}": field for key, field in _FIELDS.items() for suffix in ("", _BIN)}

Pair: TypeAlias = tuple[str, str | bytes]


def header(key: str, value: str) -> Pair:
    """One header, in the spelling that its value needs.

    Raises:
        InvalidArgument: the value holds a lone surrogate, which is no UTF-8.
    """
    # Blanks at the ends may be stripped on the way (gRPC over HTTP/2, "ASCII-Value").
    plain = value.isascii() and value.isprintable() and value == value.strip()
    if plain:
        return key, value
    try:
        return key + _BIN, value.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(f"header {key} holds a lone surrogate, which is no UTF-8; decode it rightly") from None


def encode(context: Context) -> tuple[Pair, ...]:
    """The headers that carry the context; what is unset has none.

    Raises:
        InvalidArgument: a string holds a lone surrogate, which is no UTF-8.
    """
    pairs = [header(key, value) for key, field in _FIELDS.items() if (value := getattr(context, field))]
    if context.metadata or context.via or context.timestamp is not None:
        rest = Context(metadata=context.metadata, timestamp=context.timestamp, via=context.via)
        pairs.append((CONTEXT, rest.to_proto().SerializeToString()))
    return tuple(pairs)


def decode(metadata: Iterable[Pair]) -> Context:
    """The context that the headers carry; foreign headers are not looked at.

    Raises:
        InvalidArgument: a header is not UTF-8, too long, or comes twice with two values.
    """
    proto = context_pb2.Context()
    given: dict[str, str] = {}
    for key, value in metadata:
        if key == CONTEXT:
            _merge(proto, value)
        elif field := _BY_KEY.get(key):
            text = _text(key, value)
            if given.setdefault(field, text) != text:
                raise InvalidArgument(f"header {key} comes twice with two values; send it once")
    for field, text in given.items():
        setattr(proto, field, text)
    if violations := WIRE_RULES.check(proto):
        raise InvalidArgument("invalid context in the headers: " + "; ".join(map(str, violations)))
    return Context.from_proto(proto)


def lookup(metadata: Iterable[Pair], key: str) -> str:
    """The value of one header; empty where it is not there.

    Raises:
        InvalidArgument: it is not UTF-8.
    """
    return next((_text(key, value) for name, value in metadata if name == key), "")


def _merge(proto: context_pb2.Context, value: str | bytes) -> None:
    try:
        proto.MergeFromString(value if isinstance(value, bytes) else value.encode())
    except DecodeError:
        raise InvalidArgument(f"header {CONTEXT} does not parse as atomesh.v1.Context") from None


def _text(key: str, value: str | bytes) -> str:
    if isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InvalidArgument(f"header {key} is not UTF-8") from None
