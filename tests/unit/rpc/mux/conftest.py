"""Both ends of muxes, joined by queues in virtual time: clients, endpoints with real slots, and every fault.

What moves frames here is what the shells do: a writer that waits for its peer,
a reader that stops where the client leaves too much unread, timers that wake
when an end says so. Whatever the seed, after every event: running + granted <=
slots, nothing ends twice, nothing runs twice, no slot idles while somebody
waits who could use it. `Machines` are the classes under test, so that broken
ones can be put in their place.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from atomesh.agents.admission import Admission, Asking, Waiter
from atomesh.agents.demands import MIN_PLACES, PLACES
from atomesh.core.errors import AtomeshError
from atomesh.rpc.mux.client_end import ClientEnd
from atomesh.rpc.mux.server_end import ServerEnd
from atomesh.v1 import mux_pb2

MAX_FRAME = 1024 * 1024
"""As the protocol says."""
TICK = 0.001  # the shells are late by so much rather than early


@dataclass(frozen=True)
class Machines:
    """The classes under test."""

    client_end: Any = ClientEnd
    server_end: Any = ServerEnd
    admission: Any = Admission
    asking: Any = Asking
    waiter: Any = Waiter


@dataclass(frozen=True)
class Faults:
    """What goes wrong in a world, in chances per call or per second of virtual time."""

    cancel: float = 0.0
    short_deadline: float = 0.0
    lose: float = 0.0
    nap: float = 0.0
    large: float = 0.0
    stubborn: float = 0.0
    stock: float = 0.0


QUIET = Faults()
ROUGH = Faults(cancel=0.15, short_deadline=0.15, lose=1.0, nap=1.5, large=0.08, stubborn=0.3, stock=0.1)


@dataclass(eq=False)
class Job:
    """One call of somebody, from its arrival to its end."""

    number: int
    client: Client | None
    deadline: float
    seconds: float
    input: bytes
    output: bytes
    since: float
    end: str = ""
    ended_at: float = 0.0
    runs: int = 0
    sent: Any = None
    mux: Mux | None = None
    tried: int = 0


@dataclass(eq=False)
class Endpoint:
    """An endpoint's slots, and what truly runs there."""

    name: str
    admission: Any
    running: int = 0
    asleep_until: float = 0.0
    waiters: list[Any] = field(default_factory=list)


@dataclass(eq=False)
class Client:
    """A caller that keeps its calls until an endpoint has a slot for them."""

    name: str
    muxes: list[Mux] = field(default_factory=list)
    parked: list[Job] = field(default_factory=list)
    asleep_until: float = 0.0


class Line:
    """One direction of a stream: in order, with delays, and a window that holds up the writer."""

    def __init__(self) -> None:
        self.frames: deque[bytes] = deque()
        self.last = 0.0


class Mux:
    """A stream as both of its ends have it."""

    def __init__(self, world: World, client: Client, endpoint: Endpoint) -> None:
        machines = world.machines
        opening = mux_pb2.MuxOpen(agent="echo")
        self.client, self.endpoint = client, endpoint
        self.end = machines.client_end(opening)
        self.server = machines.server_end(endpoint.admission, opening, mux_pb2.MuxHello(slots=endpoint.admission.slots))
        self.server.claim.wake = lambda: world.dirty.update({(self, "down"): None})
        self.up, self.down = Line(), Line()
        self.alive = True
        self.here = 0
        """Its executions, as the world counts them."""
        self.taken: set[int] = set()
        """Calls that frames hold which went out."""
        self.silent = False
        self.held_up = False
        """It is not read, since it does not read."""
        self.timers: dict[str, float] = {}


