"""The endpoints of one agent, connected: the shell around a Balancer."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from google.protobuf.message import Message

from atomesh.balancer.balancer import Balancer, Pick
from atomesh.balancer.candidate import SubchannelState
from atomesh.balancer.metrics import AgentSeries
from atomesh.balancer.resolver import Resolver
from atomesh.balancer.subchannel import Subchannel
from atomesh.balancer.waiting import Call
from atomesh.core import errors
from atomesh.core.clock import Clock
from atomesh.core.contract import Contract, known_class, load_contract
from atomesh.core.endpoint import Endpoint
from atomesh.rpc.credentials import Credentials
from atomesh.rpc.network import GRPC_NETWORK, Network
from atomesh.rpc.tasks import Tasks

log = logging.getLogger(__name__)

SYNC_SECONDS = 2.0
"""How long a first call waits for the resolver's first word. A registry answers
in milliseconds; a person should not wait longer to hear that there is none."""


class Fleet:
    """Follows a resolver, keeps a connection to each endpoint, hands out picks."""

    def __init__(
        self,
        balancer: Balancer,
        resolver: Resolver,
        credentials: Credentials,
        series: AgentSeries,
        clock: Clock,
        *,
        network: Network = GRPC_NETWORK,
    ) -> None:
        """Begins to follow at once."""
        self.agent = agent = balancer.agent
        self.balancer = balancer
        balancer.observer = self
        self.series = series
        self._resolver = resolver
        self._credentials = credentials
        self._clock = clock
        self._network = network
        self._subchannels: dict[str, Subchannel] = {}
        self._waiting: dict[Call, asyncio.Future[Pick]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._synced = asyncio.Event()
        self._seen: Endpoint | None = None
        self._output: type[Message] | None = None
        self.strangers = 0
        """Calls that wait to hear whether there is such an agent."""
        self._retiring: set[Subchannel] = set()
        """Of endpoints that left, with calls that still run there."""
        self._tasks = Tasks()
        self._closing = False
        self._tasks.spawn(self._follow(), f"fleet {agent}")

    async def sync(self, deadline: float) -> None:
        """Returns once the resolver has told of endpoints of the agent.

        Raises:
            UnknownAgent: it has none.
            RegistryUnavailable: it has not told anything, within SYNC_SECONDS.
            DeadlineExceeded: nor within a call's deadline, which is sooner.
        """
        timeout = min(SYNC_SECONDS, deadline - self._clock.now())
        try:
            async with asyncio.timeout(timeout):
                await self._synced.wait()
        except TimeoutError:
            if timeout < SYNC_SECONDS:
                late = f"out of time before {self._resolver.name} told of {self.agent}"
                raise errors.DeadlineExceeded(late, executed=False) from None
            raise errors.RegistryUnavailable(
                self._resolver.trouble or f"{self._resolver.name} does not answer"
            ) from None
        self._check_open()
        self.balancer.check_known()

    def pick_now(self, call: Call) -> Pick | None:
        """An endpoint for the call; None where none has a slot free, and then `wait` must follow at once.

        Raises:
            UnknownAgent, QueueFull, DeadlineExceeded: see Balancer.
        """
        if self._closing:
            self._check_open()
        return self.balancer.submit(call, self._clock.now())

    async def wait(self, call: Call) -> Pick:
        """The endpoint for a call that `pick_now` had none for, as soon as there is one.

        Raises:
            NoEndpoint, DeadlineExceeded, UnknownAgent: see Balancer.
        """
        future: asyncio.Future[Pick] = asyncio.get_running_loop().create_future()
        self._waiting[call] = future
        self._schedule()
        try:
            return await future
        except asyncio.CancelledError:
            self._abandon(call, future)
            raise

    def subchannel(self, address: str) -> Subchannel:
        """The connection to an address that was picked.

        Raises:
            WrongInstance: it was removed in this very moment.
        """
        subchannel = self._subchannels.get(address)
        if subchannel is None:
            raise errors.WrongInstance(f"{address} was removed")
        return subchannel

    def settle(self) -> None:
        """After `pick.done`: lets waiting calls go where that freed a slot."""
        if self.balancer.dirty:
            self._step()

    async def output_class(self, deadline: float) -> type[Message]:
        """The class of the agent's output: this process's own, or made from its contract.

        One that was made stays as it is: fields that a later contract adds are
        unknown fields to it.

        Raises:
            RegistryUnavailable: the contract cannot be had.
            DeadlineExceeded: nor within a call's deadline.
        """
        if self._output is None:
            found = known_class(self._example().output_type)
            try:
                async with asyncio.timeout(deadline - self._clock.now()):
                    self._output = found or (await self.contract()).output
            except TimeoutError:
                late = f"out of time before {self._resolver.name} told of the contract of {self.agent}"
                raise errors.DeadlineExceeded(late, executed=False) from None
        return self._output

    async def contract(self) -> Contract[Message, Message]:
        """The agent's contract, with classes made from its descriptors.

        Raises:
            RegistryUnavailable: it cannot be had.
        """
        told = await self._resolver.contract(self._example())
        return load_contract(told.input_type, told.output_type, told.descriptor_set)

    def ejected(self, endpoint: Endpoint, seconds: float) -> None:
        """Logs and counts an ejection."""
        log.warning("ejected %s at %s for %g s", endpoint.agent, endpoint.address, seconds)
        self.series.ejected(endpoint, seconds)

    async def close(self) -> None:
        """Ends; calls that wait fail, what is in flight is cut off."""
        self._closing = True
        self._synced.set()
        if self._timer is not None:
            self._timer.cancel()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(errors.Cancelled("the client was closed", executed=False))
        self._waiting.clear()
        await self._tasks.cancel()
        await asyncio.gather(*(subchannel.close() for subchannel in (*self._subchannels.values(), *self._retiring)))
        self._subchannels.clear()

    async def _retire(self, subchannel: Subchannel) -> None:
        await subchannel.retire()
        self._retiring.discard(subchannel)

    async def _follow(self) -> None:
        async with contextlib.aclosing(self._resolver.watch(self.agent)) as events:
            async for event in events:
                self.balancer.apply(event, self._clock.now())
                for candidate in self.balancer.candidates.values():
                    self._seen = candidate.endpoint
                    break
                self._connect()
                self._synced.set()
                self._step()

    def _check_open(self) -> None:
        if self._closing:
            raise errors.Cancelled("the client is closed", executed=False)

    def _example(self) -> Endpoint:
        """An endpoint of the agent, gone perhaps: they speak one contract, whichever it is."""
        if self._seen is None:
            raise errors.NoEndpoint(self.balancer.why_none())
        return self._seen

    def _connect(self) -> None:
        """Connections as the balancer's candidates want them."""
        candidates = self.balancer.candidates
        for address in [address for address in self._subchannels if address not in candidates]:
            self.series.left(address)
            retiring = self._subchannels.pop(address)
            self._retiring.add(retiring)
            self._tasks.spawn(self._retire(retiring), f"retire {address}")
        if candidates:
            self.series.known(lambda: self.balancer.waiting)
        for address, candidate in candidates.items():
            self.series.joined(candidate)
            subchannel = self._subchannels.get(address)
            if subchannel is None:
                self._subchannels[address] = Subchannel(
                    address, self._credentials, self._on_state, network=self._network
                )
            elif candidate.subchannel is not subchannel.state:
                self.balancer.connected(address, subchannel.state, self._clock.now())

    def _on_state(self, address: str, state: SubchannelState) -> None:
        if self._closing or address not in self._subchannels:
            return
        self.balancer.connected(address, state, self._clock.now())
        self._step()

    def _step(self) -> None:
        for assignment in self.balancer.step(self._clock.now()):
            future = self._waiting.pop(assignment.call, None)
            if isinstance(assignment.result, Pick):
                if future is None or future.done():
                    assignment.result.done(self._clock.now(), errors.Cancelled(executed=False))
                else:
                    future.set_result(assignment.result)
            elif future is not None and not future.done():
                future.set_exception(assignment.result)
        if len(self._subchannels) != len(self.balancer.candidates):
            self._connect()
        self._schedule()

    def _schedule(self) -> None:
        """Wakes up when time alone changes something."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._clock.now()
        due = self.balancer.next_event(now)
        if due is not None and not self._closing:
            # A hair late rather than early: waking before the time would spin.
            self._timer = asyncio.get_running_loop().call_later(max(0.001, due - now), self._step)

    def _abandon(self, call: Call, future: asyncio.Future[Pick]) -> None:
        """The caller was cancelled while it waited, perhaps in the moment in which it got its pick."""
        self._waiting.pop(call, None)
        self.balancer.withdraw(call)
        if future.done() and not future.cancelled() and future.exception() is None:
            future.result().done(self._clock.now(), errors.Cancelled(executed=False))
            self.settle()
