"""What a plan says: mappings, reasons, rivals, pipelines, and what is missing."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from google.protobuf import json_format

from atomesh.core import ContractDescriptor, Endpoint
from atomesh.core.errors import InvalidArgument, NotFound
from atomesh.pipelines.assembly import Catalog, Query, assemble, find, find_plans, to_yaml, without_fallback
from atomesh.pipelines.assembly.chains import stage_ids
from atomesh.pipelines.plan import Bound, wants
from atomesh.pipelines.planner import make_plan
from atomesh.pipelines.reading import read_pipeline
from atomesh.v1 import pipeline_pb2

Listed: TypeAlias = Callable[..., Endpoint]
Contracts: TypeAlias = Callable[..., ContractDescriptor]

OF_MANY_TYPES = {"text": "string!", "mood": "enum", "counts": "map", "moods": "map<enum>"}
TYPES: Mapping[str, Mapping[str, str]] = {
    "Document": {"title": "string!", "text": "string!"},
    "Untitled": {"text": "string!"},
    "Keywords": {"words": "string!"},
    "Outline": {"words": "string!", "text": "string!"},
    "Brief": {"title": "string!", "words": "string!"},
    "Short": {"words": "string<9"},
    "Draft": {"draft": "string!"},
    "Booking": {"id": "string!", "day": "string!", "seats": "int32"},
    "Order": {"id": "string!", "day": "string", "seats": "int32"},
    "Cancellation": {"id": "string!", "seats": "string", "note": "string"},
    "Ticket": {"id": "string!"},
    "Receipt": {"receipt": "string!"},
    "Felt": {**OF_MANY_TYPES, "inner": "Inner", "note": "string"},
    "Marked": {**OF_MANY_TYPES, "inner": "Alike"},
    "Noted": {**OF_MANY_TYPES, "inner": "Alike", "note": "int32"},
}


class Mesh:
    """A catalog in the making."""

    def __init__(self, listed: Listed, contract: Contracts) -> None:
        self._listed, self._contract = listed, contract
        self._endpoints: list[Endpoint] = []
        self._contracts: dict[str, ContractDescriptor] = {}

    def add(
        self, name: str, taken: str, given: str, able: Mapping[str, float | None] | None = None, **more: Any
    ) -> Mesh:
        made = self._contract({kind: TYPES[kind] for kind in {taken, given}}, f"r.{taken}", f"r.{given}")
        self._contracts[made.hash] = made
        self._endpoints.append(
            self._listed(
                name, able, takes=f"r.{taken}", gives=f"r.{given}", contract_hash=made.hash, **{"ms": 10, **more}
            )
        )
        return self

    @property
    def catalog(self) -> Catalog:
        return Catalog.build(self._endpoints, self._contracts)


@pytest.fixture
def mesh(listed: Listed, contract: Contracts) -> Mesh:
    return Mesh(listed, contract)


def plan_of(catalog: Catalog, text: str) -> Any:
    """The plan that the text of a pipeline makes, with the agents of the catalog."""
    spec, source = read_pipeline(text)
    bound = {}
    for want in wants(spec):
        agent = catalog.agents[want.agent]
        bound[want.key] = Bound(agent.name, catalog.contracts[agent.contract_hash])
    return make_plan(spec, bound, source)


def test_types_that_are_the_same_are_passed_on_whole(mesh: Mesh) -> None:
    catalog = mesh.add("finder", "Document", "Keywords").add("drafter", "Keywords", "Draft").catalog
    (chain,) = find(catalog, Query("r.Document", "r.Draft")).chains
    assert [(stage.agent.name, stage.input) for stage in chain.stages] == [("finder", None), ("drafter", None)]
    assert chain.expected == pytest.approx(0.02)
    assert chain.free_slots == 1


def test_a_field_comes_from_wherever_it_was_given(mesh: Mesh) -> None:
    catalog = mesh.add("finder", "Document", "Keywords").add("drafter", "Brief", "Draft").catalog
    (chain,) = find(catalog, Query("r.Document", "r.Draft")).chains
    assert chain.stages[1].input == {"title": "$input.title", "words": "$finder.words"}


def test_an_earlier_output_fills_what_the_last_one_does_not(mesh: Mesh) -> None:
    mesh.add("opener", "Draft", "Document", {"open": 1}).add("finder", "Document", "Keywords")
    catalog = mesh.add("drafter", "Brief", "Draft", {"draft": 1}).catalog
    (chain,) = find(catalog, Query("open", "draft")).chains
    assert [stage.id for stage in chain.stages] == ["open", "finder", "draft"], "ids are capabilities, then names"
    assert chain.stages[2].input == {"title": "$open.title", "words": "$finder.words"}


def test_a_rule_that_is_not_promised_is_no_link(mesh: Mesh) -> None:
    catalog = mesh.add("finder", "Document", "Keywords").add("drafter", "Short", "Draft").catalog
    assert not find(catalog, Query("r.Document", "r.Draft")).chains, "Keywords may be longer than Short takes"


def test_the_line_says_why_one_was_chosen_over_its_rivals(mesh: Mesh) -> None:
    mesh.add("quick", "Document", "Keywords", {"find": 0.9}, ms=12, slots=4)
    mesh.add("slow", "Document", "Keywords", {"find": 0.9}, ms=80, slots=4)
    mesh.add("unable", "Document", "Keywords", ms=1)
    catalog = mesh.add("drafter", "Keywords", "Draft", ms=30).catalog
    chains = find(catalog, Query("find", "r.Draft")).chains
    assert [[stage.agent.name for stage in chain.stages] for chain in chains] == [
        ["quick", "drafter"],
        ["slow", "drafter"],
    ]
    assert chains[0].stages[0].why == "12 ms, >99 % ok, 4 slots free, score 0.9; next best: slow 80 ms"
    assert chains[1].stages[0].facts[:2] == ("80 ms, >99 % ok, 4 slots free, score 0.9", "better: quick 12 ms")
    assert [rival.name for rival in chains[0].stages[0].rivals] == ["slow"]
    assert chains[0].stages[1].why == "30 ms, >99 % ok, 1 slot free; no other agent can"


def test_what_takes_the_input_whole_comes_before_what_takes_a_field_of_it(mesh: Mesh) -> None:
    mesh.add("cancel", "Cancellation", "Receipt", ms=0.02).add("look_up", "Ticket", "Receipt", ms=0.02)
    mesh.add("order", "Order", "Receipt", ms=400).add("book", "Booking", "Receipt", ms=400)
    chains = find(mesh.catalog, Query("r.Booking", "r.Receipt", max_length=1, limit=9)).chains
    assert [chain.stages[0].agent.name for chain in chains] == ["book", "order", "look_up", "cancel"], (
        "whole first, then what fits whole and drops fields, then by fields, however fast"
    )
    assert chains[0].stages[0].facts[1] == "next best: order 400 ms"
    assert chains[3].stages[0].facts[1] == "better: book 400 ms"
    assert chains[3].stages[0].facts[2:] == (
        "fills r.Cancellation by fields: id from $input.id",
        "unset: seats, note",
        "not read: day, seats",
    )
    assert chains[2].stages[0].facts[2:] == ("not read: day, seats",)


def test_fewer_agents_come_before_whole_links(mesh: Mesh) -> None:
    mesh.add("cancel", "Cancellation", "Receipt").add("draft", "Booking", "Draft").add("end", "Draft", "Receipt")
    chains = find(mesh.catalog, Query("r.Booking", "r.Receipt")).chains
    assert [len(chain.stages) for chain in chains] == [1, 2]


def test_a_rival_that_links_by_fields_is_said_to(mesh: Mesh) -> None:
    mesh.add("cancel", "Cancellation", "Receipt", ms=1).add("book", "Booking", "Receipt", ms=400)
    chain = find(mesh.catalog, Query("r.Booking", "r.Receipt")).chains[0]
    assert chain.stages[0].facts[1] == "next best: cancel 1 ms, by fields"


def test_a_rival_takes_and_gives_what_the_rest_of_the_chain_needs(mesh: Mesh) -> None:
    mesh.add("finder", "Document", "Keywords").add("other", "Document", "Draft").add("alike", "Untitled", "Outline")
    catalog = mesh.add("drafter", "Keywords", "Draft").catalog
    chain = next(c for c in find(catalog, Query("r.Document", "r.Draft", max_length=2)).chains if len(c.stages) == 2)
    assert chain.stages[0].agent.name == "finder", "it takes all of a Document, and alike only its text"
    assert [rival.name for rival in chain.stages[0].rivals] == ["alike"], "what counts is that drafter can go on"
    assert chain.stages[0].facts[1] == "next best: alike 10 ms, drops fields"


def test_no_agent_is_in_a_chain_twice(mesh: Mesh) -> None:
    catalog = mesh.add("echo", "Draft", "Draft", {"echo": 1}).catalog
    found = find(catalog, Query(via=("echo", "echo")))
    assert found.chains == ()
    assert found.missing, "it is said that there is none"


def test_where_there_is_no_way_the_nearest_missing_link_is_named(mesh: Mesh) -> None:
    mesh.add("finder", "Untitled", "Keywords").add("drafter", "Brief", "Draft").add("writer", "Brief", "Draft")
    found = find(mesh.catalog, Query("r.Keywords", "r.Draft"))
    assert found.missing == (
        "nothing turns r.Keywords into r.Draft",
        "two agents end one field short: drafter (needs title), writer (needs title)",
    )


def test_the_agents_that_lack_the_least_are_named(mesh: Mesh) -> None:
    mesh.add("far", "Brief", "Draft").add("near", "Outline", "Draft").add("finder", "Untitled", "Short")
    mesh.add("keyed", "Keywords", "Keywords")
    found = find(mesh.catalog, Query("r.Keywords", "r.Draft"))
    assert found.missing[1] == "two agents end one field short: far (needs title), near (needs text)"
    found = find(mesh.catalog, Query("r.Untitled", "r.Draft"))
    assert found.missing[1].startswith("one agent ends one field short: near (needs words, "), "far lacks two"


@pytest.mark.parametrize("rule", ["cel", "oneof"])
def test_a_type_with_rules_on_several_fields_is_filled_whole_or_not_at_all(
    listed: Listed, contract: Contracts, rule: str
) -> None:
    first = contract({"Document": TYPES["Document"], "Keywords": TYPES["Keywords"]}, "r.Document", "r.Keywords")
    plain = contract({"Brief": TYPES["Brief"], "Draft": TYPES["Draft"]}, "r.Brief", "r.Draft")
    ruled = contract({"Brief": TYPES["Brief"], "Draft": TYPES["Draft"]}, "r.Brief", "r.Draft", rule=rule)
    found = []
    for second in (plain, ruled):
        ends = (("finder", first), ("drafter", second))
        endpoints = [
            listed(name, takes=made.input_type, gives=made.output_type, contract_hash=made.hash) for name, made in ends
        ]
        catalog = Catalog.build(endpoints, {first.hash: first, second.hash: second})
        found.append(len(find(catalog, Query("r.Document", "r.Draft")).chains))
    assert found == [1, 0], "what is said of several fields at once is not proved by each of them"


def test_a_rule_that_breaks_is_named_with_its_field(mesh: Mesh) -> None:
    catalog = mesh.add("finder", "Untitled", "Short").add("drafter", "Keywords", "Draft").catalog
    _, near = find(catalog, Query("r.Untitled", "r.Draft")).missing
    assert near.startswith("one agent ends one field short: drafter (needs words, and that of r.Short does not fit: ")
    assert "min_len" in near


def test_a_type_that_nobody_takes_or_gives_is_said(mesh: Mesh) -> None:
    catalog = mesh.add("finder", "Document", "Keywords").add("drafter", "Brief", "Draft").catalog
    assert find(catalog, Query("r.Draft", "r.Keywords")).missing == (
        "no live agent takes r.Draft, nor any of its fields as they are",
    )
    assert find(catalog, Query("r.Document", "r.Brief")).missing == ("no live agent gives r.Brief",)


def test_a_way_that_is_too_long_is_told_from_none(mesh: Mesh) -> None:
    mesh.add("a", "Untitled", "Keywords").add("b", "Keywords", "Draft")
    (said,) = find(mesh.catalog, Query("r.Untitled", "r.Draft", max_length=1)).missing
    assert said == "nothing turns r.Untitled into r.Draft with 1 agent at most; allow more, up to 16"


def test_a_search_that_ends_early_says_so(mesh: Mesh) -> None:
    for n in range(12):
        mesh.add(f"echo{n}", "Draft", "Draft", {"echo": 1} if n == 0 else {})
    found = find(mesh.catalog, Query(via=("echo", "echo"), max_length=6), budget=10_000)
    assert found.missing == (
        "there are more ways than were looked at; name a capability on the way, or allow fewer agents",
    )


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({}, "a plan needs two ends, and none is named"),
        ({"start": "r.Document"}, "a plan needs two ends, and one is named"),
        ({"via": ("find",)}, "a plan needs two ends, and one is named"),
        ({"via": ("find", "")}, "a capability on the way is empty"),
        ({"start": "a", "goal": "b", "max_length": 17}, "max_length is 17; expected 1 to 16"),
        ({"start": "a", "goal": "b", "limit": 21}, "limit is 21; expected 1 to 20"),
    ],
)
def test_bad_questions_are_one_line(query: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        Query(**query)
    assert str(raised.value).startswith(said)
    assert "\n" not in str(raised.value)


def test_unknown_names_come_with_the_nearest(mesh: Mesh) -> None:
    catalog = mesh.add("finder", "Document", "Keywords", {"find": 1}).catalog
    with pytest.raises(NotFound, match=r"takes or gives r.Keyword, or has it as a capability; did you mean r.Keywords"):
        find(catalog, Query("find", "r.Keyword"))
    with pytest.raises(NotFound, match="no live agent has the capability fund; did you mean find"):
        find(catalog, Query(via=("fund", "find")))
    with pytest.raises(InvalidArgument, match="max_length is 2, too short for 3 capabilities; expected at least 3"):
        find(catalog, Query(via=("find", "find", "find"), max_length=2))


def test_the_pipeline_says_what_the_chain_is_and_why(mesh: Mesh) -> None:
    mesh.add("finder", "Document", "Keywords", {"find": 0.9}, ms=12).add("other", "Document", "Keywords", ms=80)
    catalog = mesh.add("drafter", "Brief", "Draft").catalog
    chain = find(catalog, Query("r.Document", "r.Draft", ("find",))).chains[0]
    text = to_yaml(assemble(chain, catalog, fallbacks=True), chain)
    assert (
        "  # r.Brief -> r.Draft\n  # 10 ms, >99 % ok, 1 slot free; no other agent can; fills r.Brief by fields: "
        in text
    )
    spec, _ = read_pipeline(text)
    assert spec == assemble(chain, catalog, fallbacks=True), "the text is the model"
    assert (spec.name, spec.version, spec.defaults.attempts) == ("plan-find-drafter", "1.0.0", 2)
    assert [(stage.id, stage.agent, stage.input) for stage in spec.stages] == [
        ("find", "finder", None),
        ("drafter", "drafter", {"title": "$input.title", "words": "$find.words"}),
    ]


def test_a_stage_falls_back_to_its_best_rival_where_that_is_asked_for(mesh: Mesh) -> None:
    mesh.add("finder", "Document", "Keywords").add("other", "Document", "Keywords", ms=80)
    catalog = mesh.add("drafter", "Keywords", "Draft").catalog
    chain = find(catalog, Query("r.Document", "r.Draft")).chains[0]
    assert [stage.on_error for stage in assemble(chain, catalog).stages] == ["stop", "stop"]
    text = to_yaml(assemble(chain, catalog, fallbacks=True), chain)
    assert "    on_error:\n      fallback: other\n" in text
    assert plan_of(catalog, text).steps[0].fallback.agent == "other"


def test_an_input_of_a_type_that_no_agent_of_the_chain_knows_is_stated_by_its_fields(mesh: Mesh) -> None:
    mesh.add("opener", "Draft", "Document").add("drafter", "Outline", "Draft").add("filler", "Keywords", "Outline")
    mesh.add("finder", "Untitled", "Keywords")
    catalog = mesh.catalog
    chain = find(catalog, Query("r.Document", "r.Keywords")).chains[0]
    plan = plan_of(catalog, to_yaml(assemble(chain, catalog), chain))
    assert [step.target.agent for step in plan.steps] == ["finder"]
    assert set(plan.contract.input.DESCRIPTOR.fields_by_name) == {"text"}


def test_fields_of_any_type_are_stated_where_no_agent_of_the_chain_knows_the_input(mesh: Mesh) -> None:
    mesh.add("knows", "Felt", "Keywords").add("marker", "Marked", "Receipt")
    catalog = mesh.catalog
    (chain,) = find(catalog, Query("r.Felt", "r.Receipt")).chains
    text = to_yaml(assemble(chain, catalog), chain)
    assert read_pipeline(text)[0].input_type == "", "it fits Marked as it is"
    mesh.add("noter", "Noted", "Ticket")
    (chain,) = find(mesh.catalog, Query("r.Felt", "r.Ticket")).chains
    spec, _ = read_pipeline(text := to_yaml(assemble(chain, mesh.catalog), chain))
    assert spec.input_fields == {
        "text": "string",
        "mood": "r.Mood",
        "counts": "map<string, int32>",
        "moods": "map<string, r.Mood>",
        "inner": "r.Alike",
    }, "of two messages that hold the same, the one that the chain knows"
    assert plan_of(mesh.catalog, text).contract.input.DESCRIPTOR.fields_by_name.keys() == list(spec.input_fields)


def test_the_stages_that_have_nothing_to_fall_back_to_are_known(mesh: Mesh) -> None:
    mesh.add("finder", "Document", "Keywords").add("other", "Document", "Keywords").add("drafter", "Keywords", "Draft")
    (chain, _) = find(mesh.catalog, Query("r.Document", "r.Draft")).chains
    assert without_fallback(chain) == ("drafter",)


def test_a_pipeline_may_not_have_the_name_of_one_of_its_agents(mesh: Mesh) -> None:
    catalog = mesh.add("finder", "Document", "Keywords").catalog
    (chain,) = find(catalog, Query("r.Document", "r.Keywords")).chains
    with pytest.raises(InvalidArgument, match="finder is an agent of the pipeline"):
        assemble(chain, catalog, "finder")
    with pytest.raises(InvalidArgument, match="is not 1 to 64 of"):
        assemble(chain, catalog, "No Name")
    assert assemble(chain, catalog, "mine").name == "mine"


def test_ids_of_stages_are_valid_and_their_own() -> None:
    assert stage_ids(["input", "a.b-c", "a.b-c", "9lives", "--"]) == [
        "stage_input",
        "a_b_c",
        "a_b_c_2",
        "stage_9lives",
        "stage",
    ]


def test_a_request_is_answered_as_the_service_does(mesh: Mesh) -> None:
    catalog = mesh.add("finder", "Document", "Keywords", {"find": 1}).add("drafter", "Keywords", "Draft").catalog
    request = json_format.ParseDict({"from": "find", "to": "r.Draft"}, pipeline_pb2.PlanRequest())
    answer = find_plans(catalog, request)
    (chain,) = answer.chains
    assert [(stage.id, stage.agent, stage.capability) for stage in chain.stages] == [
        ("find", "finder", "find"),
        ("drafter", "drafter", ""),
    ]
    assert chain.pipeline.splitlines()[2] == "name: plan-find-drafter"
    assert chain.expected.ToTimedelta().total_seconds() == pytest.approx(0.02)


@pytest.mark.parametrize("seed", range(40))
def test_every_chain_is_a_pipeline_whose_types_and_rules_hold(seed: int, random_catalog: Any) -> None:
    rng = random.Random(seed)
    catalog = random_catalog(rng, agents=8)
    types = sorted(catalog.types)
    for start, goal in [(a, b) for a in types for b in types]:
        for chain in find(catalog, Query(start, goal, max_length=4)).chains:
            text = to_yaml(assemble(chain, catalog), chain)
            plan = plan_of(catalog, text)
            # A type that no agent of the chain knows is stated by its fields, which have no rules of their own.
            assert plan.notes == () or "input_fields" in text, (
                f"seed {seed}: a rule that nobody promises to keep in\n{text}"
            )
            assert [step.target.agent for step in plan.steps] == [stage.agent.name for stage in chain.stages]


def test_a_plan_is_the_same_in_every_process(tmp_path: Path) -> None:
    script = tmp_path / "plans.py"
    script.write_text(
        "import importlib.util, random, sys\n"
        f"spec = importlib.util.spec_from_file_location('made', {str(Path(__file__).with_name('conftest.py'))!r})\n"
        "made = importlib.util.module_from_spec(spec); spec.loader.exec_module(made)\n"
        "from atomesh.pipelines.assembly import Query, assemble, find, to_yaml\n"
        "for seed in range(6):\n"
        "    catalog = made.random_catalog(random.Random(seed), agents=8)\n"
        "    for start in sorted(catalog.types):\n"
        "        for goal in sorted(catalog.types):\n"
        "            found = find(catalog, Query(start, goal, limit=5))\n"
        "            print(found.missing, *(to_yaml(assemble(c, catalog), c) for c in found.chains))\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, str(script)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(outputs) == 1, "hashes of one process must not show in a plan"
