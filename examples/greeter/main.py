"""A contract, an agent, and every way that a call of it can end: compiled, served and called in one process."""

import asyncio
import subprocess
import sys
from pathlib import Path

from atomesh.agents import AgentFailed, AgentServer, InvalidInput
from atomesh.balancer import Client
from atomesh.core import Contract
from atomesh.registry import MemoryStorage, RegistryServer

HERE = Path(__file__).parent
GENERATED = HERE / "generated"


def compile_contract() -> None:
    """What `atomesh proto compile protos --out generated` does, and importable from then on."""
    command = [sys.executable, "-m", "atomesh", "proto", "compile", "protos", "--out", str(GENERATED)]
    subprocess.run(command, cwd=HERE, check=True, capture_output=True)
    sys.path.insert(0, str(GENERATED))


async def main() -> None:
    # Only now, since the contract's Python is made when this starts.
    from greeter.v1.greeter_pb2 import Greeting, Name
    from greeting_agent import Greeter

    contract = Contract("greeter", Name, Greeting)
    async with (
        RegistryServer(bind="127.0.0.1:0", storage=MemoryStorage()) as registry,
        AgentServer(Greeter(), bind="127.0.0.1:0", registry=registry.address) as server,
        Client(registry.address) as mesh,
    ):
        await server.registered.wait()
        greeting = await mesh.call(contract, Name(name="Zoë"), timeout=5)
        print(greeting.text)

        try:
            await mesh.call(contract, Name(name="", times=9))
        except InvalidInput as error:  # refused before `execute` saw it
            for violation in error.violations:
                print(f"invalid: {violation.field}: {violation.message}")

        try:
            await mesh.call(contract, Name(name="Voldemort"))
        except AgentFailed as error:  # as the agent raised it
            print(f"failed: {error.message} ({error.reason}, {error.data}) says {error.origin.agent}")


if __name__ == "__main__":
    compile_contract()
    asyncio.run(main())