class World:
    """So many clients with a stream to each of so many endpoints, from one seed."""

    def __init__(
        self,
        seed: int,
        *,
        clients: int = 3,
        endpoints: int = 1,
        slots: int = 0,
        faults: Faults = QUIET,
        machines: Machines | None = None,
        delay: float = 0.001,
        window: int = 4,
    ) -> None:
        self.rng = random.Random(seed)
        self.machines = machines or Machines()
        self.faults = faults
        self.delay = delay
        self.window = window
        self.now = 0.0
        self.jobs: list[Job] = []
        self.dirty: dict[tuple[Mux, str], None] = {}
        self.counts: Counter[str] = Counter()
        self.largest = 0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.endpoints = [
            Endpoint(f"e{n}", self.machines.admission("echo", slots or self.rng.randint(1, 4), rng=self.rng))
            for n in range(endpoints)
        ]
        self.clients = [Client(f"c{n}") for n in range(clients)]
        for client in self.clients:
            client.muxes = [self._open(client, endpoint) for endpoint in self.endpoints]

    # -- running it --------------------------------------------------------------

    def at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (max(when, self.now), next(self._order), what))

    def load(self, calls: int, seconds: float = 2.0, mean: float = 0.02) -> None:
        """So many calls within so many seconds, and faults for as long."""
        for _ in range(calls):
            self.at(self.rng.random() * seconds, lambda: void(self.arrive(mean)))
        for client in self.clients:
            for what, rate in ((self._lose, self.faults.lose), (self._nap, self.faults.nap)):
                for _ in range(int(rate * seconds + self.rng.random())):
                    self.at(self.rng.random() * seconds, partial(what, client))

    def run(self, until: float = 300.0) -> None:
        """Until nothing is left to happen."""
        steps = 0
        while self._heap and self._heap[0][0] <= until:
            steps += 1
            assert steps < 300_000, f"it must come to rest; at {self.now:.3f} s it goes round in circles"
            self.now, _, what = heapq.heappop(self._heap)
            what()
            self._settle()
            self.check()
        assert not self._heap or until < 300.0, f"it must come to rest; at {self.now:.3f} s it still goes on"

    def check(self) -> None:
        """What holds after every event."""
        coming: Counter[Endpoint] = Counter()
        for client in self.clients:
            for mux in client.muxes:
                parts = sum(execution.assembly is not None for execution in mux.server.running.values())
                assert mux.server.claim.running == mux.here + parts, "the endpoint knows this stream's executions"
                coming[mux.endpoint] += parts
        for endpoint in self.endpoints:
            admission = endpoint.admission
            held = endpoint.running + coming[endpoint]
            assert admission.in_flight == held, "every slot is held by one execution, or a call whose parts still come"
            assert admission.taken <= admission.slots, "running + granted <= slots, always"
            if admission.taken < admission.slots and not admission.draining:
                able = [w for w in endpoint.waiters if w.place.name == "QUEUED" and w.deadline > self.now]
                assert not able, "no slot idles while a stock client's call waits"
        granted: Counter[Endpoint] = Counter()
        for client in self.clients:
            for mux in client.muxes:
                claim, admission = mux.server.claim, mux.endpoint.admission
                assert 0 <= claim.waiting <= max(MIN_PLACES, PLACES * admission.slots), "places are bounded"
                assert claim.waiting <= max(MIN_PLACES, PLACES * admission.slots), "places are bounded"
                assert mux.end.holding >= 0, "nothing is used or given back twice"
                granted[mux.endpoint] += len(claim.out)
                if admission.taken < admission.slots and not (claim.mute or claim.barred):
                    assert not claim.waiting, "no slot idles while a demand waits"
        for endpoint in self.endpoints:
            admission = endpoint.admission
            assert admission.taken == admission.in_flight + granted[endpoint], "each grant is out exactly once"

    def check_rest(self) -> None:
        """What holds when nothing more happens."""
        for endpoint in self.endpoints:
            assert endpoint.admission.taken == 0, "no slot and no grant may be left behind"
            assert endpoint.admission.wanted == 0, "no demand may be left behind"
        for client in self.clients:
            assert not client.parked
            for mux in client.muxes:
                end, server = mux.end, mux.server
                assert not end.calls, "every call must have ended"
                assert not server.running, "every execution must have ended"
                assert end.holding == 0, "every grant was used or given back"
                assert server.claim.waiting == 0, "nobody waits"
                assert not server.claim.out, "no grant is out"
                if mux.alive:
                    assert end.take(self.now) is None, "everything has been said"
                    assert server.take(self.now) is None, "everything has been said"
        for job in self.jobs:
            assert job.end, f"call {job.number} never ended"
            assert job.runs <= 1, f"call {job.number} ran twice"

    def waits(self) -> list[float]:
        """How long each call that went well took beyond its own work."""
        return [job.ended_at - job.since - job.seconds for job in self.jobs if job.end == "ok"]

    # -- callers -----------------------------------------------------------------

    def arrive(self, mean: float = 0.02, client: Client | None = None, job: Job | None = None) -> Job:
        """A call of one of the clients, or of a stock client's."""
        rng, faults, number = self.rng, self.faults, len(self.jobs)
        if job is None:
            timeout = rng.random() * 0.2 if rng.random() < faults.short_deadline else 60.0
            job = Job(
                number,
                client or rng.choice(self.clients),
                self.now + timeout,
                rng.expovariate(1 / mean),
                self._payload(number),
                self._payload(number + 1_000_000),
                self.now,
            )
        self.jobs.append(job)
        if rng.random() < faults.stock:
            job.client = None
            self._stock(job)
            return job
        if rng.random() < faults.cancel:
            self.at(self.now + rng.random() * 0.1, partial(self.cancel, job))
        self.at(job.deadline, partial(self._late_while_parked, job))
        self._place(job)
        return job

    def cancel(self, job: Job) -> None:
        """Its caller goes away."""
        if job.end:
            return
        if job.client is not None and job in job.client.parked:
            job.client.parked.remove(job)
            self._restate(job.client)
        elif job.sent is not None and job.mux is not None:
            job.mux.end.cancel(job.sent)
            self.dirty[job.mux, "up"] = None
        self._end(job, "cancelled")

    def _place(self, job: Job) -> None:
        """Sends it where a slot may be free, or keeps it and says that it waits."""
        client = job.client
        assert client is not None
        open_muxes = [mux for mux in client.muxes if mux.alive and not mux.silent]
        if open_muxes and not client.parked and job.tried < len(open_muxes):
            job.tried += 1
            self._send(job, self.rng.choice(open_muxes), granted=False)
        else:
            job.tried = 0
            client.parked.append(job)
            self._restate(client)

    def _send(self, job: Job, mux: Mux, *, granted: bool) -> None:
        job.mux = mux
        job.sent = mux.end.call(job.input, b"", job.deadline, job, granted=granted)
        self.dirty[mux, "up"] = None
        if granted and self.rng.random() < self.faults.cancel / 4:
            self.cancel(job)  # in the very moment of its grant

    def _restate(self, client: Client) -> None:
        for mux in client.muxes:
            if mux.alive and mux.end.park(min(len(client.parked), mux.endpoint.admission.slots)):
                self.dirty[mux, "up"] = None

    def _late_while_parked(self, job: Job) -> None:
        if not job.end and job.client is not None and job in job.client.parked:
            job.client.parked.remove(job)
            self._restate(job.client)
            self._end(job, "late")

    def _end(self, job: Job, how: str) -> None:
        assert not job.end, f"call {job.number} ended twice: {job.end}, {how}"
        job.end, job.ended_at = how, self.now
        self.counts[how] += 1

    def _payload(self, number: int) -> bytes:
        small = self.rng.random() >= self.faults.large
        size = self.rng.randint(0, 200) if small else self.rng.randint(60_000, 500_000)
        return f"{number}:".encode() + bytes([number % 251]) * size

    # -- frames ------------------------------------------------------------------

    def _open(self, client: Client, endpoint: Endpoint) -> Mux:
        mux = Mux(self, client, endpoint)
        self.dirty[mux, "up"] = None
        self.dirty[mux, "down"] = None
        return mux

    def _settle(self) -> None:
        """Whatever has changed lets its writer go, and sets its timer."""
        while self.dirty:
            mux, side = next(iter(self.dirty))
            del self.dirty[mux, side]
            if mux.alive:
                self.at(self.now + self.rng.random() * self.delay / 4, partial(self._flush, mux, side))
                self._arm(mux, side)

    def _flush(self, mux: Mux, side: str) -> None:
        if not mux.alive:
            return
        if (mux.client if side == "up" else mux.endpoint).asleep_until > self.now:
            return  # it wakes up with a flush
        line = mux.up if side == "up" else mux.down
        end = mux.end if side == "up" else mux.server
        while len(line.frames) < self.window and (frame := end.take(self.now)) is not None:
            raw = frame.SerializeToString()
            if side == "up":
                mux.taken |= {call.id for call in frame.calls}
            self.largest = max(self.largest, len(raw))
            assert len(raw) <= MAX_FRAME, f"a frame of {len(raw)} bytes; the protocol says 1 MiB"
            line.last = max(line.last, self.now + self.delay * self.rng.uniform(0.1, 2))
            line.frames.append(raw)
            self.at(line.last, partial(self._deliver, mux, side))
        self._arm(mux, side)
        if side == "down" and mux.held_up and not mux.server.claim.barred:
            mux.held_up = False
            for _ in mux.up.frames:
                self.at(self.now, partial(self._deliver, mux, "up"))

    def _deliver(self, mux: Mux, side: str) -> None:
        line = mux.up if side == "up" else mux.down
        if not mux.alive or not line.frames:
            return
        reader = mux.client if side == "down" else mux.endpoint
        if reader.asleep_until > self.now:
            self.at(reader.asleep_until, partial(self._deliver, mux, side))
            return
        if side == "up" and mux.server.claim.barred:
            mux.held_up = True
            return  # read further when it has read
        raw = line.frames.popleft()
        self.dirty[mux, side] = None  # its writer has room
        if side == "up":
            self._at_endpoint(mux, mux.server.receive(mux_pb2.MuxRequest.FromString(raw), self.now))
            self.dirty[mux, "down"] = None
        else:
            self._at_client(mux, mux.end.receive(mux_pb2.MuxResponse.FromString(raw), self.now))
            self.dirty[mux, "up"] = None

    def _arm(self, mux: Mux, side: str) -> None:
        times = [mux.end.next_event()]
        if side == "down":
            times = [mux.server.next_event(), mux.endpoint.admission.next_event()]
        due = min((at for at in times if at is not None), default=None)
        if due is not None and due + TICK < mux.timers.get(side, float("inf")):
            mux.timers[side] = due + TICK
            self.at(due + TICK, partial(self._tick, mux, side, due + TICK))

    def _tick(self, mux: Mux, side: str, when: float) -> None:
        if mux.timers.get(side) != when or not mux.alive:
            return
        del mux.timers[side]
        sleeper = mux.client if side == "up" else mux.endpoint
        if sleeper.asleep_until > self.now:
            self.at(sleeper.asleep_until, partial(self._arm, mux, side))
            return
        if side == "up":
            for sent in mux.end.due(self.now):
                self._end(sent.waiter, "late")
            mux.silent = mux.end.silent(self.now)
            next_event = mux.end.next_event()
        else:
            admission = mux.endpoint.admission
            admission.tick(self.now)
            late, stalled = mux.server.due(self.now)
            for execution in late:
                execution.task.late = True
                self._cut(execution)
            for execution in stalled:
                mux.server.refuse(execution, b"stalled")
            times = [at for at in (mux.server.next_event(), admission.next_event()) if at is not None]
            next_event = min(times, default=None)
        assert next_event is None or next_event + TICK > self.now, "what is due has been done: or its timer would spin"
        self.dirty[mux, side] = None

    # -- at the endpoint -----------------------------------------------------------

    def _at_endpoint(self, mux: Mux, received: Any) -> None:
        for execution in received.start:
            self._begin(Run(self, mux, execution, self._job_of(execution.input)))
        for execution in received.cancel:
            self._cut(execution)
        for execution, why in received.refuse:
            mux.server.refuse(execution, why.encode())

    def _job_of(self, input: bytes) -> Job:
        job = self.jobs[int(input.split(b":", 1)[0])]
        assert input == job.input, "the input must arrive whole"
        return job

    def _begin(self, run: Run) -> None:
        run.execution.task = run
        run.job.runs += 1
        self.at(self.now + run.job.seconds, run.finish)

    def _cut(self, execution: Any) -> None:
        run = execution.task
        assert run is not None
        stubborn = self.rng.random() < self.faults.stubborn
        self.at(self.now + (self.rng.random() * 0.2 if stubborn else 0.0), run.cut)

    def _stock(self, job: Job) -> None:
        endpoint = self.rng.choice(self.endpoints)
        decision = endpoint.admission.ask(self.machines.asking(job.deadline), self.now)
        if decision is None:
            self._run_stock(endpoint, job)
        elif isinstance(decision, self.machines.waiter):
            endpoint.waiters.append(decision)
            decision.wake = partial(self._run_stock, endpoint, job)
            self.at(decision.until, partial(self._give_up, endpoint, job, decision))
        else:
            self._end(job, "refused")

    def _run_stock(self, endpoint: Endpoint, job: Job) -> None:
        endpoint.running += 1
        job.runs += 1

        def ended() -> None:
            endpoint.running -= 1
            endpoint.admission.leave(job.seconds, self.now)
            self._end(job, "ok")

        self.at(self.now + job.seconds, ended)

    def _give_up(self, endpoint: Endpoint, job: Job, waiter: Any) -> None:
        endpoint.waiters.remove(waiter)
        if isinstance(endpoint.admission.give_up(waiter, self.now), AtomeshError):
            self._end(job, "refused")

    # -- at the client -------------------------------------------------------------

    def _at_client(self, mux: Mux, received: Any) -> None:
        for sent, reply, output in received.ended:
            self._ended(sent.waiter, reply, output)
        for sent in received.rejected:
            self._place(sent.waiter)
        mux.silent = False
        for _ in range(received.grants):
            if mux.client.parked:
                self._send(mux.client.parked.pop(0), mux, granted=True)
            else:
                mux.end.give_back()
        if received.grants:
            self._restate(mux.client)

    def _ended(self, job: Job, reply: Any, output: bytes | None) -> None:
        if reply.status == b"late":
            self._end(job, "late")
        elif reply.status:
            assert reply.status in (b"stalled", b"drain"), reply.status
            assert job.runs == 0, "what is refused has not run"
            self._place(job)
        else:
            assert output == job.output, "the output must arrive whole"
            assert job.runs == 1
            self._end(job, "ok")

    # -- faults --------------------------------------------------------------------

    def _nap(self, client: Client) -> None:
        """It neither reads nor writes for a while, or one of its endpoints does not."""
        choices: list[Client | Endpoint] = [client, client, self.rng.choice(client.muxes).endpoint]
        sleeper = self.rng.choice(choices)
        self.nap(sleeper, self.rng.choice((0.05, 0.3, 1.5)))

    def nap(self, sleeper: Client | Endpoint, seconds: float) -> None:
        """Neither reads nor writes for so long."""
        sleeper.asleep_until = max(sleeper.asleep_until, self.now + seconds)

        def wake() -> None:
            for client in self.clients:
                for mux in client.muxes:
                    if mux.alive and sleeper in (mux.client, mux.endpoint):
                        self.dirty[mux, "up"] = self.dirty[mux, "down"] = None

        self.at(sleeper.asleep_until, wake)

    def _lose(self, client: Client) -> None:
        """One of its streams breaks; the endpoint hears of it later."""
        mux = self.rng.choice(client.muxes)
        if not mux.alive:
            return
        mux.alive = False
        for line in (mux.up, mux.down):
            line.frames.clear()
        calls, mux.end.calls = list(mux.end.calls.values()), {}
        for sent in calls:
            assert sent.on_wire == (sent.id in mux.taken), "it says what has gone out"
            if sent.on_wire:
                self._end(sent.waiter, "lost")
            else:
                assert sent.waiter.runs == 0, "what was never on the wire has not run"
                self._place(sent.waiter)
        mux.end.holding = 0
        self.at(self.now + self.rng.random() * 0.1, partial(self._lost, client, mux))

    def _lost(self, client: Client, mux: Mux) -> None:
        for execution in mux.server.gone(self.now):
            execution.cancelled = True
            self._cut(execution)
        self.clients.append(Client("gone", [mux]))  # looked at until what ran on it has ended
        client.muxes[client.muxes.index(mux)] = self._open(client, mux.endpoint)
        self._restate(client)


