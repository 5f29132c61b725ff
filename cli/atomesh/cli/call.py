"""`atomesh call AGENT JSON`: one call of any agent, from its contract alone."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from atomesh.cli._errors import CliError, ExitCode, UsageMistake
from atomesh.cli._output import note, say, say_json, to_json
from atomesh.cli._tracing import Calling, opened_tracer

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from atomesh.balancer import Breaker, CallOptions, Client, Stream
    from atomesh.cli._settings import Settings
    from atomesh.core.errors import Attempt
    from atomesh.core.tracing import Tracer
    from atomesh.v1.agent_pb2 import ExecutionInfo


@dataclass(frozen=True)
class CallFlags(Calling):
    """Flags of `atomesh call`."""

    deadline: Annotated[
        float | None, typer.Option("--deadline", "--timeout", metavar="SECONDS", help="What the call may take [30].")
    ] = None
    policy: Annotated[
        str | None, typer.Option("--policy", help="How an endpoint is picked [late_binding]; docs/client.md has all.")
    ] = None


@dataclass(frozen=True)
class Caller:
    """Who calls, and whom exactly."""

    user: Annotated[str, typer.Option("--user", help="The user on whose behalf.", show_default=False)] = ""
    session: Annotated[str, typer.Option("--session", help="The user's session.", show_default=False)] = ""
    request_id: Annotated[
        str, typer.Option("--request-id", help="Names the request in logs [made up].", show_default=False)
    ] = ""
    meta: Annotated[
        list[str] | None, typer.Option("--meta", metavar="KEY=VALUE", help="A pair that travels along; repeatable.")
    ] = None
    endpoint: Annotated[
        list[str] | None,
        typer.Option("--endpoint", metavar="HOST:PORT", help="Call this address, no registry; repeatable."),
    ] = None


@dataclass(frozen=True)
class Shown:
    """What is printed of a call."""

    as_json: Annotated[bool, typer.Option("--json", help="Output and execution info together, as JSON.")] = False
    stream: Annotated[
        bool, typer.Option("--stream", help="Chunks as they come, one line of JSON each, then the output.")
    ] = False
    info: Annotated[bool, typer.Option("--info", help="Where and how long it ran, on stderr.")] = False


def call(
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="The agent's name.", show_default=False)],
    input: Annotated[  # the word of the contract
        str, typer.Argument(metavar="JSON|@FILE|-", help="The input, as JSON.", show_default=False)
    ],
    flags: CallFlags,
    caller: Caller,
    shown: Shown,
) -> int:
    """Call an agent; the output is JSON on stdout.

    \b
    atomesh call text-processor '{"content": "It works.", "operation": "sentiment"}'
    atomesh call text-processor @input.json --deadline 2 --info
    echo '{"name": "Ada"}' | atomesh call greeter - --endpoint 127.0.0.1:7500
    atomesh call writer '{"title": "Rain"}' --stream
    """
    from atomesh.cli._logging import configure
    from atomesh.cli._settings import load

    settings = load(flags)
    configure(settings, quiet=True)
    return asyncio.run(_call(agent, input, settings, caller, shown))


async def _call(agent: str, argument: str, settings: Settings, caller: Caller, shown: Shown) -> int:
    async with opened_tracer(settings) as tracer:  # left last: a collector that is away keeps nobody from the output
        return await _called(agent, argument, settings, caller, shown, tracer)


async def _called(
    agent: str, argument: str, settings: Settings, caller: Caller, shown: Shown, tracer: Tracer | None
) -> int:
    from atomesh.cli._messages import parse, read_argument, to_data

    text, where = read_argument(argument)
    said = options(settings, caller)
    if not caller.endpoint:
        await check_registry(settings)
    async with open_client(settings, caller.endpoint or [], tracer) as mesh:
        contract = await contract_of(mesh, agent, caller.endpoint or [], settings)
        message = parse(text, where, contract.input)
        ended: Ended
        if shown.stream:
            ended = await _streamed(mesh, contract, message, said)
        else:
            ended = await mesh.execute(contract, message, said)
        output = to_data(ended.output, whole=True)
    if shown.as_json:
        output = {"output": output, "info": to_data(ended.info), "attempts": [str(a) for a in ended.attempts]}
    if shown.stream:
        say(to_json(output, indent=None))
    else:
        say_json(output)
    if shown.info:
        note(told(ended))
    return ExitCode.OK


async def _streamed(mesh: Client, contract: Any, message: Message, said: CallOptions) -> Stream[Any, Any]:
    """A call read to its end, its chunks printed meanwhile, on one line each wherever they go."""
    from atomesh.cli._messages import to_data

    async with mesh.stream(contract, message, timeout=said.timeout, context=said.context) as stream:
        async for chunk in stream:
            say(to_json(to_data(chunk, whole=True), indent=None))
    return stream


def open_client(settings: Settings, endpoints: list[str], tracer: Tracer | None = None) -> Client:
    """A client of the registry, or of these addresses."""
    from atomesh.balancer import Client

    return Client(
        settings.mesh.registry,
        endpoints=endpoints,
        policy=settings.mesh.policy,
        timeout=settings.mesh.deadline,
        breakers={agent: _breaker(text) for agent, text in settings.mesh.breakers.items()},
        credentials=settings.credentials.load(),
        tracer=tracer,
    )


def _breaker(text: str) -> Breaker:
    """The thresholds that `5` or `5/30` stand for: failures in a row, of whatever kind, and seconds at first."""
    from atomesh.balancer import Breaker

    failures, _, seconds = text.partition("/")
    first = float(seconds) if seconds else Breaker().base_seconds
    row = int(failures)
    return Breaker(transport_failures=row, agent_failures=row, max_ejected=1.0, base_seconds=first)


async def check_registry(settings: Settings) -> None:
    """Returns where a registry answers; else says at once what is there instead.

    Raises:
        RegistryUnavailable: nothing answers, or something that is no registry.
    """
    from atomesh.core import Selector
    from atomesh.rpc import RegistryClient

    async with RegistryClient(settings.mesh.registry, settings.credentials.load()) as client:
        await client.discover(Selector(agent="-"))  # no agent is called so: the shortest answer


async def contract_of(mesh: Client, agent: str, endpoints: list[str], settings: Settings) -> Any:
    """The agent's contract, with classes made from its descriptors.

    Raises:
        CliError: no such agent is registered, or none of the addresses answers as it.
    """
    from atomesh.core.errors import UnknownAgent

    try:
        return await mesh.contract(agent)
    except UnknownAgent:
        if not endpoints:
            raise CliError(await no_agent(agent, settings), ExitCode.NOT_FOUND) from None
        raise CliError(
            f"no agent {agent!r:.80} answers at {', '.join(endpoints)}; check the address, and whether it needs TLS",
            ExitCode.UNAVAILABLE,
        ) from None


async def no_agent(agent: str, settings: Settings) -> str:
    """That there is no such agent, with the nearest that there is."""
    import difflib

    from atomesh.core import ALL_STATES, Selector
    from atomesh.rpc import RegistryClient

    async with RegistryClient(settings.mesh.registry, settings.credentials.load()) as client:
        known = await client.discover(Selector(states=ALL_STATES))
    near = difflib.get_close_matches(agent, {endpoint.agent for endpoint in known.endpoints}, n=1)
    hint = f"did you mean {near[0]}?" if near else "`atomesh agents` lists those that are"
    return f"no agent {agent!r:.80} is registered; {hint}"


def options(settings: Settings, caller: Caller) -> Any:
    """How the call is made, from what was said."""
    from atomesh.balancer import CallOptions
    from atomesh.core.context import Context

    context = Context(
        request_id=caller.request_id, user_id=caller.user, session_id=caller.session, metadata=_pairs(caller.meta or [])
    )
    return CallOptions(timeout=settings.mesh.deadline, context=context)


def _pairs(given: list[str]) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in given]
    for key, equals, value in pairs:
        if not (key and equals):
            raise UsageMistake(f"--meta {key + equals + value!r:.80} is not KEY=VALUE")
    return {key: value for key, _, value in pairs}


class Ended(Protocol):
    """A call that went well: a Reply, or a Stream that was read to its end."""

    @property
    def output(self) -> Any:
        """The output."""
        ...

    @property
    def info(self) -> ExecutionInfo:
        """Where and how long it ran."""
        ...

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Those that failed."""
        ...

    @property
    def queue_wait(self) -> float:
        """Seconds in the client's queue."""
        ...


def told(reply: Ended) -> str:
    """Where and how long it ran, in one line."""
    info = reply.info
    ran = info.execution_time.ToNanoseconds() / 1e6
    waited = info.queue_time.ToNanoseconds() / 1e6 + reply.queue_wait * 1000
    tried = f", after {'; '.join(map(str, reply.attempts))}" if reply.attempts else ""
    return (
        f"{info.agent} {info.version} at {info.endpoint} ran {ran:.1f} ms, waited {waited:.1f} ms, "
        f"request {info.request_id}{tried}"
    )
