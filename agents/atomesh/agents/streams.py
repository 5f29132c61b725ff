"""How an agent that answers in chunks runs: as fast as its caller reads, and no faster.

Each chunk is checked against the contract and has been taken by the caller's
connection before the author's generator is asked for the next one: this holds
one chunk, and HTTP/2's window for the stream holds what is on the way. All of it
happens in the task of the call, so a deadline, a drain or a caller that leaves
reaches the author's generator wherever it is, and its `finally` has run before
the slot is free.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

from google.protobuf.message import Message

from atomesh.agents.agent import StreamingAgent
from atomesh.agents.context import ExecutionContext
from atomesh.agents.failures import fields, log
from atomesh.agents.spec import AgentSpec
from atomesh.core.errors import AgentCrashed, InvalidOutput
from atomesh.core.rules import rules_for
from atomesh.rpc.channel import MAX_MESSAGE_BYTES

Send: TypeAlias = Callable[[Message], Awaitable[None]]
"""Takes a chunk; returns once the caller's connection has."""

_MAX_CHUNK = MAX_MESSAGE_BYTES - 1024  # what surrounds a chunk: its type's name and framing


class Streaming:
    """Runs the streams of one agent."""

    def __init__(self, agent: StreamingAgent[Any, Any, Any], spec: AgentSpec) -> None:
        """`spec` is the agent's own, so its contract has chunks."""
        assert spec.contract.chunk is not None, "the contract of a streaming agent has chunks"
        self._agent = agent
        self._name = spec.name
        self._chunk: type[Message] = spec.contract.chunk
        self._output: type[Message] = spec.contract.output
        self._rules = rules_for(spec.contract.descriptor.hash)

    async def run(self, message: Message, context: ExecutionContext, send: Send | None) -> Message:
        """The output, once every chunk before it has been sent; without `send` they are dropped.

        Raises:
            AgentCrashed, InvalidOutput: what the agent yields is not what its contract says.
        """
        output: Message | None = None
        chunks = 0
        items = self._agent.stream(message, context)
        try:
            async for item in items:
                _check_cancelled()
                if output is not None:
                    raise InvalidOutput(
                        f"{self._name} went on after its output, with {type(item).__name__}; yield the output last",
                        output=output,
                    )
                if isinstance(item, self._output):
                    output = item
                    continue
                chunks += 1
                self._check(item, chunks)
                if send is not None:
                    await send(item)
        finally:
            await self._close(items, context)
        if output is None:
            raise AgentCrashed(f"{self._name} ended after {chunks} chunks without its output; yield one last")
        return output

    def _check(self, item: Message, number: int) -> None:
        """Lets a chunk pass."""
        if not isinstance(item, self._chunk):
            raise AgentCrashed(
                f"{self._name} yielded {type(item).__name__}, its contract says {self._chunk.__name__} "
                f"and last {self._output.__name__}"
            )
        if violations := self._rules.check(item):
            broken = "; ".join(map(str, violations))
            raise InvalidOutput(f"invalid chunk {number}: {broken}", output=item, violations=violations)
        if (size := item.ByteSize()) > _MAX_CHUNK:
            raise AgentCrashed(
                f"{self._name}: chunk {number} has {size} bytes, and {_MAX_CHUNK} can be sent; yield it in several"
            )

    async def _close(self, items: AsyncIterator[Any], context: ExecutionContext) -> None:
        """Has the author's generator clean up; what goes wrong there hides nothing that went wrong before."""
        close: Callable[[], Awaitable[None]] | None = getattr(items, "aclose", None)
        if close is None:
            return
        try:
            await close()
        except Exception:  # noqa: BLE001 # the author's code
            log.exception("%s: its stream did not close", self._name, extra=fields(context))


def _check_cancelled() -> None:
    """Ends a stream whose author has caught the cancellation and yields on."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
