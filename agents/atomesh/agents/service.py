"""AgentService beside Execute: what the agents here are, how they fare, and out of service."""

from __future__ import annotations

from collections.abc import Mapping

from atomesh.agents.doors import ExecuteDoor, Guard, ServicerContext, StreamDoor, unknown
from atomesh.agents.drain import Drainer
from atomesh.agents.mux_door import MuxDoor
from atomesh.agents.served import ServedAgent
from atomesh.core.clock import Clock
from atomesh.rpc.credentials import Credentials
from atomesh.v1 import agent_pb2


class AgentService:
    """The servicer, for all agents of the process."""

    def __init__(
        self,
        agents: Mapping[str, ServedAgent],
        mux: MuxDoor,
        guard: Guard,
        drainer: Drainer,
        credentials: Credentials,
        clock: Clock,
    ) -> None:
        """Uptime counts from here."""
        self._agents = agents
        self._drainer = drainer
        self._credentials = credentials
        self._clock = clock
        self._since = clock.now()
        self.Execute = ExecuteDoor(agents, guard).execute
        self.ExecuteStream = StreamDoor(agents, mux.claim, guard).execute
        self.Mux = mux.serve

    async def Describe(  # noqa: N802 # gRPC's name
        self, request: agent_pb2.DescribeRequest, context: ServicerContext
    ) -> agent_pb2.DescribeResponse:
        """Contract, capabilities and slots of one agent, or of all."""
        del context
        return agent_pb2.DescribeResponse(
            agents=[served.spec.describe(served.where.instance_id) for served in self._asked(request.agent)]
        )

    async def Health(  # noqa: N802 # gRPC's name
        self, request: agent_pb2.HealthRequest, context: ServicerContext
    ) -> agent_pb2.HealthResponse:
        """State, load and counts of one agent, or of all."""
        del context
        response = agent_pb2.HealthResponse()
        for served in self._asked(request.agent):
            health = response.agents.add(
                agent=served.spec.name,
                state=agent_pb2.ServingState.ValueType(self._drainer.state(served.spec.name)),
                load=served.admission.load().to_proto(),
                instance_id=served.where.instance_id,
            )
            health.uptime.FromNanoseconds(int((self._clock.now() - self._since) * 1e9))
        return response

    async def Drain(  # noqa: N802 # gRPC's name
        self, request: agent_pb2.DrainRequest, context: ServicerContext
    ) -> agent_pb2.DrainResponse:
        """Begins to drain one agent, or all."""
        self._credentials.check_token(context.invocation_metadata())
        asked = self._asked(request.agent)
        grace = request.grace.seconds + request.grace.nanos / 1e9 if request.HasField("grace") else None
        self._drainer.begin([served.spec.name for served in asked], grace)
        return agent_pb2.DrainResponse(in_flight=sum(served.admission.in_flight for served in asked))

    def _asked(self, name: str) -> list[ServedAgent]:
        if not name:
            return [self._agents[known] for known in sorted(self._agents)]
        if name not in self._agents:
            raise unknown(name, self._agents)
        return [self._agents[name]]
