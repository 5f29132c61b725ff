"""Write an agent, serve it: one class, one method, and everything else comes with it.

class Greeter(Agent[Name, Greeting]):
    name = "greeter"

    async def execute(self, input: Name, context: ExecutionContext) -> Greeting:
        return Greeting(text=f"Hello, {input.name}")

asyncio.run(serve(Greeter(), registry="127.0.0.1:7400"))
"""

from atomesh.agents.agent import Agent, StreamingAgent
from atomesh.agents.context import ContextProvider, ExecutionContext
from atomesh.agents.serve import run_once, run_until_signal, serve
from atomesh.agents.server import AgentServer
from atomesh.agents.settings import ServerOptions, ServerSettings
from atomesh.agents.spec import AgentOptions, AgentSpec
from atomesh.core.context import Context
from atomesh.core.endpoint import Capability
from atomesh.core.errors import AgentFailed, InvalidInput, Violation

__all__ = [
    "Agent",
    "AgentFailed",
    "AgentOptions",
    "AgentServer",
    "AgentSpec",
    "Capability",
    "Context",
    "ContextProvider",
    "ExecutionContext",
    "InvalidInput",
    "ServerOptions",
    "ServerSettings",
    "StreamingAgent",
    "Violation",
    "run_once",
    "run_until_signal",
    "serve",
]
