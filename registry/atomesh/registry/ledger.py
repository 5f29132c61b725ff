"""The registry without its doors: leases, state, history and watches as one value.

Deciding is apart from doing: `stage` says what a batch would change, the shell
has storage commit it, and `apply` (or `abandon`) makes it so. Nothing is
visible in between, and there is one batch at a time. Renewals are apart from
all that: they change no state, cost no commit and make no revision.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TypeAlias

from atomesh.core.contract import ContractDescriptor
from atomesh.core.endpoint import Endpoint, Load, Probe, State
from atomesh.core.errors import NotFound, UnknownAgent
from atomesh.core.selector import Selector
from atomesh.core.updates import Position, Reset, ResetReason
from atomesh.core.versions import parse_version
from atomesh.registry.heard import Heard
from atomesh.registry.history import History
from atomesh.registry.hub import Hub
from atomesh.registry.lessor import Lessor
from atomesh.registry.operations import Entry, Judge, Operation, Revision, Stored, Transition
from atomesh.registry.probing import Probing
from atomesh.registry.settings import RegistrySettings
from atomesh.registry.staging import Staged, stage
from atomesh.registry.store import Store
from atomesh.registry.warmth import Warmth
from atomesh.registry.watch import Changes, Watcher, seen


class RenewStatus(IntEnum):
    """What became of a renewal. The numbers are those of the wire's RenewStatus."""

    RENEWED = 1
    UNKNOWN = 2
    SUPERSEDED = 3


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Snapshot:
    """Everything a selector matches, at a position: one object for all who begin anew at once."""

    position: Position
    reset: Reset


@dataclass(frozen=True, slots=True)
class Bookmark:
    """Nothing, up to a position."""

    position: Position


Step: TypeAlias = Snapshot | Changes | Bookmark

MOST_STEPS = 256
"""Revisions that a watcher takes at a time. What it has taken waits in no bounded
queue any more, so it is few; half as many makes more messages of a burst."""


