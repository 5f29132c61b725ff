"""The endpoints of one agent, connected: the shell around a Balancer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable

from google.protobuf.message import Message

from atomesh.balancer.balancer import Balancer
from atomesh.balancer.hedge import Hedging
from atomesh.balancer.metrics import AgentSeries
from atomesh.balancer.picks import Assignment, MuxView, Pick
from atomesh.balancer.resolver import Resolver
from atomesh.balancer.subchannel import Subchannel
from atomesh.balancer.waiting import Call
from atomesh.balancer.work import Answer
from atomesh.core import errors
from atomesh.core.clock import Clock
from atomesh.core.contract import Contract, ContractDescriptor, known_class
from atomesh.core.endpoint import Endpoint
from atomesh.core.updates import WatchEvent
from atomesh.rpc.credentials import Credentials
from atomesh.rpc.mux.client_stream import ClientStream
from atomesh.rpc.network import GRPC_NETWORK, Network
from atomesh.rpc.tasks import Tasks
from atomesh.v1 import mux_pb2

log = logging.getLogger(__name__)

SYNC_SECONDS = 2.0
"""How long a first call waits for the resolver's first word. A registry answers
in milliseconds; a person should not wait longer to hear that there is none."""


_SAMPLED_EVERY = 0.001
"""Seconds between two latencies that are recorded: a thousand per second tell what
all of them do, and each costs as much as a pick."""


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
        mux: bool = True,
        network: Network = GRPC_NETWORK,
    ) -> None:
        """Begins to follow at once; `mux` is whether calls may go through one."""
        self.agent = agent = balancer.agent
        self.balancer = balancer
        balancer.observer = self
        self.series = series
        self._resolver = resolver
        self._credentials = credentials
        self._clock = clock
        self._mux = mux
        self._network = network
        self._subchannels: dict[str, Subchannel] = {}
        self._waiting: dict[Call, asyncio.Future[Pick]] = {}
        self._demanding = False
        """Some mux has been told that calls wait."""
        self._timer: asyncio.TimerHandle | None = None
        self._synced = asyncio.Event()
        self._resize = asyncio.Event()
        """Set, and made anew, when what can be picked or its slots change."""
        self._seen: Endpoint | None = None
        self._described: ContractDescriptor | None = None
        self._output: type[Message] | None = None
        self._chunks: dict[str, type[Message] | None] = {}
        """Of contracts, by hash."""
        self.latencies = balancer.latencies
        self.hedging = Hedging(balancer.latencies)
        self._took_at = float("-inf")
        """Of attempts that went well."""
        self.strangers = 0
        """Who waits to hear whether there is such an agent, or how much it takes."""
        self._retiring: set[Subchannel] = set()
        """Of endpoints that left, with calls that still run there."""
        self._tasks = Tasks()
        self._closing = False
        self._tasks.spawn(self._follow(), f"fleet {agent}")

    async def sync(self, deadline: float) -> None:
        """Returns once the resolver has told of endpoints of the agent.

        Raises:
            UnknownAgent: it has none.
            NoEndpoint: it has none in the version range that is asked for.
            RegistryUnavailable: it has not told anything, within SYNC_SECONDS.
            DeadlineExceeded: nor within a call's deadline, which is sooner.
        """
        timeout = min(SYNC_SECONDS, deadline - self._clock.now())
        try:
            async with asyncio.timeout(timeout):
                await self._synced.wait()
        except TimeoutError:
            self.balancer.check_known()
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
        self._park()
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

    def took(self, pick: Pick, answer: Answer, seconds: float, now: float) -> None:
        """An attempt went well and took so long; of a thousand in a second not all are looked at."""
        if now - self._took_at > _SAMPLED_EVERY:
            self._took_at = now
            self.balancer.took(pick, answer.seconds, answer.waited, seconds, now)

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

    async def chunk_class(self, deadline: float, endpoint: Endpoint | None = None) -> type[Message] | None:
        """The class of the chunks of an endpoint, or of any; None where its contract has none.

        Raises:
            RegistryUnavailable: the contract cannot be had.
            DeadlineExceeded: nor within a call's deadline.
        """
        endpoint = endpoint or self._example()
        known = endpoint.contract_hash
        if known not in self._chunks:
            try:
                async with asyncio.timeout(deadline - self._clock.now()):
                    told = await self._resolver.contract(endpoint)
            except TimeoutError:
                late = f"out of time before {self._resolver.name} told of the contract of {self.agent}"
                raise errors.DeadlineExceeded(late, executed=False) from None
            self._chunks[known] = (known_class(told.chunk_type) or told.load().chunk) if told.chunk_type else None
        return self._chunks[known]

    async def contract(self) -> Contract[Message, Message]:
        """The agent's contract, with classes made from its descriptors.

        Raises:
            RegistryUnavailable: it cannot be had.
        """
        return (await self.described()).load()

    async def described(self) -> ContractDescriptor:
        """The agent's contract as data; asked for once as long as it stays the same.

        Raises:
            RegistryUnavailable: it cannot be had.
        """
        example = self._example()
        if self._described is None or self._described.hash != example.contract_hash:
            self._described = await self._resolver.contract(example)
        return self._described

    async def resized(self, size: tuple[int, int]) -> None:
        """Returns when what can be picked has other endpoints or slots than `size`."""
        self.strangers += 1
        try:
            while self.balancer.size == size:
                await self._resize.wait()
                self._check_open()
        finally:
            self.strangers -= 1

    @property
    def idle(self) -> bool:
        """Whether nobody needs it now."""
        busy = any(candidate.in_flight for candidate in self.balancer.candidates.values())
        return not (busy or self.strangers or self.balancer.waiting or self._retiring)

    def sized(self) -> None:
        """Wakes those that wait for a change of what can be picked."""
        self._resize.set()
        self._resize = asyncio.Event()

    def ejected(self, endpoint: Endpoint, seconds: float) -> None:
        """Logs and counts an ejection."""
        log.warning("ejected %s at %s for %g s", endpoint.agent, endpoint.address, seconds)
        self.series.ejected(endpoint, seconds)

    async def close(self) -> None:
        """Ends; calls that wait fail, what is in flight is cut off."""
        self._closing = True
        self._synced.set()
        self.sized()
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
                if self._has_heard(event):
                    self._synced.set()
                self._step()

    def _has_heard(self, event: WatchEvent) -> bool:
        """Whether more need not be waited for. Addresses of a list are told of one by one, and then a bookmark."""
        whole = bool(event.position.store_id) or not event.updates
        return whole or self.balancer.known or not self.balancer.candidates

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
            self.series.left(address, self.balancer)
            retiring = self._subchannels.pop(address)
            self._retiring.add(retiring)
            self._tasks.spawn(self._retire(retiring), f"retire {address}")
        if candidates:
            self.series.known(self.balancer)
        for address, candidate in candidates.items():
            self.series.joined(candidate, self.balancer)
            subchannel = self._subchannels.get(address)
            if subchannel is None:
                self._subchannels[address] = Subchannel(
                    candidate.endpoint,
                    self._credentials,
                    self,
                    self._clock,
                    mux=self._mux,
                    network=self._network,
                    rng=self.balancer.rng,
                )
            else:
                subchannel.expect(candidate.endpoint)
                if candidate.subchannel is not subchannel.state:
                    self._look(subchannel)

    # -- what connections tell ---------------------------------------------------

    def connection(self, subchannel: Subchannel) -> None:
        """Its state, or what its mux says of itself, has changed."""
        if not self._closing and self._subchannels.get(subchannel.address) is subchannel:
            self._look(subchannel)
            self._step()

    def granted(self, subchannel: Subchannel, stream: ClientStream, grants: int) -> None:
        """Slots there are ours: calls that wait get them, and what nobody wants goes back at once."""
        assignments: list[Assignment] = []
        if self._subchannels.get(subchannel.address) is subchannel:
            assignments = self.balancer.granted(subchannel.address, stream, grants, self._clock.now())
        for _ in range(grants - sum(isinstance(a.result, Pick) for a in assignments)):
            stream.give_back()
        self._assign(assignments)
        self._park()

    def loaded(self, address: str, load: mux_pb2.MuxLoad) -> None:
        """How busy the endpoint is."""
        candidate = self.balancer.candidates.get(address)
        if candidate is not None:
            candidate.told(load.in_flight, load.queued, load.yours, self._clock.now())
            candidate.execution = load.execution_us / 1e6

    def _look(self, subchannel: Subchannel) -> None:
        stream = subchannel.stream
        view = None
        if stream is not None and stream.end.hello is not None:
            hello = stream.end.hello
            view = MuxView(hello.slots, hello.weight or 1.0, stream.silent, stream.end.draining)
        self.balancer.connected(subchannel.address, subchannel.state, self._clock.now(), view)

    def _park(self) -> None:
        """Tells each mux how many calls wait here for a slot of its endpoint."""
        demands = self.balancer.demands()
        if not demands and not self._demanding:
            return
        self._demanding = bool(demands)
        for address, subchannel in self._subchannels.items():
            if (stream := subchannel.stream) is not None:
                stream.park(demands.get(address, 0))

    def _step(self) -> None:
        self._assign(self.balancer.step(self._clock.now()))
        if len(self._subchannels) != len(self.balancer.candidates):
            self._connect()
        self._park()
        self._schedule()

    def _assign(self, assignments: Iterable[Assignment]) -> None:
        for assignment in assignments:
            future = self._waiting.pop(assignment.call, None)
            if isinstance(assignment.result, Pick):
                if future is None or future.done():
                    assignment.result.done(self._clock.now(), errors.Cancelled(executed=False))
                else:
                    future.set_result(assignment.result)
            elif future is not None and not future.done():
                future.set_exception(assignment.result)

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
        self._park()
        if future.done() and not future.cancelled() and future.exception() is None:
            future.result().done(self._clock.now(), errors.Cancelled(executed=False))
            self.settle()
