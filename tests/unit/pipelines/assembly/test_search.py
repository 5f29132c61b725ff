"""Chains found are the right ones: the same as those of a search that tries everything."""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from atomesh.core.fits import field_fit, fits
from atomesh.core.implication import unset_gap
from atomesh.core.places import message_rules, place_of
from atomesh.pipelines.assembly.catalog import Catalog, Published
from atomesh.pipelines.assembly.groups import Ground
from atomesh.pipelines.assembly.query import Query, route
from atomesh.pipelines.assembly.reach import reach
from atomesh.pipelines.assembly.search import Search

SEEDS = range(150)
MOST = 4


def found(catalog: Catalog, query: Query) -> tuple[list[tuple[str, ...]], bool]:
    ground = Ground(catalog, route(query, catalog))
    come = reach(ground)
    if not come.arrives:
        return [], True
    ground.narrow(come.given)
    search = Search(ground)
    chains = search.chains(query.max_length, query.limit)
    return [tuple(agent.name for agent in chain) for chain in chains], search.complete


@functools.cache
def must(field: Any) -> bool:
    return unset_gap(None, place_of(field)) is not None


def brute(catalog: Catalog, query: Query) -> list[tuple[str, ...]]:
    """Every order of every few agents, kept where it holds, sorted."""
    agents = list(catalog.agents.values())
    right = []
    for length in range(1, query.max_length + 1):
        for chain in itertools.permutations(agents, length):
            asked = capabilities(chain, query, catalog)
            if asked is not None and holds(chain, query, catalog):
                by_fields, in_part = losses(chain, query, catalog)
                cost = sum(agent.cost(capability) for agent, capability in zip(chain, asked, strict=True))
                right.append((length, by_fields, in_part, cost, tuple(agent.name for agent in chain)))
    return [names for *_, names in sorted(right)[: query.limit]]


def losses(chain: Sequence[Published], query: Query, catalog: Catalog) -> tuple[int, int]:
    """The links that do not fit whole, and those that do and drop fields."""
    loaded = [catalog.contracts[agent.contract_hash].load() for agent in chain]
    takes: list[Any] = [contract.input.DESCRIPTOR for contract in loaded]
    start = kind(query.start, catalog) if query.start in catalog.types else takes[0]
    givers = [start, *(contract.output.DESCRIPTOR for contract in loaded[:-1])]
    by_fields = in_part = 0
    for given, taken in zip(givers, takes, strict=True):
        if not (same(given, taken) or (taken.fields and fits(given, taken))):
            by_fields += 1
        elif not {field.name for field in given.fields} <= {field.name for field in taken.fields}:
            in_part += 1
    return by_fields, in_part


def capabilities(chain: Sequence[Published], query: Query, catalog: Catalog) -> list[str] | None:
    """What each agent of a chain is asked for; None where the chain does not pass what it must."""
    start_is_type, goal_is_type = query.start in catalog.types, query.goal in catalog.types
    wanted = [*([] if start_is_type or not query.start else [query.start]), *query.via]
    wanted += [] if goal_is_type or not query.goal else [query.goal]
    middle, end = (wanted, None) if goal_is_type else (wanted[:-1], wanted[-1])
    asked, left = [], list(middle)
    for place, agent in enumerate(chain):
        last = place == len(chain) - 1
        if left and left[0] in agent.capabilities:
            asked.append(left.pop(0))
        elif last and end is not None and not left and end in agent.capabilities:
            asked.append(end)
            end = None
        else:
            asked.append("")
        if place == 0 and not start_is_type and not asked[0]:
            return None
    return asked if not left and end is None else None


def holds(chain: Sequence[Published], query: Query, catalog: Catalog) -> bool:
    loaded = [catalog.contracts[agent.contract_hash].load() for agent in chain]
    takes: list[Any] = [contract.input.DESCRIPTOR for contract in loaded]
    gives: list[Any] = [contract.output.DESCRIPTOR for contract in loaded]
    start = kind(query.start, catalog) if query.start in catalog.types else takes[0]
    given = [start]
    for taken, next_given in zip(takes, gives, strict=True):
        if not linked(given, taken):
            return False
        given.append(next_given)
    if query.goal in catalog.types:
        goal = kind(query.goal, catalog)
        return same(given[-1], goal) or (bool(goal.fields) and fits(given[-1], goal))
    return True


def linked(given: Sequence[Any], taken: Any) -> bool:
    """What fits whole, or what can be filled field by field, at least one field from the last."""
    if same(given[-1], taken) or (taken.fields and fits(given[-1], taken)):
        return True
    if message_rules(taken).ByteSize():
        return False
    fillers = {field.name: [at for at, one in enumerate(given) if fills(one, field)] for field in taken.fields}
    if not any(len(given) - 1 in places for places in fillers.values()):
        return False
    return all(fillers[field.name] or not must(field) for field in taken.fields)


@functools.cache
def fills(given: Any, field: Any) -> bool:
    one = given.fields_by_name.get(field.name)
    return one is not None and not field_fit(one, field)


def same(one: Any, other: Any) -> bool:
    return bool(one.full_name == other.full_name)  # the catalogs here have one type of a name


def kind(name: str, catalog: Catalog) -> Any:
    for contract in catalog.contracts.values():
        for message in (contract.load().input, contract.load().output):
            if message.DESCRIPTOR.full_name == name:
                return message.DESCRIPTOR
    raise AssertionError(name)


def questions(rng: random.Random, catalog: Catalog) -> Iterator[Query]:
    types, able = sorted(catalog.types), list(catalog.capabilities)
    for _ in range(6):
        start, goal = (rng.choice([*types, *able]) for _ in range(2))
        via = tuple(rng.choice(able) for _ in range(rng.choice([0, 0, 1, 2]) if able else 0))
        if len(via) > 1 and rng.random() < 0.5:
            start, goal = rng.choice([start, ""]), ""
        yield Query(start, goal, via, rng.randint(max(2, 2 + len(via)), MOST), rng.choice([1, 3, 7, 20]))


@pytest.mark.parametrize("block", range(0, len(SEEDS), 30))
def test_the_chains_are_those_of_trying_everything(block: int, random_catalog: Any) -> None:
    some = 0
    for seed in SEEDS[block : block + 30]:
        rng = random.Random(seed)
        catalog = random_catalog(rng, agents=rng.randint(3, 8))
        for query in questions(rng, catalog):
            chains, complete = found(catalog, query)
            assert complete, f"seed {seed}: {query} must not use up the budget"
            assert chains == brute(catalog, query), f"seed {seed}: {query}"
            some += bool(chains)
    assert some > 20, "most questions of this test must have answers, or it shows nothing"
