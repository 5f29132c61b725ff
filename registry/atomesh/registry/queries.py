"""What the query of /v1/endpoints and /v1/agents asks for: a selector, and which page of the answer.

The parameters make the message that `Discover` takes, checked against the same
rules, so that both doors mean the same.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl

from atomesh.core.endpoint import ALL_STATES, State
from atomesh.core.errors import InvalidArgument
from atomesh.core.rules import WIRE_RULES
from atomesh.core.selector import Selector
from atomesh.registry.operations import Key
from atomesh.v1 import agent_pb2, registry_pb2

DEFAULT_LIMIT = 500
"""Endpoints of a page that nobody sizes, some 400 kB of JSON: half is twice the
requests to read a fleet, and twice is more than anybody reads at once."""

MAX_LIMIT = 1000
"""At most: JSON of them takes some 0.1 s of the registry's one core."""

_ONCE = ("agent", "version", "zone", "input_type", "output_type", "limit", "after")
_REPEATED = ("capability", "label", "state")
_MOST = 256
"""Parameters: more than a selector may have, fewer than anybody would be held up by."""
_NUMBER = re.compile(r"[0-9]{1,9}")
_STATES = {state.name.lower(): (state,) for state in ALL_STATES} | {"all": ALL_STATES}


@dataclass(frozen=True, slots=True)
class Query:
    """Which endpoints, and which page of them: at most `limit` after the key `after`, None from the first on."""

    selector: Selector
    limit: int = DEFAULT_LIMIT
    after: Key | None = None


def endpoints_query(query: bytes) -> Query:
    """What is asked of /v1/endpoints; without a state, those that serve.

    Raises:
        InvalidArgument: a parameter that is none, or one that is wrong.
    """
    given = _parameters(query)
    after = _only(given, "after")
    agent, slash, address = after.partition("/")
    if after and not (agent and slash and address):
        raise InvalidArgument(f"after is {after!r:.80}; give `next` of the page before, which is agent/address")
    return Query(_selector(given, default=()), _limit(given), (agent, address) if after else None)


def agents_query(query: bytes) -> Query:
    """What is asked of /v1/agents; without a state, endpoints in every state count.

    Raises:
        InvalidArgument: a parameter that is none, or one that is wrong.
    """
    given = _parameters(query)
    after = _only(given, "after")
    return Query(_selector(given, default=ALL_STATES), _limit(given), (after, "") if after else None)


def _parameters(query: bytes) -> dict[str, list[str]]:
    try:
        pairs = parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(query),
            errors="strict",
            max_num_fields=_MOST,
        )
    except UnicodeDecodeError:
        raise InvalidArgument("the query is not percent-encoded UTF-8") from None
    except ValueError:
        raise InvalidArgument(f"the query is not at most {_MOST} of name=value, joined by &") from None
    known = (*_ONCE, *_REPEATED)
    given: dict[str, list[str]] = {}
    for name, value in pairs:
        if name not in known:
            near = difflib.get_close_matches(name[:80], known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise InvalidArgument(f"there is no parameter {name!r:.80}; {hint}")
        given.setdefault(name, []).append(value)
    return given


def _only(given: dict[str, list[str]], name: str) -> str:
    values = given.get(name, [""])
    if len(values) > 1:
        raise InvalidArgument(f"{name} is given {len(values)} times; give it once")
    return values[0]


def _limit(given: dict[str, list[str]]) -> int:
    said = _only(given, "limit")
    if not said:
        return DEFAULT_LIMIT
    if not (_NUMBER.fullmatch(said) and 1 <= int(said) <= MAX_LIMIT):
        raise InvalidArgument(f"limit is {said!r:.80}; give 1 to {MAX_LIMIT}, and read on with after")
    return int(said)


def _selector(given: dict[str, list[str]], *, default: Sequence[State]) -> Selector:
    states = dict.fromkeys(state for name in given.get("state", ()) for state in _states(name))
    message = registry_pb2.Selector(
        agent=_only(given, "agent"),
        capabilities=given.get("capability", ()),
        labels=dict(_label(pair) for pair in given.get("label", ())),
        version=_only(given, "version"),
        zone=_only(given, "zone"),
        input_type=_only(given, "input_type"),
        output_type=_only(given, "output_type"),
        states=[agent_pb2.ServingState.ValueType(state) for state in states or default],
    )
    if broken := WIRE_RULES.check(message):
        raise InvalidArgument(str(broken[0]))
    return Selector.from_proto(message)


def _states(name: str) -> tuple[State, ...]:
    if (states := _STATES.get(name.lower())) is None:
        raise InvalidArgument(f"there is no state {name!r:.80}; there are {', '.join(_STATES)}")
    return states


def _label(pair: str) -> tuple[str, str]:
    key, colon, value = pair.partition(":")
    if not (key and colon):
        raise InvalidArgument(f"label {pair!r:.80} is not key:value")
    return key, value
