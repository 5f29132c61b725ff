"""What the clients of bench_registry send: endpoints of a fleet, as bytes made beforehand.

Endpoint i belongs to agent i // 10, so that a look-up by name finds ten
whatever there is beside them; the first ten and the first thousand endpoints
have a capability of their own, for look-ups that find as many. Everything
follows from i: whoever registered it, anybody here knows its lease and its address.
"""

from __future__ import annotations

import functools

from google.protobuf import descriptor_pb2, duration_pb2

from atomesh.core.contract import describe
from atomesh.text.v1 import text_pb2
from atomesh.v1 import agent_pb2, registry_pb2

SIBLINGS = 10
"""Endpoints of an agent."""
CONTRACTS = 24
"""Contracts that a fleet speaks; an agent's endpoints all speak one."""
TTL = 3600.0
"""Seconds. Nothing is renewed here unless renewals are what is measured."""
FIND = {"capability_10": "found-by-ten", "capability_1000": "found-by-thousand"}
"""Capabilities that so many endpoints have."""

CONTRACT_SIZES = ("rules", "lean")
"""`rules`: the text agent's contract, with the rules' own file in its closure, 72 kB.
`lean`: the same messages without rules, 2 kB: what is measured then is the registry, not the copying."""


def agent_of(number: int, siblings: int = SIBLINGS) -> str:
    """The agent that an endpoint is a copy of; with `siblings` 0 all are of one."""
    return f"agent-{number // siblings:05d}" if siblings else "agent-of-all"


def spec(number: int, siblings: int = SIBLINGS) -> registry_pb2.EndpointSpec:
    """What an endpoint says of itself: about 400 bytes."""
    group = number // 10
    names = [f"skill-{group % 199:03d}", f"language-{group % 23:02d}", f"domain-{group % 61:02d}"]
    names += [name for name, below in ((FIND["capability_10"], 10), (FIND["capability_1000"], 1000)) if number < below]
    return registry_pb2.EndpointSpec(
        agent=agent_of(number, siblings),
        address=f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}:7100",
        instance_id=f"{number:032x}",
        version="1.4.2",
        capabilities=[agent_pb2.Capability(name=name, score=0.8) for name in names],
        slots=8,
        idempotent=True,
        labels=labels(number, "stable"),
        zone=f"zone-{number % 3}",
        metadata={"host": f"host-{number // 4:06d}.example", "pid": str(1000 + number % 30_000), "python": "3.11.7"},
    )


def labels(number: int, track: str) -> dict[str, str]:
    """An endpoint's labels."""
    return {"tier": f"tier-{number % 4}", "team": f"team-{number // 10 % 17}", "track": track}


@functools.cache
def contract(number: int, size: str) -> agent_pb2.Contract:
    """One of the fleet's contracts: the text agent's messages, in a package of their own."""
    whole = describe(text_pb2.TextInput, text_pb2.TextOutput)
    files = descriptor_pb2.FileDescriptorSet.FromString(whole.descriptor_set)
    if size == "lean":
        _strip_rules(files)
    # As long as what it stands for, so that it can be put in its place in serialized descriptors.
    package = f"bench.text{number:02d}.v1"
    raw = files.SerializeToString()
    for old, new in (("atomesh.text.v1", package), ("atomesh/text/v1", package.replace(".", "/"))):
        raw = raw.replace(old.encode(), new.encode())
    return agent_pb2.Contract(
        input_type=f"{package}.TextInput", output_type=f"{package}.TextOutput", descriptor_set=raw
    )


def _strip_rules(files: descriptor_pb2.FileDescriptorSet) -> None:
    text = files.file[-1]
    pending = list(text.message_type)
    while pending:
        message = pending.pop()
        pending += message.nested_type
        message.ClearField("options")
        for part in (*message.field, *message.oneof_decl):
            part.ClearField("options")
    rules = "buf/validate/validate.proto"
    text.dependency[:] = [name for name in text.dependency if name != rules]
    kept = [file for file in files.file if file.name in text.dependency or file is text]
    copy = descriptor_pb2.FileDescriptorSet(file=kept)
    files.CopyFrom(copy)


@functools.cache
def _tail(number: int, size: str) -> bytes:
    ttl = duration_pb2.Duration(seconds=int(TTL))
    return registry_pb2.RegisterRequest(contract=contract(number, size), ttl=ttl).SerializeToString()


def head(number: int, siblings: int = SIBLINGS) -> bytes:
    """A registration without its contract and ttl."""
    return registry_pb2.RegisterRequest(spec=spec(number, siblings)).SerializeToString()


def tail(number: int, size: str, siblings: int = SIBLINGS) -> bytes:
    """The rest of it, the same object for all who speak that contract."""
    return _tail(number // siblings % CONTRACTS if siblings else 0, size)


def registration(number: int, size: str, siblings: int = SIBLINGS) -> bytes:
    """A RegisterRequest: bytes of parts of a message, joined, are the message (protobuf's encoding, "last one wins")."""
    return head(number, siblings) + tail(number, size, siblings)


def lease_id(number: int) -> str:
    """The lease of an endpoint in a store that was filled beforehand; a real one is random."""
    return f"{number:032x}"


def update(lease: str, number: int, track: str) -> bytes:
    """An UpdateRequest that changes a label."""
    changed = registry_pb2.Labels(labels=labels(number, track))
    return registry_pb2.UpdateRequest(lease_id=lease, labels=changed).SerializeToString()


def renewal(leases: list[str], turn: int) -> bytes:
    """A RenewRequest of one process, with the loads of its endpoints after so many turns."""
    loads = [
        agent_pb2.Load(
            slots=8,
            in_flight=turn % 8,
            executions=1000 + 40 * turn,
            failures=turn // 10,
            busy=duration_pb2.Duration(seconds=100 + 2 * turn, nanos=5_000_000),
        )
        for _ in leases
    ]
    renewals = [registry_pb2.Renewal(lease_id=lease, load=load) for lease, load in zip(leases, loads, strict=True)]
    return registry_pb2.RenewRequest(renewals=renewals).SerializeToString()


def lookup(kind: str, number: int) -> bytes:
    """A DiscoverRequest by name or by one of the capabilities in FIND."""
    if kind == "name":
        selector = registry_pb2.Selector(agent=agent_of(number))
    else:
        selector = registry_pb2.Selector(capabilities=[FIND[kind]])
    return registry_pb2.DiscoverRequest(selector=selector).SerializeToString()


def watch(number: int, *, distinct: bool) -> bytes:
    """A WatchRequest for the first agent; `distinct` ones match the same, and no two are equal."""
    version = f">=0.{number}.0" if distinct else ""
    selector = registry_pb2.Selector(agent=agent_of(0), version=version)
    return registry_pb2.WatchRequest(selector=selector).SerializeToString()
