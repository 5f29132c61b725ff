"""The life of an agent's providers: started in order, closed in the reverse, asked before each execution."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from typing import Any

from atomesh.agents.context import ContextProvider, ExecutionContext
from atomesh.core.errors import AtomeshError, Conflict

log = logging.getLogger(__name__)


class Providers:
    """The providers of one served agent."""

    def __init__(self, agent: str, providers: Mapping[type, ContextProvider[Any]]) -> None:
        """By the class that they are asked for under; a replacement stands under the class that it replaces."""
        self._agent = agent
        self._providers = providers
        self._started: list[tuple[type, ContextProvider[Any]]] = []

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._providers)

    async def start(self) -> None:
        """Starts all; where one fails, those before it are closed again.

        Raises:
            Conflict: one failed; it says which and why.
        """
        for kind, provider in self._providers.items():
            try:
                await provider.start()
            except Exception as error:
                await self.close()
                log.debug("provider %s of %s did not start", kind.__name__, self._agent, exc_info=error)
                raise Conflict(
                    f"agent {self._agent}: its provider {kind.__name__} did not start: {told(error)}"
                ) from error
            self._started.append((kind, provider))

    async def close(self) -> None:
        """Closes what was started, last first; one that fails is logged and does not keep the others open."""
        while self._started:
            kind, provider = self._started.pop()
            try:
                await provider.close()
            except Exception:
                log.exception("agent %s: its provider %s did not close", self._agent, kind.__name__)

    async def fill(self, provided: dict[type, Any], context: ExecutionContext) -> None:
        """Asks all for what they give this execution."""
        for kind, provider in self._providers.items():
            given = provider.provide(context)
            provided[kind] = await given if inspect.isawaitable(given) else given


def told(error: Exception) -> str:
    """An exception in one line, for people: its own words where it has some."""
    words = error.message if isinstance(error, AtomeshError) else str(error)
    line = " ".join(words.split())
    return f"{type(error).__name__}: {line}" if line else type(error).__name__
