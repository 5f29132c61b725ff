"""What is known of endpoints between their changes: renewals, loads, probes. No revision, not durable."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from atomesh.core.endpoint import Endpoint, Load, Probe
from atomesh.registry.operations import Entry
from atomesh.registry.recent import Lately


@dataclass(slots=True)
class _Heard:
    """Of one endpoint: when it last renewed (unix seconds; None: not yet), and the rest."""

    at: float | None = None
    load: Load | None = None
    lately: Lately = field(default_factory=Lately)
    probe: Probe | None = None
    shown: tuple[Entry, Endpoint] | None = None
    """The entry with that in it, made once per renewal: whoever asks twice gets the same object."""


class Heard:
    """Of all endpoints, by lease."""

    def __init__(self) -> None:
        """Nothing was heard yet."""
        self._heard: dict[str, _Heard] = {}

    def renewed(self, lease: str, load: Load | None, now: float, wall: float) -> None:
        """It renewed. A renewal that says nothing of its load does not unsay it."""
        heard = self._heard.setdefault(lease, _Heard())
        heard.at, heard.load, heard.shown = wall, load or heard.load, None
        if load is not None:
            heard.lately.heard(load, now)

    def probed(self, lease: str, probe: Probe) -> None:
        """It was asked itself."""
        heard = self._heard.setdefault(lease, _Heard())
        heard.probe, heard.shown = probe, None

    def forget(self, lease: str) -> None:
        """It is gone; what is unknown stays so."""
        self._heard.pop(lease, None)

    def show(self, entry: Entry) -> Endpoint:
        """The endpoint with what was last heard of it."""
        heard = self._heard.get(entry.lease)
        if heard is None:
            return entry.endpoint
        if heard.shown is None or heard.shown[0] is not entry:
            at = entry.endpoint.last_renewed_at if heard.at is None else heard.at
            endpoint = replace(
                entry.endpoint,
                last_renewed_at=at,
                load=heard.load,
                recent=heard.lately.recent,
                last_probe=heard.probe,
            )
            heard.shown = (entry, endpoint)
        return heard.shown[1]
