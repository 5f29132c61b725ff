"""Finds agents and plans by what a registry shows: every endpoint that takes calls, and each contract once."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from atomesh.core.contract import ContractDescriptor
from atomesh.core.endpoint import State
from atomesh.core.errors import NotFound
from atomesh.core.selector import Selector
from atomesh.pipelines.assembly.answers import find_plans
from atomesh.pipelines.assembly.catalog import Catalog
from atomesh.pipelines.assembly.choice import choose
from atomesh.rpc import Credentials, RegistryClient
from atomesh.rpc.credentials import PLAINTEXT
from atomesh.rpc.network import GRPC_NETWORK, Network
from atomesh.v1 import pipeline_pb2

_AT_ONCE = 16
"""Contracts asked for at once: 200 take some 0.1 s, and a registry still answers others in between."""

_TAKES_CALLS = Selector(states=(State.SERVING, State.SUSPECT))


class RegistryFinder:
    """Asks a registry each time anew; contracts, and what was found out of them, are kept in between.

    async with RegistryFinder("127.0.0.1:7400") as finder:
        agent, why = await finder.choose("summarize")

    Raises, from every call: RegistryUnavailable where no registry answers.
    """

    def __init__(self, address: str, credentials: Credentials = PLAINTEXT, *, network: Network = GRPC_NETWORK) -> None:
        """Connects when first asked."""
        self._registry = RegistryClient(address, credentials, network=network)
        self._last = Catalog((), {})

    async def __aenter__(self) -> Self:
        """Itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes."""
        await self.close()

    async def close(self) -> None:
        """Closes the connection."""
        await self._registry.close()

    async def catalog(self) -> Catalog:
        """What agents publish now."""
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

    async def choose(self, capability: str) -> tuple[str, str]:
        """The best agent for a capability, and why.

        Raises:
            NotFound: no live agent has it.
        """
        endpoints = (await self._registry.discover(_TAKES_CALLS)).endpoints
        chosen = choose(Catalog.build(endpoints, {}), capability)
        return chosen.agent.name, chosen.why

    async def find_plans(self, request: pipeline_pb2.PlanRequest) -> pipeline_pb2.PlanResponse:
        """Answers PipelineService.Plan.

        Raises:
            InvalidArgument: fewer than two ends or capabilities, or a number out of range.
            NotFound: a type or capability that no live agent knows.
        """
        # On a thread, since a hostile question computes for half a second.
        return await asyncio.to_thread(find_plans, await self.catalog(), request)

    async def _contract(self, contract_hash: str, turn: asyncio.Semaphore) -> ContractDescriptor | None:
        """A contract; None where its last endpoint went while we asked."""
        async with turn:
            try:
                return await self._registry.get_contract(contract_hash=contract_hash)
            except NotFound:
                return None
