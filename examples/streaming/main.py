"""A stream read to its end, one left in the middle, and the same agent called for its output alone."""

import asyncio

from google.protobuf.wrappers_pb2 import StringValue
from storyteller import STORY, Storyteller

from atomesh.agents import AgentServer
from atomesh.balancer import Client
from atomesh.registry import MemoryStorage, RegistryServer


async def main() -> None:
    async with (
        RegistryServer(bind="127.0.0.1:0", storage=MemoryStorage()) as registry,
        AgentServer(Storyteller(), bind="127.0.0.1:0", registry=registry.address) as server,
        Client(registry.address) as mesh,
    ):
        await server.registered.wait()

        print("to its end:")
        async with mesh.stream(STORY, StringValue(value="Zoë"), timeout=10) as stream:
            async for line in stream:  # typed: StringValue
                print(line.value)
        print(f"{len(stream.output)} lines in all")  # typed: ListValue

        print("left in the middle:")
        async with mesh.stream(STORY, StringValue(value="Ada"), timeout=10) as stream:
            async for line in stream:
                print(line.value)
                break  # leaving the `async with` ends the work, and its only slot is free

        story = await mesh.call(STORY, StringValue(value="Eve"))
        print(f"its output alone: {story[-1]}")


if __name__ == "__main__":
    asyncio.run(main())
