"""Contracts: live endpoints of one agent go together, and every contract that is shown can be had."""

from __future__ import annotations

from collections.abc import Iterator

import semver

from atomesh.testing.history.evidence import Evidence
from atomesh.testing.history.facts import GetContract, Register
from atomesh.testing.history.streams import View
from atomesh.testing.history.values import Shown
from atomesh.testing.history.violation import Violation


def compatible(evidence: Evidence) -> Iterator[Violation]:
    """No two live endpoints of one agent have contracts that break each other."""
    breaking = _breaking(evidence)
    told: set[tuple[str, str]] = set()
    for wanted, known in evidence.views:
        if not wanted.whole:
            continue
        spoken: dict[tuple[str, str], Shown] = {}
        for shown in known.view.values():
            for (agent, contract), other in spoken.items():
                pair = (shown.call, other.call)
                if agent == shown.agent and frozenset((contract, shown.contract)) in breaking and pair not in told:
                    told.add(pair)
                    what = f"{known.who} shows {shown.instance} and {other.instance} of {agent}, whose contracts break each other"
                    yield Violation(known.at, what)
            spoken[shown.agent, shown.contract] = shown


def refused_rightly(evidence: Evidence) -> Iterator[Violation]:
    """A registration is refused for its contract only where a live endpoint at another address has one that it breaks."""
    breaking = _breaking(evidence)
    for call in evidence.registers:
        if call.outcome != "INCOMPATIBLE_CONTRACT":
            continue
        spec = call.spec
        states = _states(evidence, call)
        if states and not any(_breaks(shown, spec, breaking) for state in states for shown in state.values()):
            what = f"{call.who}'s contract is refused for {spec.agent}, and no live endpoint has one that it breaks"
            yield Violation(call.ended, what)


def contracts_had(evidence: Evidence) -> Iterator[Violation]:
    """A contract that a live endpoint has can be had, by its hash and by the agent, and is the one that was asked for."""
    types = {
        shown.contract: (shown.input_type, shown.output_type)
        for _, known in evidence.views
        for shown in known.view.values()
    }
    sent = {call.spec.contract: call.content for call in evidence.registers}
    for call in evidence.contracts:
        what = f"{call.who}'s GetContract of {call.hash[:8] or call.agent} (call {call.number})"
        if call.done:
            if call.hash not in ("", call.answered):
                yield Violation(call.ended, f"{what} is answered with another one")
            elif types.get(call.answered, call.types) != call.types:
                yield Violation(call.ended, f"{what} is answered with the types {call.types}")
            elif sent.get(call.answered, call.content) != call.content:
                yield Violation(
                    call.ended, f"{what} is answered with another contract than was registered under its hash"
                )
        states = _states(evidence, call)
        if not states:
            continue
        if call.outcome in ("NOT_FOUND", "UNKNOWN_AGENT") and all(_has(state, call) for state in states):
            yield Violation(call.ended, f"{what} is answered with {call.outcome}, and it was live all the time")
        if call.done and call.agent and not any(call.answered in _newest(state, call.agent) for state in states):
            yield Violation(call.ended, f"{what} is answered with another than that of its highest version")


def _states(evidence: Evidence, call: GetContract | Register) -> list[View]:
    """The states that a call may have seen; none where they are not all known."""
    run = evidence.run_at(call.ended)
    stores = {place.store for place in (each.place for each in evidence.calls) if place is not None}
    if run is None or len(stores) != 1 or run.began > call.began:
        return []
    log = evidence.log(stores.pop())
    first, last = log.seen_by(call.began), log.seen_by(call.ended + evidence.rules.slack)
    states = [log.states.get(revision) for revision in range(first, last + 1)]
    known = [state for state in states if state is not None]
    troubled = evidence.troubled(call.who, call.began - evidence.rules.slack, call.ended + evidence.rules.slack, "disk")
    return known if len(known) == len(states) and first >= 0 and not troubled else []


def _breaking(evidence: Evidence) -> set[frozenset[str]]:
    return {frozenset(pair) for pair in evidence.rules.breaking}


def _breaks(shown: Shown, spec: Shown, breaking: set[frozenset[str]]) -> bool:
    pair = frozenset((shown.contract, spec.contract))
    return shown.agent == spec.agent and shown.address != spec.address and pair in breaking


def _has(state: View, call: GetContract) -> bool:
    return any(call.hash == shown.contract or call.agent == shown.agent for shown in state.values())


def _newest(state: View, agent: str) -> set[str]:
    found = [shown for shown in state.values() if shown.agent == agent]
    newest = max((semver.Version.parse(shown.version) for shown in found), default=None)
    return {shown.contract for shown in found if semver.Version.parse(shown.version) == newest}
