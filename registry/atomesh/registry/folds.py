"""All endpoints of an agent as one: how many, what they can do, what they did of late."""

from __future__ import annotations

from collections import Counter
from typing import Any

from atomesh.core.endpoint import ALL_STATES, Endpoint, Recent


class Fold:
    """What the endpoints of one agent come to, each added once."""

    def __init__(self, agent: str) -> None:
        """Nothing is added yet."""
        self.agent = agent
        self._states: Counter[str] = Counter()
        self._versions: Counter[str] = Counter()
        self._capabilities: Counter[str] = Counter()
        self._contracts: Counter[tuple[str, str, str]] = Counter()
        self._slots = 0
        self._in_flight = 0
        self._recents: list[Recent] = []

    def add(self, endpoint: Endpoint) -> None:
        """One endpoint more."""
        self._states[endpoint.state.name.lower()] += 1
        self._versions[endpoint.version] += 1
        self._capabilities.update(capability.name for capability in endpoint.capabilities)
        self._contracts[(endpoint.input_type, endpoint.output_type, endpoint.contract_hash)] += 1
        self._slots += endpoint.slots
        if endpoint.load is not None:
            self._in_flight += endpoint.load.in_flight
        if endpoint.recent is not None:
            self._recents.append(endpoint.recent)

    def data(self) -> dict[str, Any]:
        """The whole, for JSON; docs/registry.md says what each entry is."""
        return {
            "agent": self.agent,
            "endpoints": self._states.total(),
            "states": {state.name.lower(): self._states[state.name.lower()] for state in ALL_STATES},
            "versions": dict(sorted(self._versions.items())),
            "capabilities": dict(sorted(self._capabilities.items())),
            "contracts": [
                {"input_type": takes, "output_type": gives, "hash": hashed, "endpoints": count}
                for (takes, gives, hashed), count in sorted(self._contracts.items())
            ],
            "slots": self._slots,
            "in_flight": self._in_flight,
            "recent": together(self._recents),
        }


def together(recents: list[Recent]) -> dict[str, float | None] | None:
    """Rates added up, means weighted by them; None where no endpoint has told two loads yet."""
    if not recents:
        return None
    rate = sum(recent.executions_per_second for recent in recents)
    timed = [(recent.executions_per_second, recent.execution) for recent in recents if recent.execution is not None]
    weight = sum(share for share, _ in timed)
    failed = sum(recent.executions_per_second * recent.error_rate for recent in recents)
    return {
        "execution_seconds": sum(share * mean for share, mean in timed) / weight if weight else None,
        "error_rate": failed / rate if rate else 0.0,
        "executions_per_second": rate,
    }
