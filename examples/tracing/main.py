"""One letter through two agents, of which one is tried twice: a trace of three services, exported over OTLP."""

import asyncio
import importlib.util
import os
import sys

from google.protobuf.wrappers_pb2 import StringValue

from atomesh.agents import Agent, AgentFailed, AgentServer, ContextProvider, ExecutionContext
from atomesh.balancer import Client

if importlib.util.find_spec("opentelemetry") is None:
    print('examples/tracing needs OpenTelemetry: pip install "atomesh[tracing]"')
    sys.exit(int(os.environ.get("CI") == "true"))

from collector import Collector

from atomesh.rpc.otlp import open_otlp


class Mesh(ContextProvider[Client]):
    """A client that knows nothing of traces: calls made in an execution are traced with it."""

    def __init__(self, text: str = "127.0.0.1:7500") -> None:
        self._text = text

    async def start(self) -> None:
        self._client = Client(endpoints=[self._text])

    def provide(self, context: ExecutionContext) -> Client:
        return self._client

    async def close(self) -> None:
        await self._client.close()


class Desk(Agent[StringValue, StringValue]):
    """Asks for the mood of a letter."""

    name = "desk"
    providers = (Mesh(),)

    async def execute(self, input: StringValue, context: ExecutionContext) -> StringValue:
        mood: StringValue = await context[Mesh].call("moods", input)
        return StringValue(value="complaints" if mood.value == "angry" else "thanks")


class Moods(Agent[StringValue, StringValue]):
    """Has an off moment, and says that another try may go well."""

    name = "moods"
    idempotent = True
    tired = True

    async def execute(self, input: StringValue, context: ExecutionContext) -> StringValue:
        if self.tired:
            self.tired = False
            raise AgentFailed("one moment", reason="TIRED", retryable=True)
        return StringValue(value="angry" if "hate" in input.value else "glad")


async def main() -> None:
    async with Collector() as collector:
        async with (
            open_otlp(collector.url, service="caller") as caller,
            open_otlp(collector.url, service="desk") as desk,
            open_otlp(collector.url, service="moods") as moods,
            AgentServer(Moods(), tracer=moods) as behind,
            AgentServer(Desk(), tracer=desk, providers={Mesh: Mesh(behind.address)}) as front,
            Client(endpoints=[front.address], tracer=caller) as mesh,
        ):
            answer = await mesh.call("desk", StringValue(value="I hate it."))
            print(f"the letter goes to {answer.value}")
        collector.show()  # whatever opens a tracer has sent all of it when it closes


if __name__ == "__main__":
    asyncio.run(main())
