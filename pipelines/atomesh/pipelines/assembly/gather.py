"""Reads what plans are found in from a registry: every endpoint that takes calls, and each contract once."""

from __future__ import annotations

import asyncio

from atomesh.core.contract import ContractDescriptor
from atomesh.core.endpoint import State
from atomesh.core.errors import NotFound
from atomesh.core.selector import Selector
from atomesh.pipelines.assembly.catalog import Catalog
from atomesh.pipelines.assembly.choice import choose
from atomesh.rpc import RegistryClient

_AT_ONCE = 16
"""Contracts asked for at once: 200 take some 0.1 s, and a registry still answers others in between."""

_TAKES_CALLS = Selector(states=(State.SERVING, State.SUSPECT))


class CatalogReader:
    """Makes catalogs of what a registry shows now; contracts, and what was found out of them, are kept in between."""

    def __init__(self, registry: RegistryClient) -> None:
        """The client stays its owner's."""
        self._registry = registry
        self._last = Catalog((), {})

    async def read(self) -> Catalog:
        """The catalog of now.

        Raises:
            RegistryUnavailable: no registry answers.
        """
        endpoints = (await self._registry.discover(_TAKES_CALLS)).endpoints
        wanted = {endpoint.contract_hash for endpoint in endpoints}
        known = {hash_: contract for hash_, contract in self._last.contracts.items() if hash_ in wanted}
        turn = asyncio.Semaphore(_AT_ONCE)
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(self._contract(hash_, turn)) for hash_ in sorted(wanted - known.keys())]
        for task in asked:
            if (contract := task.result()) is not None:
                known[contract.hash] = contract
        self._last = self._last.refreshed(endpoints, known)
        return self._last

    async def best(self, capability: str) -> tuple[str, str]:
        """The best agent for a capability now, and why.

        Raises:
            NotFound: no live agent has it.
            RegistryUnavailable: no registry answers.
        """
        endpoints = (await self._registry.discover(_TAKES_CALLS)).endpoints
        chosen = choose(Catalog.build(endpoints, {}), capability)
        return chosen.agent.name, chosen.why

    async def _contract(self, contract_hash: str, turn: asyncio.Semaphore) -> ContractDescriptor | None:
        """A contract; None where its last endpoint went while we asked."""
        async with turn:
            try:
                return await self._registry.get_contract(contract_hash=contract_hash)
            except NotFound:
                return None
