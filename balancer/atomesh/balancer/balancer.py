"""Which endpoint each call of one agent goes to, and which calls wait: pure, in the caller's time.

What comes in: updates of the resolver, states of connections, calls, and how
attempts ended. What goes out: picks at once, or assignments of calls that
waited. A call waits while no endpoint has a slot free, in the order of
deadlines, and is bound to the first slot that is: granted by an endpoint with a
mux, which is told how many wait (`demand`), or believed free at one without.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable
from typing import Protocol

from atomesh.balancer.availability import Availability, availability
from atomesh.balancer.binding import Binding
from atomesh.balancer.breaker import DEFAULT_BREAKER, Breaker
from atomesh.balancer.candidate import Candidate, SubchannelState
from atomesh.balancer.capacity import Capacity, capacity_of, size_of
from atomesh.balancer.circuit import Circuit, circuit_of, refusal
from atomesh.balancer.ejection import Ejection, Outcome
from atomesh.balancer.filters import NO_FILTERS, Filters
from atomesh.balancer.picks import Assignment, Grant, MuxView, Pick
from atomesh.balancer.policies.early_binding import EARLY_BINDING
from atomesh.balancer.policies.late_binding import LATE_BINDING
from atomesh.balancer.quantiles import LatencyQuantiles
from atomesh.balancer.retry import outcome_of
from atomesh.balancer.routes import Routes
from atomesh.balancer.shedding import Shedding
from atomesh.balancer.speeds import learn, reweigh
from atomesh.balancer.waiting import Call, WaitingCalls
from atomesh.core import errors
from atomesh.core.endpoint import Endpoint
from atomesh.core.errors import AtomeshError
from atomesh.core.updates import Added, Changed, Position, Removed, Reset, WatchEvent
from atomesh.core.versions import parse_version

MAX_WAITING = 10_000
"""Calls that wait at once. Each holds its input: at 16 KiB these are 160 MB;
half would refuse a batch that a fleet of a hundred finishes in seconds."""

PATIENCE_SECONDS = 5.0
"""How long a call waits while no endpoint at all can be picked. A restart takes
1 to 3 s; twice of it lets a person wait for what is not coming."""

CARRY_SECONDS = 15.0
"""How long endpoints live on that a new, emptier registry does not know yet: a
default ttl, within which agents register again."""

DOUBT_SECONDS = 0.05
"""How long an endpoint is left alone whose connection cut a call, until the
connection's own state tells. Without it the calls that wait take the places of
those that were cut, and are lost on the same connection. Half is not enough
for a loaded process (20 ms were seen); twice only delays calls to a lone endpoint."""

REFUSAL_SECONDS = 0.01
"""How long an endpoint that refused for want of a slot is left alone where it
does not say."""

DEMANDED_FROM = 16
"""Muxes that are told of calls that wait. The first free of so many comes as soon
as the first of all, and a fleet of a thousand is not sent a thousand frames for
each call; half is late where endpoints have one slot and calls are long."""

DEMANDS_PER_SLOT = 4
"""What a mux is told of the calls that wait, at most, per slot of its endpoint. At
1 a burst's calls have their places too late (p99 of waits 1.2 times as long); more
than 4 brings nothing and is said in more frames."""

_LISTED = 5  # versions in an error

_REWEIGH_EVERY = 8  # executions between two looks at everybody's speed

NO_WEIGHT = "of a version without a share"


class Observer(Protocol):
    """Is told what happened; the metrics are one."""

    def ejected(self, endpoint: Endpoint, seconds: float) -> None:
        """An endpoint was ejected."""
        ...

    def sized(self) -> None:
        """Endpoints that can be picked have come or gone, or have more or fewer slots."""
        ...


class Balancer:
    """The endpoints of one agent, and the calls that wait for them."""

    def __init__(
        self,
        agent: str,
        *,
        rng: random.Random,
        filters: Filters = NO_FILTERS,
        breaker: Breaker = DEFAULT_BREAKER,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        """Knows no endpoint yet."""
        self.agent = agent
        self.candidates: dict[str, Candidate] = {}
        self.synced = False
        """Whether a resolver has told anything yet."""
        self.position = Position()
        self._max_waiting = max_waiting
        self.observer: Observer | None = None
        self._ever = False
        self.rng = rng
        self._routes = Routes(rng, filters)
        self._breaker = breaker
        self._members: list[Candidate] = []
        """Those that the filters admit, whether they can be picked or not."""
        self._panic = False
        self.size = (0, 0)
        """Endpoints that can be picked, and their slots."""
        self._first: list[Candidate] = []
        self._last: list[Candidate] = []
        self._muxed: frozenset[Candidate] = frozenset()
        self._all_muxed = True
        self._stranded_since: float | None = None
        self._demanded_at = 0
        self._learnt = 0
        self._binding = Binding()
        self._waiting = WaitingCalls()
        self.latencies = LatencyQuantiles()
        """Of attempts that went well."""
        self._shedding = Shedding(self.latencies)
        self.dirty = False
        """Something changed that may let a waiting call go: `step` is due."""

    # -- what comes in -------------------------------------------------------

    def apply(self, event: WatchEvent, now: float) -> None:
        """Takes a resolver's word. `candidates` is up to date afterwards."""
        for update in event.updates:
            if isinstance(update, Reset):
                self._reset(update.endpoints, event.position, now)
            elif isinstance(update, Removed):
                known = self.candidates.get(update.address)
                if known is not None and known.endpoint.instance_id == update.instance_id:
                    del self.candidates[update.address]
            elif isinstance(update, Added | Changed):
                self._put(update.endpoint)
        self.position = event.position
        if event.updates:
            self.synced = True
            self._rebuild(now)

    @property
    def known(self) -> bool:
        """Whether the resolver has told of an endpoint of the agent, in the range that is asked for, ever."""
        return self._ever

    def check_known(self) -> None:
        """Raises UnknownAgent where the resolver knows no such agent, and never did.

        Raises:
            NoEndpoint: it does, but knows none in the range that is asked for, and never did.
        """
        if self.synced and not self._ever:
            if self.candidates:
                raise errors.NoEndpoint(self._none_in_range())
            raise errors.UnknownAgent(f"no agent {self.agent!r} is registered; `atomesh agents` lists those that are")

    def connected(self, address: str, state: SubchannelState, now: float, mux: MuxView | None = None) -> None:
        """Takes the state of a connection, and what the mux on it says; None where calls go without one."""
        candidate = self.candidates.get(address)
        if candidate is None:
            return
        before = candidate.state
        if state is SubchannelState.READY and candidate.subchannel is not state:
            candidate.refusing = False  # a new connection: what the last one did is over
            candidate.shut_until = 0.0
        candidate.subchannel = state
        candidate.muxed = mux is not None
        candidate.silent = mux is not None and mux.silent
        if mux is not None:
            candidate.slots, candidate.declared = max(1, mux.slots), mux.weight
            candidate.refusing = candidate.refusing or mux.draining
        if before != candidate.state:
            reweigh(self.candidates.values())
            self._rebuild(now)

    def submit(self, call: Call, now: float) -> Pick | None:
        """An endpoint for the call; None where it waits from now on, see `step`.

        Raises:
            UnknownAgent, NoEndpoint: see `check_known`.
            CallLoop: it would wait for itself.
            CircuitOpen: it fails fast, and every endpoint is ejected or being probed.
            QueueFull: too many calls wait already.
            Shed: it would be too late when its turn came.
            DeadlineExceeded: it is too late already.
        """
        self.check_known()
        if call.deadline <= now:
            raise errors.DeadlineExceeded(f"out of time before an endpoint of {self.agent} was picked", executed=False)
        # Nobody overtakes those who wait, except by an earlier deadline.
        # Who comes back does: they may wait for what it holds.
        if not self._waiting or call.tried or call.returns:
            picked = self._pick(call, now)
            if picked is not None:
                return picked
            if call.returns and (self._first or self._last):
                raise self._loop()
        if call.fail_fast and (refused := self._refusal(now)) is not None:
            raise refused
        self._wait(call, now)
        return None

    def spare(self, call: Call, now: float, but: Collection[Candidate]) -> Pick | None:
        """An endpoint for a second attempt, none of those `but`; None where calls wait, or no other has a slot free."""
        return None if self._waiting else self._pick(call, now, but)

    def withdraw(self, call: Call) -> None:
        """The caller of a waiting call went away."""
        self._waiting.remove(call)

    def granted(self, address: str, grant: Grant, grants: int, now: float) -> list[Assignment]:
        """An endpoint has promised slots: the waiting calls that get them. What is left over is to be given back."""
        candidate = self.candidates.get(address)
        assignments: list[Assignment] = []
        while grants and candidate is not None and self._may_use(candidate):
            call = self._waiting.first()
            if call is None:
                break
            if (wrong := self._hopeless(call, now)) is not None:
                assignments.append(self._assign(call, wrong, now))
                continue
            pick = Pick(self, candidate, now, self._routes.of(call).learner)
            pick.grant, pick.parked = grant, True
            assignments.append(self._assign(call, pick, now))
            grants -= 1
        return assignments

    def took(self, pick: Pick, execution: float, waited: float, seconds: float, now: float) -> None:
        """An attempt went well: it ran and waited so long by the endpoint's clock, and took `seconds` in all."""
        self.latencies.record(seconds, now)
        learn(pick.candidate, execution)
        if pick.candidate.muxed:
            late = waited > 0 if pick.waits else pick.parked
            around, before = max(0.0, seconds - execution - waited), self._binding.early
            self._binding.took(pick.candidate.execution or execution, around, late)
            if self._binding.early or pick.waits:
                pick.candidate.ahead = self._binding.ahead(pick.candidate.slots)
                self.dirty = self.dirty or not before  # who waits may go
        self._learnt += 1
        if self._learnt >= max(_REWEIGH_EVERY, len(self.candidates) // 4):
            self._learnt = 0
            if reweigh(self.candidates.values()):
                self._rebuild(now)

    # -- what goes out -------------------------------------------------------

    def demands(self) -> dict[str, int]:
        """How many slots to demand, by address; what is not named is not wanted."""
        waiting = len(self._waiting)
        if not waiting:
            return {}
        wanted = [c for c in (*self._first, *self._last) if c.muxed and self._may_use(c)]
        if len(wanted) > DEMANDED_FROM:
            start = self._demanded_at % len(wanted)
            wanted = (wanted + wanted)[start : start + DEMANDED_FROM]
        return {candidate.endpoint.address: min(waiting, DEMANDS_PER_SLOT * candidate.slots) for candidate in wanted}

    def step(self, now: float) -> list[Assignment]:
        """The waiting calls that go now, and those that have waited in vain."""
        self.dirty = False
        self._tick(now)
        assignments = self._strand(now)
        if self._waiting.hasty and self._stranded_since is not None:
            assignments += self._fail_fast(now)
        while (call := self._waiting.first()) is not None:
            result = self._settle(call, now)
            if result is None:
                break
            assignments.append(self._assign(call, result, now))
        return assignments

    def next_event(self, now: float) -> float | None:
        """When time alone will change something; None where it will not."""
        times = [c.ejection.until for c in self.candidates.values() if c.ejection.until is not None]
        times += [c.carried_until for c in self.candidates.values() if c.carried_until is not None]
        first, longest = self._waiting.first(), self._waiting.longest()
        if first is not None and longest is not None:
            times.append(first.deadline)
            times += [c.shut_until for c in (*self._first, *self._last) if c.shut_until > now and not c.muxed]
            if self._stranded_since is not None:
                times.append(self._gives_up_at(longest))
        return min(times, default=None)

    @property
    def waiting(self) -> int:
        """Calls that wait."""
        return len(self._waiting)

    @property
    def circuit(self) -> Circuit:
        """Whether calls get through, as far as failures go; in panic they do."""
        return Circuit.CLOSED if self._panic else circuit_of(self._members)

    def capacity(self, now: float) -> Capacity:
        """What the endpoints that can be picked could take now."""
        return capacity_of((*self._first, *self._last), len(self._waiting), now)

    def why_none(self) -> str:
        """In words, why no endpoint can be picked."""
        if not self.candidates:
            return f"no endpoint of {self.agent} is registered any more"
        filters = self._routes.filters
        outside = f"of another version than {filters.only}"
        states: list[str] = []
        for candidate in self.candidates.values():
            admitted = availability(candidate).value if filters.admits(candidate.endpoint) else NO_WEIGHT
            states.append(admitted if filters.covers(candidate.endpoint) else outside)
        counts = {state: states.count(state) for state in (*(a.value for a in Availability), NO_WEIGHT, outside)}
        listed = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in counts.items() if count)
        return f"no endpoint of {self.agent} can be picked ({listed})"

    # -- inside --------------------------------------------------------------

    def _none_in_range(self) -> str:
        versions = sorted({candidate.endpoint.version for candidate in self.candidates.values()}, key=parse_version)
        listed = ", ".join(versions[:_LISTED]) + (", ..." if len(versions) > _LISTED else "")
        return (
            f"no endpoint serves {self.agent} {self._routes.filters.only} ({len(self.candidates)} registered: {listed}); "
            "start one with `atomesh serve MODULE:CLASS --version ...`, or ask for another range"
        )

    def _refusal(self, now: float) -> AtomeshError | None:
        return None if self._panic else refusal(self.agent, self._members, len(self._waiting), now)

    def _fail_fast(self, now: float) -> list[Assignment]:
        """Refuses those that do not wait for an open circuit."""
        assignments: list[Assignment] = []
        for call in [call for call in self._waiting if call.fail_fast]:
            if (refused := self._refusal(now)) is None:
                break
            assignments.append(self._assign(call, refused, now))
        return assignments

    def _pick(self, call: Call, now: float, but: Collection[Candidate] | None = None) -> Pick | None:
        """An endpoint for the call, none of those `but`; where that is None, of those that it was tried at."""
        early = self._binding.early and call.policy == LATE_BINDING
        route = self._routes.of(call, EARLY_BINDING if early else "")
        tried = call.tried if but is None else but
        for picker in route.pickers:
            candidate = picker.pick(now, tried, call.session)
            if candidate is not None:
                pick = Pick(self, candidate, now, route.learner)
                pick.waits = route.waits
                pick.parked = bool(call.tried) or call.queue_wait > 0
                return pick
        return None

    def _wait(self, call: Call, now: float) -> None:
        if len(self._waiting) >= self._max_waiting:
            raise errors.QueueFull(
                f"{self._max_waiting} calls already wait for a slot of {self.agent}; "
                "send fewer at once, or add endpoints"
            )
        if not self._waiting:
            self._demanded_at += DEMANDED_FROM
        elif (wait := self._shedding.too_late(call.deadline, self._waiting.ahead(call.deadline), now)) is not None:
            raise errors.Shed(
                f"{self.agent}: about {wait:.2g} s until it is this call's turn, and its deadline is in "
                f"{call.deadline - now:.2g} s ({self._capacity()}); send fewer, give them more time, or add endpoints",
                retry_after=wait,
            )
        self._waiting.add(call, now)

    def _may_use(self, candidate: Candidate) -> bool:
        """Whether a slot there would be used: not while it is ejected, and one at a time while it is half-open."""
        if availability(candidate) not in (Availability.PICKED, Availability.PICKED_LAST):
            return candidate in self._first  # panic
        return not (candidate.ejection.probing and candidate.in_flight)

    def _hopeless(self, call: Call, now: float) -> AtomeshError | None:
        """Why a call whose turn it is gets nothing; None where it should have its turn."""
        if call.deadline <= now:
            return errors.DeadlineExceeded(
                f"no endpoint of {self.agent} had a slot free in time ({self._capacity()})", executed=False
            )
        if len(self._waiting) > 1 and self._shedding.hopeless(call.deadline, call.deadline - call.since, now):
            return errors.Shed(
                f"{self.agent}: {call.deadline - now:.2g} s are left when a slot came free, which is less than it takes, "
                f"and others wait that have more ({self._capacity()}); send fewer, give them more time, or add endpoints"
            )
        return None

    def _settle(self, call: Call, now: float) -> Pick | AtomeshError | None:
        """What a waiting call gets; None where it goes on waiting."""
        if call.deadline <= now or not self._all_muxed:
            wrong = self._hopeless(call, now)
            if wrong is not None:
                return wrong
        if self._binding.early:
            picked = self._pick(call, now)
        else:  # a mux grants what comes free; asking it for less would only be refused
            picked = None if self._all_muxed else self._pick(call, now, self._muxed)
        if picked is None and call.returns and (self._first or self._last):
            return self._loop()
        return picked

    def _loop(self) -> AtomeshError:
        return errors.CallLoop(
            f"{self.agent}: the call came back to it and would wait for itself; no slot is free ({self._capacity()})"
        )

    def _strand(self, now: float) -> list[Assignment]:
        """Gives up for those that have waited long enough for any endpoint at all."""
        if self._stranded_since is None:
            return []
        assignments: list[Assignment] = []
        while (call := self._waiting.longest()) is not None and self._gives_up_at(call) <= now:
            error = f"{self.why_none()}; waited {PATIENCE_SECONDS:g} s; `atomesh agents` shows what is registered"
            assignments.append(self._assign(call, errors.NoEndpoint(error), now))
        return assignments

    def _gives_up_at(self, call: Call) -> float:
        return max(self._stranded_since or 0.0, call.since) + PATIENCE_SECONDS

    def _assign(self, call: Call, result: Pick | AtomeshError, now: float) -> Assignment:
        self._waiting.remove(call)
        call.queue_wait += now - call.since
        if isinstance(result, Pick):
            self._shedding.turn(now, len(self._waiting))
        return Assignment(call, result)

    def _capacity(self) -> str:
        slots = sum(candidate.slots for candidate in self._first)
        return f"{len(self._first)} endpoints, {slots} slots, {len(self._waiting)} calls waiting"

    def ended(self, candidate: Candidate, now: float, error: AtomeshError | None, running: int | None) -> None:
        """An attempt there ended; only picks say so."""
        candidate.in_flight -= 1
        if self._waiting and (self._binding.early or not (self._all_muxed and error is None)):
            self.dirty = True  # what binds early goes where something ended; a slot of a mux is granted
        if running is not None:
            candidate.heard(running, now)
        if error is None or error.executed is not False:
            candidate.shut_until = 0.0  # the slot that it had is free, whatever was said of others
        if error is None:
            if candidate.ejection.record(Outcome.SUCCESS, now):
                self._rebuild(now)
            return
        if isinstance(error, errors.NoFreeSlot):
            candidate.shut_until = now + (error.retry_after or REFUSAL_SECONDS)
        if isinstance(error, errors.ConnectionLost):
            candidate.shut_until = now + DOUBT_SECONDS
        if isinstance(error, errors.Draining | errors.WrongInstance):
            candidate.refusing = True
            self._rebuild(now)
        outcome = outcome_of(error)
        if candidate.ejection.record(outcome, now):
            self._rebuild(now)
        if candidate.ejection.suspicious(outcome, self._records()):
            self._eject(candidate, now)

    def _eject(self, candidate: Candidate, now: float) -> None:
        ejected = sum(other.ejection.active for other in self._members)
        if candidate.ejection.active or not self._breaker.may_eject(ejected, len(self._members)):
            return
        seconds = candidate.ejection.eject(now)
        if self.observer is not None:
            self.observer.ejected(candidate.endpoint, seconds)
        self._rebuild(now)

    def _records(self) -> Iterable[Ejection]:
        return (candidate.ejection for candidate in self._members)

    def _tick(self, now: float) -> None:
        """Ends what time ends: ejections, and belief in endpoints that a new registry never saw."""
        ended = [c for c in self.candidates.values() if c.ejection.tick(now)]
        stale = [a for a, c in self.candidates.items() if c.carried_until is not None and c.carried_until <= now]
        for address in stale:
            del self.candidates[address]
        if ended or stale:
            self._rebuild(now)
            self.dirty = False

    def _reset(self, endpoints: Iterable[Endpoint], position: Position, now: float) -> None:
        """Takes a snapshot. Of another store, what it lacks is kept for a while where it still answers."""
        fresh = {endpoint.address: endpoint for endpoint in endpoints}
        another = self.synced and position.store_id != self.position.store_id
        for address in [address for address in self.candidates if address not in fresh]:
            candidate = self.candidates[address]
            if another and candidate.subchannel is SubchannelState.READY:
                candidate.carried_until = candidate.carried_until or now + CARRY_SECONDS
            else:
                del self.candidates[address]
        for endpoint in fresh.values():
            self._put(endpoint)

    def _put(self, endpoint: Endpoint) -> None:
        self._ever = self._ever or self._routes.filters.covers(endpoint)
        known = self.candidates.get(endpoint.address)
        if known is not None and known.endpoint.instance_id == endpoint.instance_id:
            known.update(endpoint)
        else:
            self.candidates[endpoint.address] = Candidate(endpoint, self._breaker)

    def _rebuild(self, now: float) -> None:
        """A new snapshot for the pickers."""
        by: dict[Availability, list[Candidate]] = {state: [] for state in Availability}
        admits = self._routes.filters.admits
        self._members = [candidate for candidate in self.candidates.values() if admits(candidate.endpoint)]
        for candidate in self._members:
            by[availability(candidate)].append(candidate)
        self._first, self._last = by[Availability.PICKED], by[Availability.PICKED_LAST]
        self._panic = False
        if not (self._first or self._last) and len(self._members) > 1 and self._breaker.panics:
            self._first = by[Availability.EJECTED]  # panic: better an outlier than nobody (Envoy's panic threshold)
            self._panic = bool(self._first)
        self._muxed = frozenset(c for c in (*self._first, *self._last) if c.muxed)
        self._all_muxed = len(self._muxed) == len(self._first) + len(self._last)
        self._routes.rebuild(self._first, self._last)
        self.dirty = True
        if self._first or self._last:
            self._stranded_since = None
        elif self._stranded_since is None:
            self._stranded_since = now
        size = size_of((*self._first, *self._last))
        if size != self.size:
            self.size = size
            if self.observer is not None:
                self.observer.sized()
