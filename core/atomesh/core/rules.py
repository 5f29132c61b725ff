"""The rules of a contract: protovalidate's, as the `.proto` states them.

protovalidate caches compiled rules by full message name, across descriptor
pools. Two contracts that share a name would silently get the first one's
rules, so every contract hash has a validator of its own.
"""

from __future__ import annotations

import functools
from typing import Any

import protovalidate
from google.protobuf.message import Message

from atomesh.core.errors import Violation


class Rules:
    """Checks messages against the rules in their own descriptors."""

    def __init__(self) -> None:
        """One validator, with a cache of its own."""
        self._validator = protovalidate.Validator()

    def check(self, message: Message) -> tuple[Violation, ...]:
        """The broken rules; empty where all hold. Costs 1 to 2 us for a good message.

        Raises:
            ContractRuleError: a rule of the contract itself does not compile or cannot be evaluated.
        """
        try:
            broken = self._validator.collect_violations(message)
        except (protovalidate.CompilationError, protovalidate.EvaluationError) as error:
            raise ContractRuleError(f"a rule of {message.DESCRIPTOR.full_name} cannot be evaluated: {error}") from error
        return tuple(_violation(each.proto) for each in broken) if broken else ()


class ContractRuleError(Exception):
    """A rule of a contract does not compile or cannot be evaluated: the contract's fault, not the input's."""


@functools.lru_cache(maxsize=256)
def rules_for(contract_hash: str) -> Rules:
    """The rules of a contract, by its hash."""
    del contract_hash  # it is the cache's key: that is the point
    return Rules()


WIRE_RULES = Rules()
"""The rules of the mesh's own messages, which are the process's own and cannot clash."""


def _violation(proto: Any) -> Violation:
    """A `buf.validate.Violation` of the wheel's own message type, which is typed loosely."""
    return Violation(_path(proto.field), proto.message or proto.rule_id, proto.rule_id)


def _path(field: Any) -> str:
    """`a.b[2].c["key"]` of a FieldPath, as google.rpc.BadRequest writes it."""
    path = ""
    for element in field.elements if field is not None else ():
        path += f".{element.field_name}" if path else element.field_name
        if element.subscript is not None:
            value = element.subscript.value
            path += f'["{value}"]' if isinstance(value, str) else f"[{value}]"
    return path
