"""The committed state, by every way that it is asked for.

Nothing here decides: `staging.py` computes what a batch would change, storage
commits that, and `apply` makes it true.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import TypeVar

from atomesh.core.endpoint import State
from atomesh.core.selector import Selector
from atomesh.core.updates import Position
from atomesh.registry.operations import Batch, Entry, Key, Stored

_K = TypeVar("_K")


class Store:
    """Endpoints by agent and address, by lease, by agent and by capability; contracts by hash."""

    def __init__(self, stored: Stored, *, superseded_kept: int) -> None:
        """Begins where storage left off."""
        self.store_id = stored.store_id
        self.revision = stored.revision
        self.contracts = {contract.hash: contract for contract in stored.contracts}
        self.uses: Counter[str] = Counter()
        self.states: Counter[State] = Counter()
        """How many endpoints are in each state that somebody is in."""
        self._kept = superseded_kept
        self._entries: dict[Key, Entry] = {}
        self._by_lease: dict[str, Key] = {}
        self._by_agent: dict[str, dict[Key, None]] = {}
        self._spoken_by: dict[str, Counter[str]] = {}
        self._by_capability: dict[str, dict[Key, None]] = {}
        self._suspects: set[str] = set()
        self._unreachable: set[str] = set()
        self._superseded = OrderedDict.fromkeys(stored.superseded)
        for entry in stored.entries:
            self._put(entry)

    def __len__(self) -> int:
        """How many endpoints there are."""
        return len(self._entries)

    @property
    def position(self) -> Position:
        """How far the committed state has got."""
        return Position(self.store_id, self.revision)

    @property
    def suspects(self) -> AbstractSet[str]:
        """The leases of endpoints that were doubted rather than expired, by the committed state."""
        return self._suspects

    @property
    def unreachable(self) -> AbstractSet[str]:
        """The leases of endpoints that fail their probes, by the committed state."""
        return self._unreachable

    @property
    def self_preservation(self) -> bool:
        """Whether anybody is doubted rather than expired."""
        return bool(self._suspects)

    @property
    def superseded_count(self) -> int:
        """How many superseded leases are remembered."""
        return len(self._superseded)

    def get(self, key: Key) -> Entry | None:
        """Who holds the agent's address."""
        return self._entries.get(key)

    def by_lease(self, lease: str) -> Entry | None:
        """Whose lease it is."""
        key = self._by_lease.get(lease)
        return None if key is None else self._entries[key]

    def was_superseded(self, lease: str) -> bool:
        """Whether a newer instance took the address of this lease, not too long ago."""
        return lease in self._superseded

    def all(self) -> Iterable[Entry]:
        """Every endpoint, in no order."""
        return self._entries.values()

    def of_agent(self, agent: str) -> list[Entry]:
        """Every endpoint of an agent, in no order."""
        return [self._entries[key] for key in self._by_agent.get(agent, ())]

    def spoken_by(self, agent: str) -> Mapping[str, int]:
        """The hashes of the contracts that an agent's endpoints speak, with how many speak each."""
        return self._spoken_by.get(agent, {})

    def select(self, selector: Selector) -> list[Entry]:
        """Whom a selector matches, by agent, then address. Costs what the narrowest index holds."""
        found = [entry for entry in self._candidates(selector) if selector.matches(entry.endpoint)]
        return sorted(found, key=lambda entry: entry.key)

    def apply(self, batch: Batch) -> None:
        """The batch is committed, and true from now on."""
        for key in batch.removed:
            self._remove(key)
        for contract in batch.contracts:
            self.contracts[contract.hash] = contract
        for entry in batch.put:
            self._remove(entry.key)
            self._put(entry)
        for contract_hash in batch.dropped_contracts:
            self.contracts.pop(contract_hash, None)
        for lease in batch.superseded:
            self._superseded[lease] = None
        while len(self._superseded) > self._kept:
            self._superseded.popitem(last=False)
        self.revision = batch.revision

    def _candidates(self, selector: Selector) -> Iterator[Entry]:
        if selector.agent:
            keys: Iterable[Key] = self._by_agent.get(selector.agent, ())
        elif selector.capabilities:
            indexed = [self._by_capability.get(name, {}) for name in selector.capabilities]
            narrowest = min(indexed, key=len)
            keys = narrowest
        else:
            keys = self._entries
        return (self._entries[key] for key in keys)

    def _put(self, entry: Entry) -> None:
        key, endpoint = entry.key, entry.endpoint
        self._entries[key] = entry
        self._by_lease[entry.lease] = key
        self._by_agent.setdefault(endpoint.agent, {})[key] = None
        for capability in endpoint.capabilities:
            self._by_capability.setdefault(capability.name, {})[key] = None
        self.uses[endpoint.contract_hash] += 1
        self.states[endpoint.state] += 1
        spoken = self._spoken_by.get(endpoint.agent)
        if spoken is None:
            spoken = self._spoken_by[endpoint.agent] = Counter()
        spoken[endpoint.contract_hash] += 1
        if entry.suspect:
            self._suspects.add(entry.lease)
        if entry.unreachable:
            self._unreachable.add(entry.lease)

    def _remove(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        endpoint = entry.endpoint
        del self._by_lease[entry.lease]
        _drop(self._by_agent, endpoint.agent, key)
        for name in {capability.name for capability in endpoint.capabilities}:
            _drop(self._by_capability, name, key)
        _drop_one(self.uses, endpoint.contract_hash)
        _drop_one(self.states, endpoint.state)
        spoken = self._spoken_by[endpoint.agent]
        _drop_one(spoken, endpoint.contract_hash)
        if not spoken:
            del self._spoken_by[endpoint.agent]
        self._suspects.discard(entry.lease)
        self._unreachable.discard(entry.lease)


def _drop(index: dict[str, dict[Key, None]], name: str, key: Key) -> None:
    """Takes the key out of one list of an index, and the list with it where it was the last."""
    keys = index[name]
    del keys[key]
    if not keys:
        del index[name]


def _drop_one(counts: Counter[_K], name: _K) -> None:
    """Counts one less, and nothing at all where it was the last."""
    counts[name] -= 1
    if not counts[name]:
        del counts[name]