class Ledger:
    """Who is alive and what they can do, as pure state: time comes in, answers come out."""

    def __init__(
        self,
        stored: Stored,
        settings: RegistrySettings,
        now: float,
        *,
        new_lease_id: Callable[[], str],
        rng: random.Random | None = None,
    ) -> None:
        """Begins where storage left off; every restored lease has its full ttl from `now`.

        `new_lease_id` gives 128 random bits in hex, never the same twice; `rng`
        spreads probes over time.
        """
        self.settings = settings
        self.new_lease_id = new_lease_id
        self.store = Store(stored, superseded_kept=settings.superseded_kept)
        self.history = History(stored.revision, settings.history_changes)
        self.hub = Hub()
        self._lessor = Lessor(settings, now)
        self._probing = Probing(settings, rng or random.Random(), now)
        self._heard = Heard()
        self._warmth = Warmth((entry.lease for entry in stored.entries), settings.warm_within, now)
        self._ending: frozenset[str] = frozenset()
        self._ticked = True
        self._snapshots: dict[tuple[Selector, ResetReason], Snapshot] = {}
        for entry in stored.entries:
            self._lessor.grant(entry.lease, entry.ttl, now, suspect=entry.suspect)
            self._probing.begin(entry.lease, now, failing=entry.unreachable)

    @property
    def self_preservation(self) -> bool:
        """Whether so much went wrong at once that the registry doubts itself."""
        return self.store.self_preservation or self.doubts_probes

    @property
    def doubts_probes(self) -> bool:
        """Whether so many fail their probes that nobody becomes SUSPECT by it."""
        return self._probing.doubtful

    @property
    def warm_by(self) -> float:
        """When it is warm at the latest, monotonic seconds."""
        return self._warmth.latest

    def warm(self, now: float) -> bool:
        """Whether what it knows is what there is, so that it can be asked."""
        return self._warmth.warm(now)

    def tick(self, now: float) -> bool:
        """Listens on; whether the next `stage` has something to judge.

        Leases are judged here and in the stage that follows, not in every one:
        with 100,000 of them each look takes 10 ms when one has run out.
        """
        self._snapshots.clear()  # what endpoints last told of themselves must not age in it
        self._ticked = True
        return self._judge(now) != Judge()

    def stage(self, operations: list[Operation], now: float) -> Staged:
        """What the operations would change, and the leases that had run out by the last tick."""
        judged = self._judge(now)
        self._ticked = False
        if judged == Judge():
            return stage(self.store, operations, strict=self.settings.strict_contracts)
        self._ending = frozenset(judged.expired)
        staged = stage(self.store, [judged, *operations], strict=self.settings.strict_contracts)
        return replace(staged, results=staged.results[1:])

    def apply(self, staged: Staged, now: float) -> list[Watcher]:
        """The batch is committed: it is visible from now on. Whom to wake."""
        self._ending = frozenset()
        self._snapshots.clear()
        self.store.apply(staged.batch)
        self._lessor.carry_out(staged.verdict, now)
        for lease, ttl in staged.granted:
            self._lessor.grant(lease, ttl, now)
            self._probing.begin(lease, now)
        for lease in (*staged.ended, *staged.verdict.expired):
            self._lessor.revoke(lease)
            self._probing.end(lease)
            self._heard.forget(lease)
            self._warmth.heard(lease)
        self._lessor.told([lease for lease in self._lessor.recovered if lease not in self.store.suspects])
        concerned: dict[Watcher, None] = {}
        for revision in staged.revisions:
            shown = self._with_loads(revision)
            self.history.append(shown)
            concerned.update(dict.fromkeys(self.hub.publish(shown)))
        return list(concerned)

    def abandon(self) -> None:
        """The batch was not committed: it never was. What ran out is judged again."""
        self._ending = frozenset()

    def renew(self, lease: str, load: Load | None, now: float, wall: float) -> RenewStatus:
        """Extends a lease by its full ttl. One whose end is being committed has ended."""
        if self.store.was_superseded(lease):
            return RenewStatus.SUPERSEDED
        if lease in self._ending or not self._lessor.renew(lease, now):
            return RenewStatus.UNKNOWN
        self._heard.renewed(lease, load, now, wall)
        self._warmth.heard(lease)
        return RenewStatus.RENEWED

    def recovering(self) -> bool:
        """Whether somebody SUSPECT has renewed, which a commit should make visible soon."""
        return bool(self._lessor.recovered)

    def probes_due(self, now: float) -> list[tuple[str, Endpoint]]:
        """Whom to ask for its health now, by lease. What comes of each goes to `probed`."""
        due: list[tuple[str, Endpoint]] = []
        for lease in self._probing.due(now):
            entry = self.store.by_lease(lease)
            if entry is not None and entry.declared is State.SERVING:
                due.append((lease, entry.endpoint))
            else:
                self._probing.put_off(lease, now)
        return due

    def probed(self, lease: str, probe: Probe, now: float) -> None:
        """What came of a probe; that of an endpoint that is gone is nothing."""
        self._probing.answered(lease, probe.result, now)
        if self.store.by_lease(lease) is not None:
            self._heard.probed(lease, probe)

    def discover(self, selector: Selector) -> list[Endpoint]:
        """Whom the selector matches, as last heard of."""
        return [self.as_heard(entry) for entry in self.store.select(selector)]

    def watch(self, selector: Selector, resume_after: Position | None) -> Watcher:
        """A watch of a selector, from a position on where that can be; else it begins with a Reset."""
        watcher = Watcher(selector, self.settings.watch_queue)
        reason = self._resume(watcher, resume_after)
        if reason is not None:
            watcher.restart(reason)
        self.hub.join(watcher)
        return watcher

    def next_step(self, watcher: Watcher) -> Step | None:
        """What to tell a watcher next; None where nothing waits."""
        taken = watcher.take()
        return self._snapshot(watcher.selector, taken) if isinstance(taken, ResetReason) else taken

    def next_steps(self, watcher: Watcher) -> list[Step]:
        """A snapshot, or changes of some of the revisions that wait; empty where nothing does."""
        steps: list[Step] = []
        while len(steps) < MOST_STEPS and (step := self.next_step(watcher)) is not None:
            steps.append(step)
            if isinstance(step, Snapshot):
                break
        return steps

    def bookmark(self) -> Bookmark:
        """The position of whoever has been told everything."""
        return Bookmark(self.store.position)

    def contract(self, contract_hash: str) -> ContractDescriptor:
        """A contract by its hash.

        Raises:
            NotFound: no live endpoint speaks it.
        """
        if (contract := self.store.contracts.get(contract_hash)) is None:
            raise NotFound(f"no live endpoint speaks a contract {contract_hash:.12}…; ask by agent instead")
        return contract

    def contract_of(self, agent: str) -> ContractDescriptor:
        """The contract of an agent's highest version; of equals, the one registered last.

        Raises:
            UnknownAgent: it has no live endpoint.
        """
        entries = self.store.of_agent(agent)
        if not entries:
            raise UnknownAgent(f"no endpoint of {agent!r:.80} is registered; `atomesh agents` lists those that are")
        newest = max(entries, key=lambda e: (parse_version(e.endpoint.version), e.endpoint.revision))
        return self.store.contracts[newest.endpoint.contract_hash]

    def counts(self) -> Mapping[State, int]:
        """How many endpoints are in each state."""
        return self.store.states

    def _judge(self, now: float) -> Judge:
        if not self._ticked:
            return Judge(recovered=tuple(self._lessor.recovered))
        verdict = self._lessor.judge(now)
        ending = {*verdict.expired, *verdict.suspected}
        recovered = tuple(lease for lease in self._lessor.recovered if lease not in ending)
        failing, unreachable = self._probing.failing, self.store.unreachable
        fail = () if self.doubts_probes else tuple(failing - unreachable)
        return Judge(verdict.expired, verdict.suspected, recovered, fail, tuple(unreachable - failing))

    def _resume(self, watcher: Watcher, position: Position | None) -> ResetReason | None:
        """Queues what came after a position; the reason where that cannot be."""
        if position is None:
            return ResetReason.FIRST
        if position.store_id != self.store.store_id or position.revision > self.store.revision:
            return ResetReason.FOREIGN_POSITION
        revisions = self.history.after(position.revision)
        if revisions is None:
            return ResetReason.COMPACTED
        for revision in revisions:
            if (changes := seen(watcher.selector, revision.number, revision.transitions)) is not None:
                watcher.offer(changes)
        return None

    def _snapshot(self, selector: Selector, reason: ResetReason) -> Snapshot:
        """The same one for all who ask before the next change or tick: after a restart a thousand do."""
        known = self._snapshots.get((selector, reason))
        if known is None:
            known = Snapshot(self.store.position, Reset(tuple(self.discover(selector)), reason))
            self._snapshots[selector, reason] = known
        return known

    def _with_loads(self, revision: Revision) -> Revision:
        """The revision as watchers see it: endpoints with what was last heard of them."""
        return Revision(revision.number, tuple(map(self._with_load, revision.transitions)))

    def _with_load(self, step: Transition) -> Transition:
        entry = None if step.new is None else self.store.get(step.new.key)
        if entry is None or entry.endpoint is not step.new:
            return step  # a later operation of the same batch has changed it again
        shown = self._heard.show(entry)
        return step if shown is step.new else Transition(step.old, shown, step.reason)

    def as_heard(self, entry: Entry) -> Endpoint:
        """The entry's endpoint with what was last heard of it."""
        return self._heard.show(entry)
