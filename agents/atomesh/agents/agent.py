"""What an author writes: one class with one method.

The contract is the class's two type arguments, `Agent[TextInput, TextOutput]`;
everything else about it are class attributes with defaults, which whoever
serves it may override.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar, get_args, get_origin

from google.protobuf.message import Message

from atomesh.agents.context import ContextProvider, ExecutionContext
from atomesh.core.contract import Contract
from atomesh.core.endpoint import Capability
from atomesh.core.errors import InvalidArgument

In = TypeVar("In", bound=Message)
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


def contract_of(agent: type[Agent[Any, Any]], name: str) -> Contract[Message, Message]:
    """The contract that the type arguments of an agent's class name.

    Raises:
        InvalidArgument: there are none, or they are no message classes.
    """
    arguments = _arguments(agent, {})
    if arguments is None or len(arguments) != 2:
        raise InvalidArgument(f"{agent.__name__} does not say its contract; write class {_example(agent)}")
    for argument in arguments:
        if not (isinstance(argument, type) and issubclass(argument, Message)):
            said = getattr(argument, "__name__", None) or getattr(argument, "__forward_arg__", None) or str(argument)
            raise InvalidArgument(
                f"{agent.__name__}: {said} in its contract is not a protobuf message class; "
                f"import the generated ones and write class {_example(agent)}"
            )
    return Contract(name, *arguments)


def is_async(agent: Agent[Any, Any]) -> bool:
    """Whether `execute` is an `async def`."""
    return inspect.iscoroutinefunction(agent.execute)


def _arguments(cls: type, known: Mapping[Any, Any]) -> tuple[Any, ...] | None:
    """The arguments that `cls` gives Agent, through any chain of subclasses; type variables filled from `known`."""
    for base in cls.__dict__.get("__orig_bases__", cls.__bases__):
        origin = get_origin(base) or base
        given = tuple(known.get(argument, argument) for argument in get_args(base))
        if origin is Agent:
            return given
        if isinstance(origin, type) and issubclass(origin, Agent):
            parameters = getattr(origin, "__parameters__", ())
            if (found := _arguments(origin, dict(zip(parameters, given, strict=False)))) is not None:
                return found
    return None


def _example(agent: type) -> str:
    return f"{agent.__name__}(Agent[YourInput, YourOutput])"
