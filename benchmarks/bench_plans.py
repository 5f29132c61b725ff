"""What a plan costs: 1,000 agents of 200 contracts, and questions of every sort.

    python benchmarks/bench_plans.py [--agents 1000] [--contracts 200] [--repeats 20]

Three meshes: `sparse`, where a contract links with a few others; `mapped`,
where most links are mappings, many by way of earlier outputs; `dense`, where
every output could fill every input. Each question is asked of the pure search
with its explanations and pipelines, as `PipelineService.Plan` answers it.
Writes benchmarks/results/plans.json.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from buf.validate import validate_pb2
from google.protobuf import descriptor_pb2
from rich.console import Console
from rich.table import Table

from atomesh.core import Capability, ContractDescriptor, Endpoint, Load
from atomesh.core.contract import load_contract
from atomesh.pipelines.assembly import Catalog, find_plans
from atomesh.v1 import agent_pb2, pipeline_pb2

MESHES = ("sparse", "mapped", "dense")
CAPABILITIES = 40
FIGURES = ("median", "p99", "max", "worst cpu")
_Field = descriptor_pb2.FieldDescriptorProto


@dataclass(frozen=True)
class Mesh:
    """What a registry would show."""

    endpoints: tuple[Endpoint, ...]
    contracts: Mapping[str, ContractDescriptor]
    types: tuple[str, ...]


def mesh(shape: str, agents: int, contracts: int, rng: random.Random) -> Mesh:
    """Agents with one to three endpoints each, spread over the contracts."""
    messages = [f"K{n}" for n in range(contracts * 3 // 4)]
    fields = {name: _fields(shape, rng, place) for place, name in enumerate(messages)}
    made: dict[str, ContractDescriptor] = {}
    while len(made) < contracts:
        taken = rng.randrange(len(messages) - 1)
        given = min(len(messages) - 1, taken + rng.randint(1, 12)) if shape != "dense" else rng.randrange(len(messages))
        if taken != given:
            contract = _contract({name: fields[name] for name in (messages[taken], messages[given])})
            made[contract.hash] = contract
    hashes = sorted(made)
    endpoints = []
    for n in range(agents):
        contract = made[hashes[n % contracts]]
        able = rng.sample(range(CAPABILITIES), rng.randint(0, 3))
        for copy in range(rng.randint(1, 3)):
            endpoints.append(_endpoint(f"agent-{n}", f"127.0.0.1:{copy + 1}", contract, able, rng))
    used = {name for contract in made.values() for name in (contract.input_type, contract.output_type)}
    return Mesh(tuple(endpoints), made, tuple(name for name in map("bench.v1.{}".format, messages) if name in used))


def _endpoint(name: str, address: str, contract: ContractDescriptor, able: list[int], rng: random.Random) -> Endpoint:
    slots, ended = rng.choice([1, 4, 16]), rng.randint(0, 5000)
    load = Load(
        slots=slots,
        in_flight=rng.randint(0, slots),
        executions=ended,
        failures=ended // rng.randint(10, 1000),
        busy=ended * rng.lognormvariate(-3, 1.5),
    )
    return Endpoint(
        name,
        address,
        capabilities=tuple(Capability(f"capability-{n}", rng.choice([None, 0.5, 0.8, 0.95])) for n in able),
        slots=slots,
        input_type=contract.input_type,
        output_type=contract.output_type,
        contract_hash=contract.hash,
        load=load,
    )


def _fields(shape: str, rng: random.Random, place: int) -> dict[str, bool]:
    """Names of fields, and whether each must be set."""
    if shape == "dense":
        return {"text": True, f"own_{place}": False}
    if shape == "sparse":
        return {f"own_{place}": True, "language": False} if place % 10 == 0 else {f"own_{place}": True}
    near = [f"word_{(place // 4 + step) % 60}" for step in range(4)]
    return {name: rng.random() < 0.7 for name in rng.sample(near, 3)}


def _contract(messages: Mapping[str, Mapping[str, bool]]) -> ContractDescriptor:
    files = descriptor_pb2.FileDescriptorSet()
    for known in (*validate_pb2.DESCRIPTOR.dependencies, validate_pb2.DESCRIPTOR):
        known.CopyToProto(files.file.add())
    for name, fields in messages.items():
        file = files.file.add(name=f"bench/v1/{name}.proto", package="bench.v1", syntax="proto3")
        file.dependency.append("buf/validate/validate.proto")
        message = file.message_type.add(name=name)
        for number, (word, must) in enumerate(fields.items(), 1):
            field = message.field.add(name=word, number=number, label=_Field.LABEL_OPTIONAL)
            field.type = _Field.TYPE_STRING
            if must:
                field.options.Extensions[validate_pb2.field].string.min_len = 1
    taken, given = (f"bench.v1.{name}" for name in messages)
    return ContractDescriptor.from_proto(
        agent_pb2.Contract(
            input_type=taken, output_type=given, descriptor_set=files.SerializeToString(deterministic=True)
        )
    )


def questions(made: Mesh, count: int, rng: random.Random) -> list[pipeline_pb2.PlanRequest]:
    """Type to type, capability to capability, and capabilities on the way; some that nothing answers."""
    asked = []
    for n in range(count):
        request = pipeline_pb2.PlanRequest(limit=rng.choice([0, 3, 10]))
        able = [f"capability-{rng.randrange(CAPABILITIES)}" for _ in range(rng.randint(2, 3))]
        start, goal = sorted(rng.sample(range(len(made.types)), 2))
        if n % 3 == 2:
            request.via.extend(able)
        if n % 3 == 0 or n % 6 == 2:
            setattr(request, "from", made.types[start])
            request.to = made.types[min(goal, start + rng.randint(1, 30))] if n % 2 else made.types[goal]
        if n % 3 == 1:
            setattr(request, "from", able[0])
            request.to = able[1]
        asked.append(request)
    return asked


def main() -> None:
    """Measures, prints a table, writes JSON."""
    parser = argparse.ArgumentParser(description="What a plan costs.")
    parser.add_argument("--agents", type=int, default=1000)
    parser.add_argument("--contracts", type=int, default=200)
    parser.add_argument("--questions", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=5)
    chosen = parser.parse_args()
    title = f"plans over {chosen.agents:,} agents of {chosen.contracts} contracts"
    table = Table("mesh", "catalog", "links", "answered", *FIGURES, title=title, caption="milliseconds")
    figures: dict[str, dict[str, float]] = {}
    for shape in MESHES:
        made = mesh(shape, chosen.agents, chosen.contracts, random.Random(shape))
        figures[shape] = found = measured(made, questions(made, chosen.questions, random.Random(1)), chosen.repeats)
        shown = [f"{found[name]:.1f}" for name in ("build_ms", "links_ms")]
        answered = f"{found['answered']:.0f}/{chosen.questions}"
        table.add_row(shape, *shown, answered, *(f"{found[f'{name}_ms']:.1f}" for name in FIGURES))
    Console().print(table)
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    (results / "plans.json").write_text(json.dumps(figures, indent=2) + "\n")


def measured(made: Mesh, asked: list[pipeline_pb2.PlanRequest], repeats: int) -> dict[str, float]:
    """Milliseconds: the catalog and its links once, contracts loaded anew; then every question so many times.

    A question's figure is the median of its turns, and `worst cpu` the most
    processor time that any turn took: what else the machine does is no plan's cost.
    """
    load_contract.cache_clear()
    begun = time.perf_counter()
    catalog = Catalog.build(made.endpoints, made.contracts)
    built = time.perf_counter()
    assert catalog.links
    linked = time.perf_counter()
    gc.collect()
    gc.freeze()  # what this script keeps is nobody's to look through in the middle of a question
    turns: list[list[float]] = []
    answered, worst = 0, 0.0
    for request in asked:
        took = []
        for _ in range(repeats):
            before, cpu = time.perf_counter(), time.process_time()
            answer = find_plans(catalog, request)
            worst = max(worst, time.process_time() - cpu)
            took.append((time.perf_counter() - before) * 1000)
        turns.append(took)
        answered += bool(answer.chains)
    medians = [statistics.median(took) for took in turns]
    return {
        "build_ms": (built - begun) * 1000,
        "links_ms": (linked - built) * 1000,
        "answered": answered,
        "median_ms": statistics.median(medians),
        "p99_ms": statistics.quantiles(medians, n=100, method="inclusive")[98],
        "max_ms": max(medians),
        "worst cpu_ms": worst * 1000,
    }


if __name__ == "__main__":
    main()
