"""What an author writes: one class with one method.

The contract is the class's two type arguments, `Agent[TextInput, TextOutput]`,
or its three where it answers in chunks, `StreamingAgent[Topic, Paragraph, Essay]`;
everything else about it are class attributes with defaults, which whoever
serves it may override.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar, cast, get_args, get_origin

from google.protobuf.message import Message

from atomesh.agents.context import ContextProvider, ExecutionContext
from atomesh.core.contract import Contract
from atomesh.core.endpoint import Capability
from atomesh.core.errors import InvalidArgument

In = TypeVar("In", bound=Message)
Chunk = TypeVar("Chunk", bound=Message)
Out = TypeVar("Out", bound=Message)

DEFAULT_SLOTS = 4
"""Executions at once. Most agents wait for something (a model, a database) and
four of them cost little; at 1 a single slow call would make an endpoint
refuse, at 64 an author who never thought of it would run 64 threads."""


class Agent(ABC, Generic[In, Out]):
    """Base of all agents.

    class Greeter(Agent[Name, Greeting]):
        name = "greeter"

        async def execute(self, input: Name, context: ExecutionContext) -> Greeting:
            return Greeting(text=f"Hello, {input.name}")

    `execute` may be `async def`, run in the event loop, or a plain `def`, run
    on one of exactly `slots` threads of this agent with its context variables.
    A thread cannot be stopped: a plain `def` keeps its slot until it returns.
    """

    name: ClassVar[str] = ""
    """The same for all endpoints: a-z, 0-9, `.`, `_`, `-`; at most 64."""
    version: ClassVar[str] = "1.0.0"
    """Semver 2.0.0."""
    description: ClassVar[str] = ""
    """A sentence or two; the class's first line of documentation where unset."""
    capabilities: ClassVar[Sequence[str | Capability]] = ()
    """What it can do: words, or `Capability(word, score)`."""
    slots: ClassVar[int] = DEFAULT_SLOTS
    """Executions at once at one endpoint."""
    weight: ClassVar[float] = 1.0
    """How fast an endpoint is beside others of the agent: faster ones are filled first."""
    idempotent: ClassVar[bool] = False
    """Whether the same call may run twice without harm; only then is it tried again."""
    labels: ClassVar[Mapping[str, str]] = {}
    """Pairs to select endpoints by."""
    zone: ClassVar[str] = ""
    """Where it runs."""
    providers: ClassVar[Sequence[ContextProvider[Any]]] = ()
    """What each execution is given: `context[MyProvider]`."""

    @abstractmethod
    def execute(self, input: In, context: ExecutionContext, /) -> Awaitable[Out] | Out:
        """The work. Raise AgentFailed where it cannot be done.

        Cancellation (asyncio.CancelledError in an `async def`) means that the
        deadline has passed or the caller went away: clean up and let it pass.
        """

    async def start(self) -> None:
        """Called once, before anything is served."""

    async def close(self) -> None:
        """Called once, after the last execution, where `start` went well."""


class StreamingAgent(Agent[In, Out], Generic[In, Chunk, Out]):
    """Base of agents that answer as they go: chunks, then the output.

    class Writer(StreamingAgent[Topic, Paragraph, Essay]):
        name = "writer"

        async def stream(self, input: Topic, context: ExecutionContext) -> AsyncIterator[Paragraph | Essay]:
            paragraphs = []
            async for text in model.write(input.title):
                paragraphs.append(text)
                yield Paragraph(text=text)
            yield Essay(text="\n".join(paragraphs))

    Whoever calls it with a plain `Execute` gets the output and no chunks.
    """

    @abstractmethod
    def stream(self, input: In, context: ExecutionContext, /) -> AsyncIterator[Chunk | Out]:
        """The work: an `async def` that yields any number of chunks, and last the output.

        It goes on as fast as its caller reads. Where that one goes away, what it
        awaits is cancelled or, between two chunks, GeneratorExit is raised at
        its `yield`: clean up in `finally`.
        """

    async def execute(self, input: In, context: ExecutionContext, /) -> Out:
        """The output alone."""
        output: Any = None
        async for item in self.stream(input, context):
            output = item
        return cast(Out, output)


def contract_of(agent: type[Agent[Any, Any]], name: str) -> Contract[Message, Message]:
    """The contract that the type arguments of an agent's class name.

    Raises:
        InvalidArgument: there are none, or they are no message classes.
    """
    streams = issubclass(agent, StreamingAgent)
    arguments = _arguments(agent, StreamingAgent if streams else Agent, {})
    if arguments is None or len(arguments) != (3 if streams else 2):
        raise InvalidArgument(f"{agent.__name__} does not say its contract; write class {_example(agent)}")
    for argument in arguments:
        if not (isinstance(argument, type) and issubclass(argument, Message)):
            said = getattr(argument, "__name__", None) or getattr(argument, "__forward_arg__", None) or str(argument)
            raise InvalidArgument(
                f"{agent.__name__}: {said} in its contract is not a protobuf message class; "
                f"import the generated ones and write class {_example(agent)}"
            )
    taken, *chunks, given = arguments
    if chunks == [given]:
        raise InvalidArgument(
            f"{agent.__name__} has chunks of the type of its output, {given.DESCRIPTOR.full_name}, and nobody could "
            "tell its output from a chunk; give the chunks a message of their own"
        )
    return Contract(name, taken, given, chunk=chunks[0] if chunks else None)


def is_async(agent: Agent[Any, Any]) -> bool:
    """Whether `execute` is an `async def`."""
    return inspect.iscoroutinefunction(agent.execute)


def _arguments(cls: type, root: type, known: Mapping[Any, Any]) -> tuple[Any, ...] | None:
    """The arguments that `cls` gives `root`, through any chain of subclasses; type variables filled from `known`."""
    for base in cls.__dict__.get("__orig_bases__", cls.__bases__):
        origin = get_origin(base) or base
        given = tuple(known.get(argument, argument) for argument in get_args(base))
        if origin is root:
            return given
        if isinstance(origin, type) and issubclass(origin, root):
            parameters = getattr(origin, "__parameters__", ())
            if (found := _arguments(origin, root, dict(zip(parameters, given, strict=False)))) is not None:
                return found
    return None


def _example(agent: type) -> str:
    if issubclass(agent, StreamingAgent):
        return f"{agent.__name__}(StreamingAgent[YourInput, YourChunk, YourOutput])"
    return f"{agent.__name__}(Agent[YourInput, YourOutput])"
