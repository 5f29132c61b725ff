"""One call through two agents: the request id, the user and the deadline are the same in both."""

import asyncio

from desk import DESK, Desk, Mesh
from google.protobuf.wrappers_pb2 import StringValue

from atomesh.agents import AgentServer, Context, ExecutionContext
from atomesh.agents.builtin.text.agent import TextProcessor
from atomesh.balancer import Client
from atomesh.registry import MemoryStorage, RegistryServer
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

LETTERS = ("I love it, thank you!", "This is terrible, I hate it.")


class TalkingText(TextProcessor):
    """The text agent, which says who calls it."""

    async def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
        way = " > ".join([*context.via, context.agent])
        print(f"  {way}: request {context.request_id} of {context.user_id}, {context.remaining():.1f} s left")
        return await super().execute(input, context)


async def main() -> None:
    async with RegistryServer(bind="127.0.0.1:0", storage=MemoryStorage()) as registry:
        at = registry.address
        async with (
            AgentServer(TalkingText(), bind="127.0.0.1:0", registry=at) as text,
            AgentServer(Desk(), bind="127.0.0.1:0", registry=at, providers={Mesh: Mesh(at)}) as desk,
            Client(at) as mesh,
        ):
            await asyncio.gather(text.registered.wait(), desk.registered.wait())
            for number, letter in enumerate(LETTERS, start=1):
                asks = Context(request_id=f"letter-{number}", user_id="Zoë")
                answer = await mesh.call(DESK, StringValue(value=letter), context=asks, timeout=4)
                print(f"letter-{number} goes to {answer.value}")


if __name__ == "__main__":
    asyncio.run(main())
