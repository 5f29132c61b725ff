"""Where a client learns which endpoints there are: from a registry's watch, or from a list of addresses."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Protocol

import grpc.aio

from atomesh.core.clock import SYSTEM_CLOCK, Clock
from atomesh.core.contract import ContractDescriptor
from atomesh.core.endpoint import ALL_STATES, Capability, Endpoint
from atomesh.core.errors import AtomeshError, InvalidArgument, NotFound
from atomesh.core.names import check_dialable
from atomesh.core.selector import Selector
from atomesh.core.updates import Added, Changed, Position, Reset, Update, WatchEvent
from atomesh.rpc.credentials import PLAINTEXT, Credentials
from atomesh.rpc.network import GRPC_NETWORK, Network
from atomesh.rpc.registry_client import RegistryClient, follow
from atomesh.v1 import agent_pb2, agent_pb2_grpc

log = logging.getLogger(__name__)

POLL_SECONDS = 5.0
"""How often addresses of a list are asked anew what they serve."""
DESCRIBE_TIMEOUT = 1.5
"""Seconds for an address to say what it serves. Below the time after which a
first call gives up (SYNC_SECONDS), or one that hangs would answer for all."""


class Resolver(Protocol):
    """Tells of endpoints, in the registry's terms."""

    name: str
    """What it is, for messages: `registry 127.0.0.1:7400`."""
    trouble: str
    """Why it tells nothing now, and what to do, in one line; empty where it does, or does not know."""

    def watch(self, agent: str) -> AsyncGenerator[WatchEvent, None]:
        """The agent's endpoints: a Reset first, then changes, for ever."""
        ...

    async def contract(self, endpoint: Endpoint) -> ContractDescriptor:
        """The contract of an endpoint that it told of."""
        ...

    async def close(self) -> None:
        """Lets go of its connections."""
        ...


class RegistryResolver:
    """Follows a registry's watch, and goes on with what it knows while the registry is gone."""

    def __init__(
        self,
        address: str,
        credentials: Credentials = PLAINTEXT,
        *,
        clock: Clock = SYSTEM_CLOCK,
        rng: random.Random | None = None,
        network: Network = GRPC_NETWORK,
    ) -> None:
        """Connects when first watched."""
        self.name = f"registry {address}"
        self.trouble = ""
        self._client = RegistryClient(address, credentials, network=network)
        self._clock = clock
        self._rng = rng or random.Random()

    async def watch(self, agent: str) -> AsyncGenerator[WatchEvent, None]:
        """Every state is asked for: the balancer decides which can be picked."""
        selector = Selector(agent=agent, states=ALL_STATES)
        watch = follow(self._client, selector, clock=self._clock, rng=self._rng, lost=self._lost)
        async with contextlib.aclosing(watch) as events:
            async for event in events:
                self.trouble = ""
                yield event

    async def contract(self, endpoint: Endpoint) -> ContractDescriptor:
        """From the registry, by its hash."""
        return await self._client.get_contract(contract_hash=endpoint.contract_hash)

    async def close(self) -> None:
        """Closes the channel to the registry."""
        await self._client.close()

    def _lost(self, error: AtomeshError) -> None:
        self.trouble = error.message


class StaticResolver:
    """A list of addresses; each is asked what it serves, and again every few seconds."""

    def __init__(
        self,
        addresses: Sequence[str],
        credentials: Credentials = PLAINTEXT,
        *,
        clock: Clock = SYSTEM_CLOCK,
        network: Network = GRPC_NETWORK,
    ) -> None:
        """Connects when first watched.

        Raises:
            InvalidArgument: one of them is no address, or plaintext off loopback.
        """
        self.name = f"addresses {', '.join(addresses)}"
        self.trouble = ""
        self._clock = clock
        for address in addresses:  # before any channel is there to be closed
            check_dialable(address)
            credentials.for_channel(address)
        self._channels = {address: network.channel(address, credentials) for address in addresses}
        self._contracts: dict[str, ContractDescriptor] = {}
        self._nonsense: dict[str, str] = {}

    async def watch(self, agent: str) -> AsyncGenerator[WatchEvent, None]:
        """The addresses that serve the agent. One that stops answering stays: its connection tells."""
        known: dict[str, Endpoint] = {}
        told = False
        while True:
            async with contextlib.aclosing(self._describe_all(agent)) as found:
                async for endpoint in found:
                    if known.get(endpoint.address) == endpoint:
                        continue
                    update: Update = Changed(endpoint) if endpoint.address in known else Added(endpoint)
                    known[endpoint.address] = endpoint
                    # The first that answers is told of at once: an address that hangs holds nobody up.
                    yield WatchEvent((update if told else Reset((endpoint,)),), Position())
                    told = True
            # A bookmark tells that all have been asked.
            yield WatchEvent(() if told else (Reset(()),), Position())
            told = True
            await self._clock.sleep(POLL_SECONDS)

    async def contract(self, endpoint: Endpoint) -> ContractDescriptor:
        """As the endpoint described it."""
        if endpoint.contract_hash not in self._contracts:
            raise NotFound(f"the contract of {endpoint.agent} was not told by any of {self.name}")
        return self._contracts[endpoint.contract_hash]

    async def close(self) -> None:
        """Closes the channels."""
        for channel in self._channels.values():
            await channel.close()

    async def _describe_all(self, agent: str) -> AsyncGenerator[Endpoint, None]:
        """Those that serve the agent, as they answer."""
        asking = {asyncio.create_task(self._describe(address, agent)) for address in self._channels}
        try:
            for answer in asyncio.as_completed(asking):
                endpoint = await answer
                if endpoint is not None:
                    yield endpoint
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    async def _describe(self, address: str, agent: str) -> Endpoint | None:
        # types-grpcio has one stub class for both worlds; the aio one is typed Any here.
        stub: Any = agent_pb2_grpc.AgentServiceStub(self._channels[address])
        try:
            answer = await stub.Describe(agent_pb2.DescribeRequest(), timeout=DESCRIBE_TIMEOUT)
        except grpc.aio.AioRpcError:
            return None  # not up yet, or gone: asked again in a few seconds
        for description in answer.agents:
            if description.name == agent:
                return self._told(address, description)
        return None

    def _told(self, address: str, said: agent_pb2.AgentDescription) -> Endpoint | None:
        """The endpoint; None where its contract is nonsense, which must not keep anybody from the others."""
        try:
            return self._endpoint(address, said)
        except InvalidArgument as error:
            if self._nonsense.get(address) != error.message:  # said once, not at every poll
                log.warning("%s is left out: %s", address, error)
            self._nonsense[address] = self.trouble = error.message
            return None

    def _endpoint(self, address: str, said: agent_pb2.AgentDescription) -> Endpoint:
        contract = ContractDescriptor.from_proto(said.contract)
        self._contracts[contract.hash] = contract
        return Endpoint(
            agent=said.name,
            address=address,
            instance_id=said.instance_id,
            version=said.version,
            capabilities=tuple(Capability(c.name, c.score if c.HasField("score") else None) for c in said.capabilities),
            slots=max(1, said.slots),
            idempotent=said.idempotent,
            labels=dict(said.labels),
            zone=said.zone,
            input_type=contract.input_type,
            output_type=contract.output_type,
            contract_hash=contract.hash,
        )
