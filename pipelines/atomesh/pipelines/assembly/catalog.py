"""What the agents of a mesh publish, by agent: the snapshot that plans are found in."""

from __future__ import annotations

import difflib
import functools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import semver

from atomesh.core.contract import ContractDescriptor
from atomesh.core.endpoint import Endpoint, State
from atomesh.core.versions import parse_version
from atomesh.pipelines.assembly.figures import Figures, figures
from atomesh.pipelines.assembly.kinds import Kinds
from atomesh.pipelines.assembly.links import Links

_TAKES_CALLS = (State.SERVING, State.SUSPECT)
_ALIKE = 0.75
"""How much of two words must agree: a letter too many in five; with 0.6 Letter would be like Filter."""


@dataclass(frozen=True, slots=True)
class Published:
    """An agent as its live endpoints publish it.

    While a new contract rolls out, two are live under one name. Then the newest
    version's counts, with the endpoints that have it; `version` keeps callers
    to those.
    """

    name: str
    input_type: str
    output_type: str
    contract_hash: str
    capabilities: Mapping[str, float | None]
    """With their declared scores; None where it does not say. Of its newest version."""
    versions: tuple[str, ...]
    """The live ones, oldest first."""
    version: str
    """The range to ask for; empty where any will do."""
    figures: Figures
    _costs: dict[str, int] = field(default_factory=dict, init=False, repr=False, compare=False)
    """By capability, kept: a question compares an agent a dozen times."""

    def cost(self, capability: str = "") -> int:
        """What ranks it: with its score for a capability where one is asked for, else with the best that it declares."""
        if capability not in self._costs:
            self._costs[capability] = self._cost(capability)
        return self._costs[capability]

    def _cost(self, capability: str) -> int:
        if capability:
            return self.figures.cost(self.capabilities.get(capability), asked=True)
        declared = max((score for score in self.capabilities.values() if score is not None), default=None)
        return self.figures.cost(declared, asked=False)


class Catalog:
    """Agents by name, and the contracts that they speak. Never changes; a new snapshot is a new catalog."""

    def __init__(self, agents: Iterable[Published], contracts: Mapping[str, ContractDescriptor]) -> None:
        """`contracts` are by hash; an agent whose contract is not among them can be chosen, not planned with."""
        self.agents = {agent.name: agent for agent in sorted(agents, key=lambda agent: agent.name)}
        spoken = {agent.contract_hash for agent in self.agents.values()}
        self.contracts = {hash_: contracts[hash_] for hash_ in sorted(contracts) if hash_ in spoken}
        able: dict[str, list[Published]] = defaultdict(list)
        for agent in self.agents.values():
            for capability in agent.capabilities:
                able[capability].append(agent)
        self._able = {capability: tuple(able[capability]) for capability in sorted(able)}

    @classmethod
    def build(cls, endpoints: Iterable[Endpoint], contracts: Mapping[str, ContractDescriptor]) -> Catalog:
        """The catalog of endpoints as a registry shows them. Those that drain or do not serve count for nothing."""
        by_agent: dict[str, list[Endpoint]] = defaultdict(list)
        for endpoint in endpoints:
            if endpoint.state in _TAKES_CALLS:
                by_agent[endpoint.agent].append(endpoint)
        return cls((_published(name, live) for name, live in by_agent.items()), contracts)

    def refreshed(self, endpoints: Iterable[Endpoint], contracts: Mapping[str, ContractDescriptor]) -> Catalog:
        """A newer catalog; where the contracts are the same, what was found out about them goes over to it."""
        newer = Catalog.build(endpoints, contracts)
        if newer.contracts.keys() == self.contracts.keys() and "links" in self.__dict__:
            newer.__dict__["links"] = self.links
        return newer

    @functools.cached_property
    def links(self) -> Links:
        """Who can fill whom; made when first asked for, some milliseconds for each contract."""
        return Links(Kinds(self.contracts.values()))

    @property
    def capabilities(self) -> tuple[str, ...]:
        """All that somebody has, in order."""
        return tuple(self._able)

    @functools.cached_property
    def types(self) -> frozenset[str]:
        """Full names of the messages that some agent takes or gives."""
        return frozenset(name for agent in self.agents.values() for name in (agent.input_type, agent.output_type))

    def able(self, capability: str) -> tuple[Published, ...]:
        """The agents that have a capability, by name."""
        return self._able.get(capability, ())


def nearest(word: str, known: Iterable[str], limit: int = 3) -> str:
    """`; did you mean a, b?`, or how many there are to choose from: how an error about a name goes on."""
    names = sorted(known)
    # By the last part first, which people remember: names of one package are alike however different their types.
    near = _like(word, names) or difflib.get_close_matches(word, names, n=limit, cutoff=0.6)
    if near:
        return f"; did you mean {', '.join(near[:limit])}?"
    return f"; there are {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}" if names else "; there are none"


def _like(word: str, names: Sequence[str]) -> list[str]:
    """The names whose last part is like that of a word, most alike first; those of a like package before others."""
    sought, found = word.lower(), []
    for name in names:
        one, other = sought.rpartition(".")[2], name.lower().rpartition(".")[2]
        alike = difflib.SequenceMatcher(None, one, other).ratio()
        if alike >= _ALIKE:
            whole = difflib.SequenceMatcher(None, sought, name.lower()).ratio()
            found.append((-alike, -whole, name))
    return [name for *_, name in sorted(found)]


def _published(name: str, live: list[Endpoint]) -> Published:
    newest = max(live, key=lambda endpoint: (parse_version(endpoint.version), endpoint.contract_hash))
    alike = [endpoint for endpoint in live if endpoint.contract_hash == newest.contract_hash]
    versions = tuple(sorted({endpoint.version for endpoint in alike}, key=lambda text: (parse_version(text), text)))
    scores: dict[str, float | None] = {}
    for endpoint in alike:
        if endpoint.version == newest.version:
            for capability in endpoint.capabilities:
                scores[capability.name] = _lower(scores.get(capability.name, 1.0), capability.score)
    others = [parse_version(endpoint.version) for endpoint in live if endpoint.contract_hash != newest.contract_hash]
    return Published(
        name=name,
        input_type=newest.input_type,
        output_type=newest.output_type,
        contract_hash=newest.contract_hash,
        capabilities={capability: scores[capability] for capability in sorted(scores)},
        versions=versions,
        version=_range(versions, others),
        figures=figures(alike),
    )


def _lower(one: float | None, other: float | None) -> float | None:
    """The lower of two scores: a call may go to either endpoint. Not saying is the lowest."""
    return None if one is None or other is None else min(one, other)


def _range(versions: tuple[str, ...], others: Sequence[semver.Version]) -> str:
    """What keeps callers to these versions, as far as others that are live do not have the same ones."""
    if not others:
        return ""
    lowest = next((v for v in versions if all(parse_version(v).compare(o) > 0 for o in others)), versions[-1])
    return f">={lowest}"
