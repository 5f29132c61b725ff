"""All promises, each with its validator, and what a history says against them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from types import MappingProxyType

from atomesh.testing.history.evidence import Evidence
from atomesh.testing.history.facts import Fact
from atomesh.testing.history.promises import (
    agreeing,
    answering,
    contracting,
    explaining,
    leasing,
    owning,
    positions,
    watching,
)
from atomesh.testing.history.violation import Violation

Validator = Callable[[Evidence], Iterator[Violation]]

PROMISES: MappingProxyType[str, Validator] = MappingProxyType(
    {
        "ordered and unique": watching.ordered,
        "reliable": watching.reliable,
        "folding": watching.folding,
        "resumable": watching.begun_rightly,
        "slow watchers": watching.slow_said,
        "bounded": watching.bounded,
        "bookmarked": watching.bookmarked,
        "agreeing": agreeing.agreeing,
        "snapshots": agreeing.snapshots_sorted,
        "atomic": agreeing.one_operation,
        "numbered": agreeing.numbered,
        "positions said": positions.said,
        "read your writes": positions.monotone,
        "revisions used once": positions.used_once,
        "stores": positions.stores,
        "committed first": positions.committed_first,
        "explained": explaining.explained,
        "effective": explaining.effective,
        "durable": explaining.kept,
        "refused without a trace": explaining.untouched,
        "leases granted": leasing.granted,
        "leases not ended early": leasing.not_early,
        "leases not ended late": leasing.not_late,
        "renewals end doubt": leasing.heard_again,
        "self-preservation has grounds": leasing.enough_to_doubt,
        "self-preservation": leasing.doubts_itself,
        "self-preservation said": leasing.says_doubt,
        "loads": leasing.told_loads,
        "ownership": owning.owners_only,
        "owners heard": owning.owners_heard,
        "superseded": owning.superseded_said,
        "lease ids secret": owning.kept_secret,
        "contracts go together": contracting.compatible,
        "contracts refused rightly": contracting.refused_rightly,
        "contracts to be had": contracting.contracts_had,
        "refusals have a reason": answering.for_a_reason,
        "wrong requests refused": answering.checked,
        "answered in time": answering.in_time,
        "renewals answered": answering.complete,
        "told soon": answering.told_soon,
        "warm start": answering.warm,
    }
)


def check(facts: Iterable[Fact]) -> list[Violation]:
    """All that a history says against the promises, by time.

    Raises:
        ValueError: it does not begin with its Rules.
    """
    evidence = Evidence(facts)
    found = [
        replace(violation, promise=promise)
        for promise, validator in PROMISES.items()
        for violation in validator(evidence)
    ]
    return sorted(found, key=lambda violation: violation.at)
