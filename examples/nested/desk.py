"""An agent that calls another: a desk that sorts letters by how their writers feel."""

from google.protobuf.wrappers_pb2 import StringValue

from atomesh.agents import Agent, ContextProvider, ExecutionContext
from atomesh.balancer import Client
from atomesh.core import Contract
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

TEXT = Contract("text-processor", TextInput, TextOutput)
DESK = Contract("desk", StringValue, StringValue)


class Mesh(ContextProvider[Client]):
    """Hands every execution the same client, made when the server starts and closed when it ends."""

    def __init__(self, registry: str = "127.0.0.1:7400") -> None:
        self._registry = registry

    async def start(self) -> None:
        self._client = Client(self._registry)

    def provide(self, context: ExecutionContext) -> Client:
        return self._client

    async def close(self) -> None:
        await self._client.close()


class Desk(Agent[StringValue, StringValue]):
    """Says which desk answers a letter."""

    name = "desk"
    capabilities = ("content_analysis",)
    idempotent = True
    providers = (Mesh(),)

    async def execute(self, input: StringValue, context: ExecutionContext) -> StringValue:
        # No request id, user or deadline is handed on here: the client finds them by itself.
        mood = await context[Mesh].call(TEXT, TextInput(content=input.value, operation="sentiment"))
        return StringValue(value="complaints" if mood.result == "negative" else "thanks")
