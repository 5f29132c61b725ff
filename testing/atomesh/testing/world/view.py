"""What a registry's watch has told one client, held against what a watch promises."""

from __future__ import annotations

from collections.abc import Callable

from atomesh.core.endpoint import Endpoint, State
from atomesh.core.updates import Added, Changed, Position, Removed, Reset, WatchEvent


class View:
    """The endpoints that a client knows, and the order in which it came to know them.

    Within one store revisions never go back; an endpoint is added once, changed
    or removed only while it is there, and only as the instance that it is.
    """

    def __init__(self, violated: Callable[[str], None]) -> None:
        """Knows nothing."""
        self.endpoints: dict[str, Endpoint] = {}
        """By address."""
        self._position = Position()
        self._violated = violated

    def take(self, event: WatchEvent) -> None:
        """The client hears this."""
        reset = any(isinstance(update, Reset) for update in event.updates)
        if not reset and event.position.store_id != self._position.store_id:
            self._violated("it hears of another store without a Reset")
        if not reset and event.position.revision < self._position.revision:
            self._violated(f"it hears of revision {event.position.revision} after {self._position.revision}")
        self._position = event.position
        for update in event.updates:
            if isinstance(update, Reset):
                self.endpoints = {endpoint.address: endpoint for endpoint in update.endpoints}
            elif isinstance(update, Added):
                self._added(update.endpoint)
            elif isinstance(update, Changed):
                self._known(update.endpoint.address, update.endpoint.instance_id, "changed")
                self.endpoints[update.endpoint.address] = update.endpoint
            elif isinstance(update, Removed):
                self._known(update.address, update.instance_id, "removed")
                self.endpoints.pop(update.address, None)

    def serving(self) -> dict[str, str]:
        """Instances that serve, by address."""
        return {
            address: endpoint.instance_id
            for address, endpoint in self.endpoints.items()
            if endpoint.state is State.SERVING
        }

    def _added(self, endpoint: Endpoint) -> None:
        if endpoint.address in self.endpoints:
            self._violated(f"{endpoint.address} is added and was there")
        self.endpoints[endpoint.address] = endpoint

    def _known(self, address: str, instance: str, how: str) -> None:
        known = self.endpoints.get(address)
        if known is None or known.instance_id != instance:
            self._violated(f"{address} is {how} and was not there, or as another instance")
