"""Choose, try, eject, measure: the client side of the mesh."""

from atomesh.balancer.blocking import BlockingClient, BlockingStream
from atomesh.balancer.breaker import Breaker
from atomesh.balancer.capacity import Capacity
from atomesh.balancer.circuit import Circuit
from atomesh.balancer.client import CallOptions, Client, Reply
from atomesh.balancer.metrics import ClientMetrics
from atomesh.balancer.policies import DEFAULT_POLICY, POLICIES
from atomesh.balancer.resolver import RegistryResolver, Resolver, StaticResolver
from atomesh.balancer.stream import Stream

__all__ = [
    "DEFAULT_POLICY",
    "POLICIES",
    "BlockingClient",
    "BlockingStream",
    "Breaker",
    "CallOptions",
    "Capacity",
    "Circuit",
    "Client",
    "ClientMetrics",
    "RegistryResolver",
    "Reply",
    "Resolver",
    "StaticResolver",
    "Stream",
]
