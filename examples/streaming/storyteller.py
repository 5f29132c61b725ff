"""An agent that answers as it goes: the lines of a story one by one, then the whole of it."""

from collections.abc import AsyncIterator

from google.protobuf.struct_pb2 import ListValue
from google.protobuf.wrappers_pb2 import StringValue

from atomesh.agents import ExecutionContext, StreamingAgent
from atomesh.core import SYSTEM_CLOCK, StreamContract

STORY = StreamContract("storyteller", StringValue, ListValue, chunk=StringValue)
LINES = (
    "{} went out one morning.",
    "It rained, and nobody else was about.",
    "At the corner stood a cat, who said nothing.",
    "{} said nothing either.",
    "So they went home together.",
)


class Storyteller(StreamingAgent[StringValue, StringValue, ListValue]):
    """Tells a story about somebody, line by line."""

    name = "storyteller"
    slots = 1

    async def stream(self, input: StringValue, context: ExecutionContext) -> AsyncIterator[StringValue | ListValue]:
        story = ListValue()
        try:
            for line in LINES:
                await SYSTEM_CLOCK.sleep(0.05)  # where a model would think
                said = line.format(input.value)
                print(f"  storyteller: line {len(story) + 1}")
                yield StringValue(value=said)  # goes on when the caller has room for more
                story.append(said)
            yield story  # the output, last: what a caller that wants no chunks gets
        finally:
            print("  storyteller: done" if len(story) == len(LINES) else "  storyteller: nobody listens any more")