def void(result: object) -> None:
    """For callbacks that return nothing."""
    del result


class Run:
    """One execution of a mux."""

    def __init__(self, world: World, mux: Mux, execution: Any, job: Job) -> None:
        self.world, self.mux, self.execution, self.job = world, mux, execution, job
        self.late = self.over = False
        mux.endpoint.running += 1
        mux.here += 1

    def finish(self) -> None:
        """It went well."""
        if self.mux.endpoint.asleep_until > self.world.now:
            self.world.at(self.mux.endpoint.asleep_until, self.finish)
        elif not self.over:
            self._leave(self.job.seconds)
            self.mux.server.reply(self.execution, self.job.output, self.world.now)

    def cut(self) -> None:
        """It was cancelled, or is out of time."""
        if not self.over:
            self._leave(None)
            if self.late:
                self.mux.server.fail(self.execution, b"late")

    def _leave(self, seconds: float | None) -> None:
        self.over = True
        self.mux.endpoint.running -= 1
        self.mux.here -= 1
        self.mux.server.left(self.execution)
        self.mux.endpoint.admission.leave(seconds, self.world.now)
        self.world.dirty[self.mux, "down"] = None


@pytest.fixture
def machines() -> type[Machines]:
    """The classes that a world is made of."""
    return Machines


@pytest.fixture
def world() -> type[World]:
    """`world(seed, clients=3, endpoints=2, faults=...)`."""
    return World


@pytest.fixture
def faults() -> type[Faults]:
    """What goes wrong."""
    return Faults


@pytest.fixture
def rough() -> Faults:
    """Everything goes wrong."""
    return ROUGH
