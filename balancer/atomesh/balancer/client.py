"""The mesh from a caller's side: `async with Client() as mesh: await mesh.call(...)`."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Generic, Self, TypedDict, TypeVar, Unpack, overload

from google.protobuf.message import DecodeError, Message

from atomesh.balancer.breaker import Breaker
from atomesh.balancer.budget import RetryBudget
from atomesh.balancer.capacity import Capacity
from atomesh.balancer.circuit import Circuit
from atomesh.balancer.filters import Filters
from atomesh.balancer.fleet import Fleet
from atomesh.balancer.fleets import Fleets, FleetSettings, check_breakers
from atomesh.balancer.metrics import OTHER, AgentSeries, ClientMetrics, reason_of
from atomesh.balancer.policies import DEFAULT_POLICY, check_policy
from atomesh.balancer.resolver import RegistryResolver, Resolver, StaticResolver
from atomesh.balancer.stream import Stream
from atomesh.balancer.tracing import CallTrace
from atomesh.balancer.waiting import Call
from atomesh.balancer.walk import WENT_AWAY, Walk
from atomesh.balancer.work import Answer, Work
from atomesh.core import errors
from atomesh.core.clock import SYSTEM_CLOCK, Clock
from atomesh.core.context import DEFAULT_TIMEOUT, Context, current_scope, current_tracer
from atomesh.core.contract import Contract, ContractDescriptor, StreamContract
from atomesh.core.endpoint import Endpoint
from atomesh.core.errors import AtomeshError, Attempt, Origin
from atomesh.core.tracing import Tracer
from atomesh.rpc.credentials import PLAINTEXT, Credentials
from atomesh.rpc.http import HttpServer, metrics_page
from atomesh.rpc.network import GRPC_NETWORK, Network
from atomesh.rpc.registry_client import DEFAULT_ADDRESS
from atomesh.v1 import agent_pb2

In = TypeVar("In", bound=Message)
Chunk = TypeVar("Chunk", bound=Message)
Out = TypeVar("Out", bound=Message)


@dataclass(slots=True)  # not frozen, which would double the price of making one
class Reply(Generic[Out]):
    """An output, and how it came to be."""

    output: Out
    answer: Answer
    agent: str
    attempts: tuple[Attempt, ...]
    """The attempts before the one that went well; mostly none."""
    queue_wait: float
    """Seconds that the call waited in this client for a slot."""

    @property
    def info(self) -> agent_pb2.ExecutionInfo:
        """Where and how long it ran."""
        return self.answer.info(self.agent)


@dataclass(frozen=True, slots=True)
class CallOptions:
    """How one call is made; what is None is the client's own setting, or the agent's."""

    timeout: float | None = None
    context: Context | None = None
    idempotent: bool | None = None
    policy: str | None = None
    hedge: bool | None = None
    version: str = ""
    """The semver range that an endpoint's version must lie in, such as `>=2,<3`; empty lets all in."""
    fail_fast: bool = False
    """Whether it is refused where the agent is an open circuit, where others wait."""


_PLAIN = CallOptions()


class StreamOptions(TypedDict, total=False):
    """Keywords of `Client.stream`; see CallOptions."""

    timeout: float | None
    context: Context | None
    idempotent: bool | None
    policy: str | None
    version: str
    fail_fast: bool


