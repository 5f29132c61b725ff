"""Agents as a registry shows them, in one line each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from atomesh.core import Capability, Endpoint, Load


def endpoint(agent: str, capabilities: Mapping[str, float | None] | None = None, **more: Any) -> Endpoint:
    """One endpoint; `ms`, `failures`, `in_flight` and `queued` make its load of 1,000 executions."""
    load = None
    if "ms" in more:
        ended = more.pop("executions", 1000)
        load = Load(
            slots=more.get("slots", 1),
            executions=ended,
            failures=more.pop("failures", 0),
            in_flight=more.pop("in_flight", 0),
            queued=more.pop("queued", 0),
            busy=more.pop("ms") / 1000 * ended,
        )
    return Endpoint(
        agent,
        more.pop("address", "127.0.0.1:1"),
        capabilities=tuple(Capability(name, score) for name, score in (capabilities or {}).items()),
        input_type=more.pop("takes", "t.In"),
        output_type=more.pop("gives", "t.Out"),
        load=load,
        **more,
    )


@pytest.fixture
def listed() -> Callable[..., Endpoint]:
    return endpoint
