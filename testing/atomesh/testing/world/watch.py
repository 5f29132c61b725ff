"""What is looked at between events: starvation, picks of what is gone, slots that leak.

These rules need to know what a client believes, so this is the one place that
looks into it: which calls wait there, and which endpoints it could pick.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from atomesh.balancer.availability import Availability, availability
from atomesh.balancer.fleet import Fleet
from atomesh.testing.memory.client import ClientRpc
from atomesh.testing.world.audit import MuxAudit
from atomesh.testing.world.digger import AGENT
from atomesh.testing.world.members import ClientMember, EndpointMember
from atomesh.v1 import agent_pb2, mux_pb2

if TYPE_CHECKING:
    from atomesh.testing.world.world import World

LOOKS = 0.05
"""Seconds between two looks."""
STARVED = 1.0
"""Seconds for which calls may wait at a client, none of its calls beginning anywhere,
while a slot is free that it knows of. A refusal's hint is 50 ms at most and a lapsed
grant 250 ms; a second is none of these."""
ROUND_TRIPS = 5
"""What is added on slow links: a demand, its grant, and what a lapse of it costs."""
HINT = 5.0
"""What is added without a mux: a refused client leaves an endpoint alone for as long as
the refusal says, 5 s at most, and cannot know that a slot came free before."""
HELD = 0.1
"""Seconds for which a client may keep a grant, beside ROUND_TRIPS."""
LAG = 0.05
"""Seconds after a client has heard that an endpoint is gone in which calls may
still leave for it: those that were bound in the same instant."""
TROUBLE = 25.0
"""Seconds after a fault in which its effects are no news: a dead connection is
noticed after 15 s, and 10 s is the shortest ejection."""

_EXECUTE = "/atomesh.v1.AgentService/Execute"
_STREAM = "/atomesh.v1.AgentService/ExecuteStream"
_MUX = "/atomesh.v1.AgentService/Mux"


class Lookout:
    """Looks at a world every LOOKS seconds, and at what leaves its clients."""

    def __init__(self, world: World) -> None:
        """Looks at nothing before `look`."""
        self._world = world
        self._since: dict[tuple[str, str], float] = {}
        world.network.observer = self
        self._muxes: dict[ClientRpc, MuxAudit] = {}

    def look(self) -> None:
        """All rules that are not of one event."""
        world = self._world
        now, book = world.ground.clock.now(), world.book
        excused = {client.name for client in world.clients if client.host.paused or now < client.late_until}
        book.check_ends(now, excused)
        book.check_amplification(now, len(world.clients))
        if world.quiet_for > TROUBLE:
            book.check_idle_work(now)
        self._check_grants_held()
        for endpoint in world.endpoints:
            self._check_claims(endpoint, now)
            for client in world.clients:
                self._check_starving(client, endpoint, now)

    def check_nothing_out(self, client: ClientMember) -> None:
        """Nothing is in flight or waits at a client of which nobody wants anything."""
        now = self._world.ground.clock.now()
        for fleet in self._fleets(client):
            for candidate in fleet.balancer.candidates.values():
                if candidate.in_flight:
                    out = f"{candidate.in_flight} at {candidate.endpoint.address}"
                    self._world.book.violated(now, f"nobody calls, and {client.name} counts {out}")
            if fleet.balancer.waiting:
                self._world.book.violated(
                    now, f"nobody calls, and {fleet.balancer.waiting} calls wait at {client.name}"
                )

    def _check_claims(self, endpoint: EndpointMember, now: float) -> None:
        if endpoint.running is None:
            return
        admission = endpoint.running.agents[AGENT].admission
        if admission.taken > admission.slots:
            self._world.book.violated(now, f"{endpoint.name} has promised {admission.taken} of {admission.slots} slots")

    def _check_starving(self, client: ClientMember, endpoint: EndpointMember, now: float) -> None:
        key = (client.name, endpoint.name)
        if not (self._waits(client) and endpoint.free > 0 and self._could_go(client, endpoint)):
            self._since.pop(key, None)
            return
        since = max(self._since.setdefault(key, now), self._world.book.progress.get(client.name, 0.0))
        patience = STARVED + ROUND_TRIPS * self._world.network.round_trip(client.name, endpoint.name)
        if now - since > patience + (0.0 if self._world.scenario.mux else HINT):
            self._since[key] = now
            if self._dawdles(client):
                return
            waited = f"{now - since:.2f} s"
            self._world.book.violated(
                now, f"calls wait at {client.name} for {waited} with a slot free at {endpoint.name}"
            )

    def _dawdles(self, client: ClientMember) -> bool:
        """Whether it reads a stream slowly: the slot counts as taken by it until it has read the end."""
        calls = self._world.book.calls.values()
        return any(call.dawdles and call.ended is None and call.client == client.name for call in calls)

    def _waits(self, client: ClientMember) -> bool:
        return any(fleet.balancer.waiting for fleet in self._fleets(client))

    def _could_go(self, client: ClientMember, endpoint: EndpointMember) -> bool:
        if not (client.well and endpoint.well) or self._world.apart(client.name, endpoint.name):
            return False
        for fleet in self._fleets(client):
            candidate = fleet.balancer.candidates.get(endpoint.address)
            if candidate is None or availability(candidate) is not Availability.PICKED or candidate.ejection.probing:
                return False
        admission = endpoint.running.agents[AGENT].admission
        # A slot whose grant is on its way is not free. One whose grant has leaked is found when all is over.
        return not admission.draining and admission.taken < admission.slots

    @staticmethod
    def _fleets(client: ClientMember) -> list[Fleet]:
        fleets: dict[str, Fleet] = client.running._fleets if client.running is not None else {}
        return list(fleets.values())

    def sends(self, call: ClientRpc, message: bytes) -> None:
        """A request leaves a client: as mux.proto says, and for nothing that the client knows to be gone?"""
        method = call.settings.method
        if method == _MUX:
            frame = mux_pb2.MuxRequest.FromString(message)
            self._audit(call).sent(frame, len(message))
            if frame.calls:
                self._picked(call)
        elif method == _EXECUTE:
            self._picked(call)
        elif method == _STREAM:
            self._picked(call)
            self._uses_grant(call, agent_pb2.ExecuteStreamRequest.FromString(message).grant)

    def receives(self, call: ClientRpc, message: bytes) -> None:
        """An answer reaches a client: as mux.proto says?"""
        if call.settings.method == _MUX:
            self._audit(call).received(mux_pb2.MuxResponse.FromString(message), len(message))

    def _audit(self, call: ClientRpc) -> MuxAudit:
        audit = self._muxes.get(call)
        if audit is None:
            audit = self._muxes[call] = MuxAudit(partial(self._breaks, call), self._world.ground.clock.now)
        return audit

    def _breaks(self, call: ClientRpc, what: str) -> None:
        name = f"mux {call.channel.host.name} to {call.channel.address}"
        self._world.book.violated(self._world.ground.clock.now(), f"{name}: {what}")

    def _uses_grant(self, call: ClientRpc, mux: bytes) -> None:
        for other, audit in self._muxes.items():
            if mux and audit.id == mux and other.channel.host is call.channel.host:
                audit.used_by_stream()

    def _check_grants_held(self) -> None:
        """A grant is used or given back at once; one that is kept is a slot that nobody has."""
        for call, audit in self._muxes.items():
            # What is granted to a stream whose end is on its way becomes void with it.
            if call.done or call.half_closed:
                continue
            host, endpoint = call.channel.host, self._at(call.channel.address)
            if host.paused or endpoint is None or not endpoint.well or self._world.apart(host.name, endpoint.name):
                continue
            # What is large goes first, a window at a time.
            patience = HELD + ROUND_TRIPS * self._world.network.round_trip(host.name, endpoint.name)
            if (held := audit.held_for()) > patience:
                self._breaks(call, f"it has kept a grant for {held:.3f} s")

    def _at(self, address: str) -> EndpointMember | None:
        return next((endpoint for endpoint in self._world.endpoints if endpoint.address == address), None)

    def _picked(self, call: ClientRpc) -> None:
        host, address = call.channel.host, call.channel.address
        client = next((client for client in self._world.clients if client.host is host), None)
        if client is None or (since := client.removed.get(address)) is None:
            return
        now = self._world.ground.clock.now()
        endpoint = self._at(address)
        if endpoint is not None and (endpoint.host.paused or now < endpoint.late_until):
            return  # picked before, and held up by an endpoint that did not read
        if now - since > LAG:
            self._world.book.violated(
                now, f"{client.name} calls {address}, {now - since:.3f} s after it heard it is gone"
            )
