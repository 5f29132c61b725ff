"""What a batch of operations would change, computed on top of the committed state.

Each operation makes at most one revision, whole or not at all; one that is
refused leaves no trace. Later operations of the batch see what the earlier
ones would have done, so the batch as one commit equals its operations one by one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from atomesh.core.compatibility import incompatibility
from atomesh.core.contract import ContractDescriptor
from atomesh.core.endpoint import State
from atomesh.core.errors import AtomeshError, IncompatibleContract, Superseded, UnknownLease
from atomesh.core.evolution import narrowed
from atomesh.core.updates import RemovedReason
from atomesh.registry.lessor import Verdict
from atomesh.registry.operations import (
    Batch,
    Deregister,
    Entry,
    Judge,
    Key,
    Operation,
    Register,
    Revision,
    Transition,
    Update,
)
from atomesh.registry.store import Store


@dataclass(frozen=True, slots=True)
class Staged:
    """What comes of a batch once storage has committed it."""

    batch: Batch
    revisions: tuple[Revision, ...]
    results: tuple[int | AtomeshError, ...]
    """One per operation: the revision in which it became visible, or why it was refused."""
    granted: tuple[tuple[str, float], ...]
    """Leases that begin, with their ttls."""
    ended: tuple[str, ...]
    """Leases that end, expired ones apart."""
    verdict: Verdict


class Staging:
    """One batch in the making."""

    def __init__(self, store: Store, *, strict: bool = False) -> None:
        """Begins at the committed state; `strict` holds new contracts to the rules of live ones too."""
        self._store = store
        self._strict = strict
        self._revision = store.revision
        self._entries: dict[Key, Entry | None] = {}
        self._leases: dict[str, Key | None] = {}
        self._speaking: dict[str, dict[str, int]] = {}
        self._contracts: dict[str, ContractDescriptor] = {}
        self._revisions: list[Revision] = []
        self._granted: list[tuple[str, float]] = []
        self._ended: list[str] = []
        self._superseded: dict[str, None] = {}
        self._verdict = Verdict()

    def run(self, operation: Operation) -> int | AtomeshError:
        """The revision in which the operation would become visible, or why it is refused."""
        try:
            match operation:
                case Register():
                    self._register(operation)
                case Update():
                    self._update(operation)
                case Deregister():
                    self._deregister(operation)
                case Judge():
                    self._judge(operation)
        except AtomeshError as error:
            return error
        return self._revision

    def finish(self, results: list[int | AtomeshError]) -> Staged:
        """All of it."""
        put = tuple(entry for entry in self._entries.values() if entry is not None)
        removed = tuple(key for key, entry in self._entries.items() if entry is None and self._store.get(key))
        added, dropped = self._contract_changes()
        return Staged(
            batch=Batch(self._revision, put, removed, added, dropped, tuple(self._superseded)),
            revisions=tuple(self._revisions),
            results=tuple(results),
            granted=tuple(self._granted),
            ended=tuple(self._ended),
            verdict=self._verdict,
        )

    def _register(self, operation: Register) -> None:
        endpoint, contract = operation.endpoint, operation.contract
        old = self._get(endpoint.key)
        self._check_contract(operation, old)
        # Where the answer to its first try was lost, it is the same instance,
        # with a lease that it knows: what drains still drains.
        again = old is not None and old.endpoint.instance_id == endpoint.instance_id
        declared = old.declared if again and old is not None else State.SERVING
        fresh = replace(
            endpoint,
            state=declared,
            input_type=contract.input_type,
            output_type=contract.output_type,
            contract_hash=contract.hash,
            registered_at=operation.at,
            last_renewed_at=operation.at,
            revision=self._revision + 1,
            load=None,
            recent=None,
            last_probe=None,
        )
        entry = Entry(fresh, operation.lease, operation.ttl, declared)
        if old is None:
            transitions = [Transition(None, fresh)]
        elif again:
            self._ended.append(old.lease)
            transitions = [Transition(old.endpoint, fresh)]
        else:
            self._ended.append(old.lease)
            self._superseded[old.lease] = None
            transitions = [Transition(old.endpoint, None, RemovedReason.SUPERSEDED), Transition(None, fresh)]
        self._contracts[contract.hash] = contract
        self._granted.append((entry.lease, entry.ttl))
        self._set(entry.key, entry)
        self._commit(transitions)

    def _update(self, operation: Update) -> None:
        entry = self._owned(operation.lease)
        changed = replace(
            entry,
            declared=entry.declared if operation.state is None else operation.state,
            endpoint=replace(
                entry.endpoint,
                slots=entry.endpoint.slots if operation.slots is None else operation.slots,
                labels=entry.endpoint.labels if operation.labels is None else operation.labels,
            ),
        )
        self._change([changed])

    def _deregister(self, operation: Deregister) -> None:
        entry = self._owned(operation.lease)
        self._ended.append(entry.lease)
        self._set(entry.key, None)
        self._commit([Transition(entry.endpoint, None, RemovedReason.DEREGISTERED)])

    def _judge(self, operation: Judge) -> None:
        """One revision for all of them: who is cut off at once is seen to go at once."""
        self._verdict = Verdict(operation.expired, operation.suspected)
        gone = self._sorted(operation.expired)
        for entry in gone:
            self._set(entry.key, None)
        suspect = dict.fromkeys(operation.suspected, True) | dict.fromkeys(operation.recovered, False)
        unreachable = dict.fromkeys(operation.unreachable, True) | dict.fromkeys(operation.reachable, False)
        self._change(
            [
                replace(
                    entry,
                    suspect=suspect.get(entry.lease, entry.suspect),
                    unreachable=unreachable.get(entry.lease, entry.unreachable),
                )
                for entry in self._sorted({**suspect, **unreachable})
            ],
            [Transition(entry.endpoint, None, RemovedReason.EXPIRED) for entry in gone],
        )

    def _sorted(self, leases: Iterable[str]) -> list[Entry]:
        """Whose leases these are, by agent and address: lease ids are random, what watchers see is not."""
        return sorted((e for lease in leases if (e := self._by_lease(lease))), key=lambda entry: entry.key)

    def _change(self, entries: list[Entry], before: list[Transition] | None = None) -> None:
        """Replaces entries; those that look the same as before cause no revision."""
        transitions = list(before or ())
        for entry in entries:
            old = self._get(entry.key)
            shown = replace(entry, endpoint=replace(entry.endpoint, state=entry.shown))
            if old is None or shown == old:
                continue
            if shown.endpoint != old.endpoint:
                shown = entry.at(self._revision + 1)
                transitions.append(Transition(old.endpoint, shown.endpoint))
            self._set(entry.key, shown)
        self._commit(transitions)

    def _commit(self, transitions: list[Transition]) -> None:
        if transitions:
            self._revision += 1
            self._revisions.append(Revision(self._revision, tuple(transitions)))

    def _check_contract(self, operation: Register, old: Entry | None) -> None:
        """Against every other live endpoint of the agent; the one at its own address makes way anyway."""
        endpoint, contract = operation.endpoint, operation.contract
        mine = None if old is None else old.endpoint.contract_hash
        others = {name for name, count in self._speaks(endpoint.agent).items() if count > (name == mine)}
        for contract_hash in sorted(others - {contract.hash}):
            if difference := incompatibility(self._contract(contract_hash), contract):
                raise IncompatibleContract(
                    f"the contract of {endpoint.agent} at {endpoint.address} breaks that of its live endpoints: "
                    f"{difference}; a breaking change needs a new proto package (such as text.v2) under a new agent name, "
                    "or the old endpoints gone"
                )
        if self._strict and contract.hash not in others:
            self._check_rules(operation, others)

    def _check_rules(self, operation: Register, others: set[str]) -> None:
        """Against the rules of live contracts; one that is live itself was let in before, and its endpoints may restart."""
        endpoint, contract = operation.endpoint, operation.contract
        for contract_hash in sorted(others):
            if breaches := narrowed(self._contract(contract_hash), contract):
                more = f" (and {len(breaches) - 1} more)" if len(breaches) > 1 else ""
                raise IncompatibleContract(
                    f"the contract of {endpoint.agent} at {endpoint.address} breaks that of its live endpoints by its "
                    f"rules: {breaches[0]}{more}; this registry is strict about contracts: widen the rules of inputs, "
                    "narrow those of outputs, or let the old endpoints go first"
                )

    def _owned(self, lease: str) -> Entry:
        entry = self._by_lease(lease)
        if entry is not None:
            return entry
        if lease in self._superseded or self._store.was_superseded(lease):
            raise Superseded("a newer instance has taken the address of this lease; stop, do not register again")
        raise UnknownLease("no such lease: it expired, was given up, or never was; register again")

    def _get(self, key: Key) -> Entry | None:
        return self._entries[key] if key in self._entries else self._store.get(key)

    def _by_lease(self, lease: str) -> Entry | None:
        if lease not in self._leases:
            return self._store.by_lease(lease)
        key = self._leases[lease]
        return None if key is None else self._get(key)

    def _contract(self, contract_hash: str) -> ContractDescriptor:
        return self._contracts.get(contract_hash) or self._store.contracts[contract_hash]

    def _speaks(self, agent: str) -> dict[str, int]:
        """Contracts of the agent's endpoints with the number of each, as the batch would leave them."""
        speaks = self._speaking.get(agent)
        if speaks is None:
            speaks = self._speaking[agent] = dict(self._store.spoken_by(agent))
        return speaks

    def _set(self, key: Key, entry: Entry | None) -> None:
        old, speaks = self._get(key), self._speaks(key[0])
        if old is not None:
            speaks[old.endpoint.contract_hash] -= 1
            self._leases[old.lease] = None
        if entry is not None:
            speaks[entry.endpoint.contract_hash] = speaks.get(entry.endpoint.contract_hash, 0) + 1
            self._leases[entry.lease] = key
        self._entries[key] = entry

    def _contract_changes(self) -> tuple[tuple[ContractDescriptor, ...], tuple[str, ...]]:
        """Contracts that somebody is the first, or was the last, to speak."""
        uses: Counter[str] = Counter()
        for key, entry in self._entries.items():
            if (old := self._store.get(key)) is not None:
                uses[old.endpoint.contract_hash] -= 1
            if entry is not None:
                uses[entry.endpoint.contract_hash] += 1
        before = self._store.uses
        after = {name: before[name] + change for name, change in uses.items()}
        added = tuple(self._contracts[name] for name, count in after.items() if count and not before[name])
        dropped = tuple(name for name, count in after.items() if not count and before[name])
        return added, dropped


def stage(store: Store, operations: list[Operation], *, strict: bool = False) -> Staged:
    """What the operations would change, one after the other, as one batch."""
    staging = Staging(store, strict=strict)
    return staging.finish([staging.run(operation) for operation in operations])
