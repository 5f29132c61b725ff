"""An agent that works for as long as it is told, a process of its own, and the same over bare grpc.aio.

    python -m benchmarks._work agent REGISTRY SETTINGS
    python -m benchmarks._work bare SETTINGS

SETTINGS is JSON: `slots`, `speeds` ([[from, speed], ...], seconds after the word
`start`), `threads` (whether it works in threads, as a plain `def` does). It says
its address; told `start T` it takes T for the beginning of its speeds, told
`report` it says how many executions it ran, and the most of them at once.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks._drive import clock, pause
from benchmarks._ends import run


class Worker:
    """Works, and counts."""

    def __init__(self, settings: dict[str, Any]) -> None:
        """Nothing runs yet."""
        self.slots = int(settings["slots"])
        self.threads = bool(settings.get("threads"))
        self._speeds = [(float(since), float(speed)) for since, speed in settings.get("speeds", [[0, 1]])]
        self._origin = float("-inf")
        self._running = 0
        self._most = 0
        self._executions = 0

    @property
    def speed(self) -> float:
        """How fast it is now."""
        past = clock() - self._origin if self._origin > float("-inf") else 0.0
        return next(speed for since, speed in reversed(self._speeds) if since <= past)

    @contextmanager
    def execution(self) -> Iterator[Callable[[], dict[str, float]]]:
        """Counts one; what is given tells its times."""
        self._running += 1
        self._executions += 1
        self._most = max(self._most, self._running)
        started, speed = clock(), self.speed
        try:
            yield lambda: {"started": started, "ended": clock(), "speed": speed}
        finally:
            self._running -= 1

    async def work(self, sleep_us: int, spin_us: int) -> dict[str, float]:
        """In the event loop."""
        with self.execution() as times:
            if sleep_us:
                await pause(sleep_us / 1e6 / self.speed)
            spin(spin_us / 1e6 / self.speed)
            return times()

    def work_in_thread(self, sleep_us: int, spin_us: int) -> dict[str, float]:
        """In a thread."""
        with self.execution() as times:
            if sleep_us:
                time.sleep(sleep_us / 1e6 / self.speed)
            spin(spin_us / 1e6 / self.speed)
            return times()

    def listen(self) -> None:
        """Does what stdin says, in the running loop."""

        def told() -> None:
            word, _, rest = sys.stdin.readline().strip().partition(" ")
            if word == "start":
                self._origin = float(rest)
            elif word == "report":
                print(json.dumps({"executions": self._executions, "most_at_once": self._most}), flush=True)

        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), told)


def spin(seconds: float) -> None:
    """Spends so much CPU time of this thread."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


async def serve_agent(registry: str, worker: Worker) -> None:
    """The agent, registered, until killed."""
    from bench.v1 import work_pb2

    from atomesh.agents import Agent, AgentServer, ExecutionContext

    class InLoop(Agent[work_pb2.WorkInput, work_pb2.WorkOutput]):
        name = "work"
        slots = worker.slots
        idempotent = True

        async def execute(self, input: work_pb2.WorkInput, context: ExecutionContext) -> work_pb2.WorkOutput:
            return work_pb2.WorkOutput(**await worker.work(input.sleep_us, input.spin_us))

    class InThreads(Agent[work_pb2.WorkInput, work_pb2.WorkOutput]):
        name = "work"
        slots = worker.slots
        idempotent = True

        def execute(self, input: work_pb2.WorkInput, context: ExecutionContext) -> work_pb2.WorkOutput:
            return work_pb2.WorkOutput(**worker.work_in_thread(input.sleep_us, input.spin_us))

    worker.listen()
    agent = InThreads() if worker.threads else InLoop()
    async with AgentServer(agent, registry=registry) as server:
        await server.registered.wait()
        print(server.address, flush=True)
        await asyncio.Event().wait()


async def serve_bare(worker: Worker) -> None:
    """Over generated code: a semaphore for slots, and calls that find none wait at it in order."""
    import grpc.aio
    from bench.v1 import work_pb2, work_pb2_grpc

    slots = asyncio.Semaphore(worker.slots)

    class Service:
        async def Execute(self, request: Any, context: Any) -> Any:  # noqa: N802 # gRPC's name
            async with slots:
                return work_pb2.WorkOutput(**await worker.work(request.sleep_us, request.spin_us))

    worker.listen()
    server = grpc.aio.server()
    work_pb2_grpc.add_WorkServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    worker = Worker(json.loads(sys.argv[-1]))
    run(serve_agent(sys.argv[2], worker) if sys.argv[1] == "agent" else serve_bare(worker), "asyncio")
