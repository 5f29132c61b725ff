"""What an execution is given beside its input: who asks, until when, and what providers provide."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.core.context import DEFAULT_TIMEOUT, Context, Scope, new_request_id
from atomesh.core.errors import InvalidArgument

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class ContextProvider(ABC, Generic[T_co]):
    """Gives every execution of an agent something, such as a database session.

    Declared as `providers = (Sessions(pool_size=4),)` on the agent, read as
    `context[Sessions]` in `execute`, replaced in a test with
    `serve(agent, providers={Sessions: FakeSessions()})`.
    """

    async def start(self) -> None:
        """Called once, before anything is served; what it raises keeps the server from starting."""

    @abstractmethod
    def provide(self, context: ExecutionContext, /) -> Awaitable[T_co] | T_co:
        """Called before each execution, in its slot and in the event loop; `async def` or plain."""

    async def close(self) -> None:
        """Called once, after the last execution, where `start` went well."""


@dataclass(slots=True)  # not frozen, as Scope is not: it would double the price of making one
class ExecutionContext(Scope):
    """One execution: its context, its deadline, and where it runs.

    It is the current scope while `execute` runs, so calls made from inside
    carry on its request id, user, session, trace and deadline by themselves.
    """

    instance_id: str = ""
    provided: Mapping[type, Any] = field(default_factory=dict, repr=False)
    now: Callable[[], float] = field(default=SYSTEM_CLOCK.now, repr=False)
    notes: dict[str, str] | None = None
    """What is said of this execution beside its output; see `note`."""

    @classmethod
    def for_test(
        cls,
        context: Context | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        provided: Mapping[type, Any] | None = None,
    ) -> ExecutionContext:
        """One to call `execute` with directly; `provided` maps provider classes to what they would give."""
        context = (context or Context()).with_request_id()
        return cls(context, SYSTEM_CLOCK.now() + timeout, "test", "test-instance", provided or {})

    def __getitem__(self, provider: type[ContextProvider[T]]) -> T:
        """What the provider gave this execution.

        Raises:
            KeyError: the agent does not declare that provider.
        """
        try:
            return cast(T, self.provided[provider])
        except KeyError:
            raise KeyError(
                f"{self.agent} has no provider {provider.__name__}; declare providers = ({provider.__name__}(),) on it"
            ) from None

    @property
    def request_id(self) -> str:
        """Names this request in logs and errors; never empty."""
        return self.context.request_id

    @property
    def user_id(self) -> str:
        """The user on whose behalf the call is made, as the caller states it; empty where nobody is named."""
        return self.context.user_id

    @property
    def session_id(self) -> str:
        """The user's session; empty where there is none."""
        return self.context.session_id

    @property
    def metadata(self) -> Mapping[str, str]:
        """The caller's own pairs."""
        return self.context.metadata

    @property
    def traceparent(self) -> str:
        """W3C Trace Context; empty where the call is not traced."""
        return self.context.traceparent

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt at one piece of work; empty where the caller gives none."""
        return self.context.idempotency_key

    @property
    def via(self) -> tuple[str, ...]:
        """The agents that the call has passed through, outermost first."""
        return self.context.via

    def note(self, key: str, value: str) -> None:
        """Says something of this execution beside its output: the caller finds it in `reply.info.notes`.

        Raises:
            InvalidArgument: more than 16 notes, a key above 64 bytes, or a value above 1,024.
        """
        if self.notes is None:
            self.notes = {}
        if len(key.encode()) > 64 or len(value.encode()) > 1024 or len(self.notes) >= 16:
            raise InvalidArgument(f"note {key!r:.80} is one of more than 16, or is above 64 bytes, its value 1,024")
        self.notes[key] = value

    def remaining(self) -> float:
        """Seconds until the deadline; 0 once it has passed."""
        return max(0.0, self.deadline - self.now())


def new_instance_id() -> str:
    """Names one start of one process; 128 random bits."""
    return new_request_id()
