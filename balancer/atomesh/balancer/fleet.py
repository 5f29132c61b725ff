"""The endpoints of one agent, connected: the shell around a Balancer."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from google.protobuf.message import Message

from atomesh.balancer.balancer import Balancer, Call, Pick
from atomesh.balancer.candidate import SubchannelState
from atomesh.balancer.metrics import AgentSeries
from atomesh.balancer.resolver import Resolver
from atomesh.balancer.subchannel import Subchannel
from atomesh.core import errors
from atomesh.core.clock import Clock
from atomesh.core.contract import known_class, load_contract
from atomesh.core.endpoint import Endpoint
from atomesh.rpc.credentials import Credentials
from atomesh.rpc.tasks import Tasks

log = logging.getLogger(__name__)

SYNC_SECONDS = 2.0
"""How long a first call waits for the resolver's first word. A registry answers
in milliseconds; a person should not wait longer to hear that there is none."""


class Fleet:
    """Follows a resolver, keeps a connection to each endpoint, hands out picks."""

    def __init__(
        self, agent: str, resolver: Resolver, credentials: Credentials, series: AgentSeries, clock: Clock
    ) -> None:
        """Begins to follow at once."""
        self.agent = agent
        self.balancer = Balancer(agent, observer=self)
        self.series = series
        self._resolver = resolver
        self._credentials = credentials
        self._clock = clock
        self._subchannels: dict[str, Subchannel] = {}
        self._waiting: dict[Call, asyncio.Future[Pick]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._synced = asyncio.Event()
        self._outputs: dict[str, type[Message]] = {}
        self._tasks = Tasks()
        self._closing = False
        series.waiting.set_function(lambda: self.balancer.waiting)
        self._tasks.spawn(self._follow(), f"fleet {agent}")

    async def sync(self) -> None:
        """Returns once the resolver has told of the agent.

        Raises:
            RegistryUnavailable: it has not, within SYNC_SECONDS.
        """
        if self._synced.is_set():
            return
        try:
            async with asyncio.timeout(SYNC_SECONDS):
                await self._synced.wait()
        except TimeoutError:
            raise errors.RegistryUnavailable(
                f"{self._resolver.name} does not answer; start one with `atomesh registry`, or name another"
            ) from None

    async def pick(self, call: Call) -> Pick:
        """An endpoint for the call, as soon as there is one.

        Raises:
            UnknownAgent, QueueFull, NoEndpoint, DeadlineExceeded: see Balancer.
        """
        picked = self.balancer.submit(call, self._clock.now())
        if picked is not None:
            return picked
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

    async def output_class(self, endpoint: Endpoint) -> type[Message]:
        """The class of the endpoint's output: this process's own, or made from its contract."""
        found = self._outputs.get(endpoint.output_type) or known_class(endpoint.output_type)
        if found is None:
            contract = await self._resolver.contract(endpoint)
            found = load_contract(contract.input_type, contract.output_type, contract.descriptor_set).output
        self._outputs[endpoint.output_type] = found
        return found

    def ejected(self, endpoint: Endpoint, seconds: float) -> None:
        """Logs and counts an ejection."""
        log.warning("ejected %s at %s for %g s", endpoint.agent, endpoint.address, seconds)
        self.series.ejected(endpoint, seconds)

    async def close(self) -> None:
        """Ends; calls that wait fail, what is in flight is cut off."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(errors.Cancelled("the client was closed", executed=False))
        self._waiting.clear()
        await self._tasks.cancel()
        await asyncio.gather(*(subchannel.close() for subchannel in self._subchannels.values()))
        self._subchannels.clear()

    async def _follow(self) -> None:
        async with contextlib.aclosing(self._resolver.watch(self.agent)) as events:
            async for event in events:
                self.balancer.apply(event, self._clock.now())
                self._connect()
                self._synced.set()
                self._step()

    def _connect(self) -> None:
        """Connections as the balancer's candidates want them."""
        candidates = self.balancer.candidates
        for address in [address for address in self._subchannels if address not in candidates]:
            self.series.left(address)
            self._tasks.spawn(self._subchannels.pop(address).retire(), f"retire {address}")
        for address, candidate in candidates.items():
            self.series.joined(candidate)
            subchannel = self._subchannels.get(address)
            if subchannel is None:
                self._subchannels[address] = Subchannel(address, self._credentials, self._on_state)
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
