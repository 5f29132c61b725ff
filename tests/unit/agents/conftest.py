import random
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from atomesh.agents import Agent
from atomesh.agents.admission import Admission
from atomesh.agents.calls import Where
from atomesh.agents.metrics import AgentMetrics
from atomesh.agents.served import ServedAgent
from atomesh.agents.spec import resolve
from atomesh.core.clock import Clock
from atomesh.core.context import Context
from atomesh.core.errors import AtomeshError
from atomesh.testing import VirtualClock
from atomesh.text.v1.text_pb2 import TextInput


class FakeCall:
    """A call without a wire: what a door would hand in."""

    def __init__(
        self,
        content: str = "hello",
        timeout: float | None = 10.0,
        no_wait: bool = False,
        context: Context | None = None,
    ) -> None:
        self.context = (context or Context()).with_request_id()
        self._content = content
        self._timeout = timeout
        self._no_wait = no_wait
        self.answered: list[AtomeshError] = []

    def read(self, expected: type) -> Any:
        assert expected is TextInput
        return TextInput(content=self._content, operation="sentiment")

    def timeout(self) -> float | None:
        return self._timeout

    typed = False

    def no_wait(self) -> bool:
        return self._no_wait

    def answer(self, error: AtomeshError) -> None:
        self.answered.append(error)


def serve_here(agent: Agent[Any, Any], clock: Clock | None = None, default_timeout: float = 30.0) -> ServedAgent:
    spec = resolve(agent)
    where = Where("instance-1", lambda: "127.0.0.1:1", clock or VirtualClock(), default_timeout)
    registry = CollectorRegistry()
    admission = Admission(spec.name, spec.slots, rng=random.Random(1))
    served = ServedAgent(agent, spec, where, admission, AgentMetrics(registry).bind(admission))
    served.registry = registry  # type: ignore[attr-defined] # for the test to read
    return served


@pytest.fixture
def call() -> type[FakeCall]:
    return FakeCall


@pytest.fixture
def served() -> Callable[..., ServedAgent]:
    return serve_here