class Client:
    """Calls agents by name: finds their endpoints, balances, tries again, measures.

    One per process and event loop is enough. Inside an agent's `execute`, calls
    inherit its context and deadline by themselves.
    """

    def __init__(
        self,
        registry: str | Resolver = DEFAULT_ADDRESS,
        *,
        endpoints: Sequence[str] = (),
        policy: str = DEFAULT_POLICY,
        timeout: float = DEFAULT_TIMEOUT,
        zone: str = "",
        versions: Mapping[str, float] | None = None,
        breakers: Mapping[str, Breaker] | None = None,
        hedge: bool = False,
        mux: bool = True,
        credentials: Credentials = PLAINTEXT,
        metrics: ClientMetrics | None = None,
        tracer: Tracer | None = None,
        clock: Clock = SYSTEM_CLOCK,
        rng: random.Random | None = None,
        network: Network = GRPC_NETWORK,
    ) -> None:
        """`registry` is its address, or a resolver; `endpoints`, a list of addresses, serves instead of one.

        `timeout` is in seconds, for calls that say nothing and are in no other's scope.
        `zone` is the client's own: endpoints there are asked first. `versions` shares
        calls out by semver range, such as `{">=2": 10, "<2": 90}`. `breakers` has thresholds of
        ejection by agent. With `hedge`, calls that
        may run twice are sent to a second endpoint where they take longer than p95. Without `mux` every call
        is a unary Execute of its own. With a `tracer` calls and their attempts are spans;
        one made inside an execution that is traced is, without.

        Raises:
            InvalidArgument: an address that is none, an unknown policy, no timeout, plaintext off loopback,
                version weights that are none, a breaker that is none.
        """
        self._policy = check_policy(policy)
        self._timeout = _check_timeout(timeout)
        filters = Filters(zone, dict(versions or {}))
        checked = check_breakers(breakers)
        self._clock = clock
        self._hedge = hedge
        self._rng = rng or random.Random()
        self._metrics = metrics or ClientMetrics()
        self._tracer = tracer
        self._budget = RetryBudget()
        self._metrics.budget.set_function(lambda: self._budget.left(clock.now()))
        self._others = AgentSeries(self._metrics, OTHER)
        self._http: HttpServer | None = None
        if endpoints:
            self._resolver: Resolver = StaticResolver(endpoints, credentials, clock=clock, network=network)
        elif isinstance(registry, str):
            self._resolver = RegistryResolver(registry, credentials, clock=clock, rng=self._rng, network=network)
        else:
            self._resolver = registry
        self._all_fleets = Fleets(
            FleetSettings(
                resolver=self._resolver,
                credentials=credentials,
                metrics=self._metrics,
                clock=clock,
                rng=self._rng,
                filters=filters,
                breakers=checked,
                mux=mux,
                network=network,
            )
        )
        self._fleets = self._all_fleets.made

    async def __aenter__(self) -> Self:
        """Itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes."""
        await self.close()

    async def close(self) -> None:
        """Ends: calls that wait fail, what is in flight is cut off."""
        await self._all_fleets.close()
        await self._resolver.close()
        if self._http is not None:
            await self._http.stop()

    async def serve_metrics(self, bind: str = "127.0.0.1:0", *, insecure: bool = False) -> str:
        """Serves `/metrics` over HTTP until the client is closed; host:port.

        Raises:
            InvalidArgument: no address, or off loopback without `insecure`.
            Conflict: the address is in use, or metrics are served already.
        """
        if self._http is not None:
            raise errors.Conflict(f"this client's metrics are served at {self._http.address} already")
        http = HttpServer(bind=bind, pages={"/metrics": metrics_page(self._metrics.registry)}, insecure=insecure)
        await http.start()
        self._http = http
        return http.address

    @overload
    async def call(
        self,
        target: Contract[In, Out],
        input: In,  # the word of the field, and of the contract
        *,
        timeout: float | None = None,
        context: Context | None = None,
        idempotent: bool | None = None,
        policy: str | None = None,
        hedge: bool | None = None,
        version: str = "",
        fail_fast: bool = False,
    ) -> Out: ...

    @overload
    async def call(
        self,
        target: str,
        input: Message,
        *,
        timeout: float | None = None,
        context: Context | None = None,
        idempotent: bool | None = None,
        policy: str | None = None,
        hedge: bool | None = None,
        version: str = "",
        fail_fast: bool = False,
    ) -> Any: ...

    async def call(
        self,
        target: str | Contract[Any, Any],
        input: Message,
        *,
        timeout: float | None = None,
        context: Context | None = None,
        idempotent: bool | None = None,
        policy: str | None = None,
        hedge: bool | None = None,
        version: str = "",
        fail_fast: bool = False,
    ) -> Any:
        """The agent's output for `input`.

        `target` is an agent's name, or a contract, and then the output is typed.
        `timeout` is in seconds; a call inside an agent never outlives its caller.
        `idempotent` says that this call may run twice, whatever the agent declares;
        `hedge`, that it is sent to a second endpoint where it takes long. With a
        `version`, a semver range, only endpoints in it are asked; with `fail_fast`
        it does not wait while every endpoint is left alone for its failures.

        Raises:
            AtomeshError: one of the tree in `atomesh.core.errors`; `attempts`
                has where it was tried, and how each try ended.
        """
        plain = timeout is None and context is None and idempotent is None and policy is None and hedge is None
        if plain and not (version or fail_fast):
            options = _PLAIN
        else:
            options = CallOptions(timeout, context, idempotent, policy, hedge, version, fail_fast)
        return (await self.execute(target, input, options)).output

    async def execute(
        self,
        target: str | Contract[Any, Out],
        input: Message,
        options: CallOptions = _PLAIN,
    ) -> Reply[Out]:
        """As `call`, with what is known of the execution."""
        agent = target if isinstance(target, str) else target.agent
        begun = self._clock.now()
        deadline, context = self._scope(options, begun)
        call = Call(deadline, check_policy(options.policy) if options.policy else self._policy, context.session_id)
        call.returns = bool(context.via) and agent in context.via
        trace = None
        if (tracer := self._tracer or current_tracer()) is not None:
            trace = CallTrace(tracer, agent, context)
            context = trace.context
        series, reason = self._others, "CANCELLED"  # unless it ends otherwise
        failure: AtomeshError | None = WENT_AWAY
        try:
            version = options.version
            fleet = self._fleets.get((agent, version) if version else agent)
            if fleet is None or not fleet.balancer.known:
                fleet = await self._all_fleets.meet(agent, version, deadline)
            series = fleet.series
            call.fail_fast = options.fail_fast
            self._check_type(fleet, input)
            # Known before anything is sent: work whose outcome cannot be read should not be done.
            expected = target.output if isinstance(target, Contract) else await fleet.output_class(deadline)
            self._budget.deposit()
            walk = Walk(fleet, call, self._budget, self._metrics, self._clock, self._rng)
            walk.trace = trace
            hedge = self._hedge if options.hedge is None else options.hedge
            answer = await walk.run(Work(agent, context, input), options.idempotent, hedge=hedge)
            output: Any = _unpack(agent, answer, expected)
            reason, failure = "OK", None
        except AtomeshError as error:
            reason, failure = reason_of(error), error
            error.attempts = tuple(call.attempts)
            error.origin = _fill(error.origin, agent, context.request_id)
            raise
        finally:
            series.call(reason, self._clock.now() - begun)
            if call.queue_wait:
                series.queue_seconds.observe(call.queue_wait)
            if trace is not None:
                trace.end(failure, call)
        return Reply(output, answer, agent, tuple(call.attempts), call.queue_wait)

    @overload
    def stream(
        self, target: StreamContract[In, Chunk, Out], input: In, **options: Unpack[StreamOptions]
    ) -> Stream[Chunk, Out]: ...

    @overload
    def stream(self, target: Contract[In, Out], input: In, **options: Unpack[StreamOptions]) -> Stream[Any, Out]: ...

    @overload
    def stream(self, target: str, input: Message, **options: Unpack[StreamOptions]) -> Stream[Any, Any]: ...

    def stream(
        self, target: str | Contract[Any, Any], input: Message, **options: Unpack[StreamOptions]
    ) -> Stream[Any, Any]:
        """A call whose output comes in chunks: `async with mesh.stream(...) as stream: async for chunk in stream`.

        Takes the options of `call`. An agent without chunks gives none. `stream.output`
        is there after the last chunk; `await stream.result()` reads to the end for it.
        """
        return Stream(self, target, input, CallOptions(**options))

    async def contract(self, agent: str) -> Contract[Message, Message]:
        """The contract that the agent's endpoints speak, with classes made from its descriptors.

        Raises:
            UnknownAgent: no such agent.
        """
        loaded = (await self.describe(agent)).load()
        return Contract(agent, loaded.input, loaded.output, chunk=loaded.chunk)

    async def describe(self, agent: str) -> ContractDescriptor:
        """The same as data. It is asked for once, as long as the agent's endpoints show the same hash.

        Raises:
            UnknownAgent: no such agent.
        """
        fleet = await self._all_fleets.meet(agent, "", self._clock.now() + self._timeout)
        return await fleet.described()

    async def meet(self, agent: str, version: str = "", timeout: float | None = None) -> None:
        """Returns once the agent is known, with an endpoint in the version range if one is given.

        Raises:
            UnknownAgent, NoEndpoint, RegistryUnavailable, DeadlineExceeded: as a call does.
        """
        deadline, _ = self._scope(CallOptions(timeout), self._clock.now())
        await self._all_fleets.meet(agent, version, deadline)

    def endpoints(self, agent: str, version: str = "") -> tuple[Endpoint, ...]:
        """The agent's endpoints as the resolver last told of them; none before the agent was met or called."""
        return self._all_fleets.endpoints(agent, version)

    def capacity(self, agent: str, version: str = "") -> Capacity:
        """What the agent's endpoints could take now; nothing before it was met or called.

        A version range that calls ask for counts by itself, with the calls that ask for it.
        """
        fleet = self._all_fleets.get(agent, version)
        return Capacity() if fleet is None else fleet.balancer.capacity(self._clock.now())

    async def capacity_changed(self, agent: str, version: str = "", *, since: Capacity | None = None) -> None:
        """Returns when endpoints or slots are others than in `since`, or else than now. Meets the agent first.

        What calls take and free is no change: whoever makes them knows.

        Raises:
            UnknownAgent, NoEndpoint, RegistryUnavailable: as a call does.
            Cancelled: the client was closed.
        """
        size = (since or self.capacity(agent, version)).size
        fleet = await self._all_fleets.meet(agent, version, self._clock.now() + self._timeout)
        await fleet.resized(size)

    def circuit(self, agent: str, version: str = "") -> Circuit:
        """Whether calls of the agent get through, as far as failures go; closed before it was met or called."""
        fleet = self._all_fleets.get(agent, version)
        return Circuit.CLOSED if fleet is None else fleet.balancer.circuit

    def _scope(self, options: CallOptions, now: float) -> tuple[float, Context]:
        """The call's deadline and context, from what is said and from the execution that it is made in."""
        timeout = None if options.timeout is None else _check_timeout(options.timeout)
        scope = current_scope()
        if scope is None:
            context = options.context or Context.begun(self._clock.wall())
            deadline = now + (self._timeout if timeout is None else timeout)
        else:
            inherited = scope.child()
            context = inherited
            if options.context is not None:
                request_id = options.context.request_id or inherited.request_id
                traceparent = options.context.traceparent or inherited.traceparent
                context = replace(options.context, via=inherited.via, request_id=request_id, traceparent=traceparent)
            deadline = scope.deadline if timeout is None else min(scope.deadline, now + timeout)
        if not context.request_id or context.timestamp is None:
            timestamp = self._clock.wall() if context.timestamp is None else context.timestamp
            context = replace(context.with_request_id(), timestamp=timestamp)
        return deadline, context

    @staticmethod
    def _check_type(fleet: Fleet, input: Message) -> None:
        given = input.DESCRIPTOR.full_name if isinstance(input, Message) else f"a {type(input).__name__}"
        for candidate in fleet.balancer.candidates.values():
            expected = candidate.endpoint.input_type
            if expected and given != expected:
                raise errors.WrongType(f"{fleet.agent} takes {expected}, not {given}")
            return


def _check_timeout(seconds: float) -> float:
    if not 0 < seconds < 1e9:  # nor is NaN
        raise errors.InvalidArgument(f"timeout {seconds!r} s is not a positive number of seconds")
    return seconds


def _unpack(agent: str, answer: Answer, expected: type[Message]) -> Message:
    if answer.type_name != expected.DESCRIPTOR.full_name:
        wrong = f"a message of type {answer.type_name or '(none)'!s:.200}; expected {expected.DESCRIPTOR.full_name}"
        raise errors.InvalidOutput(f"{agent} answered with what its contract does not name: {wrong}")
    try:
        return expected.FromString(answer.output)
    except DecodeError:
        wrong = f"{len(answer.output)} bytes that do not parse as {answer.type_name}"
        raise errors.InvalidOutput(f"{agent} answered with what its contract does not name: {wrong}") from None


def _fill(origin: Origin, agent: str, request_id: str) -> Origin:
    return replace(origin, agent=origin.agent or agent, request_id=origin.request_id or request_id)
