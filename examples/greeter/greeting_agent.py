"""An agent of one's own: `atomesh serve greeting_agent:Greeter`, with `generated/` importable."""

from greeter.v1.greeter_pb2 import Greeting, Name

from atomesh.agents import Agent, AgentFailed, ExecutionContext


class Greeter(Agent[Name, Greeting]):
    """Greets people by name."""

    name = "greeter"
    capabilities = ("communication",)
    idempotent = True

    async def execute(self, input: Name, context: ExecutionContext) -> Greeting:
        # No length is checked here: the rules of the contract were, before this line.
        if input.name == "Voldemort":
            raise AgentFailed("we do not say that name", reason="FORBIDDEN_NAME", details={"name": input.name})
        return Greeting(text=" ".join([f"Hello, {input.name}!"] * (input.times or 1)))
