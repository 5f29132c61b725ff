"""Each promise of a registry can be broken: a short history in which all are kept, and what breaks each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from atomesh.testing.history import (
    PROMISES,
    STATES,
    Change,
    Committed,
    Deregister,
    Discover,
    Fact,
    GetContract,
    Place,
    Register,
    Renew,
    Rules,
    Shown,
    Started,
    Stopped,
    Trouble,
    Update,
    Wanted,
    WatchBegan,
    WatchEnded,
    WatchTold,
    check,
    digest,
    from_lines,
    to_line,
)

STORE = "a" * 32
WHOLE = Wanted(states=STATES)
RULES = Rules(
    default_ttl=4.0,
    min_ttl=1.0,
    max_ttl=10.0,
    tick=1.0,
    deaf_after=2.5,
    bookmark_interval=3.0,
    history_changes=10,
    watch_queue=10,
    superseded_kept=10,
    preservation_ratio=0.15,
    preservation_minimum=20,
    preservation_window=4.0,
    suspect_ttls=3.0,
    warm_within=1.0,
    slack=0.5,
    straggling=1.0,
    in_transit=2,
    watched_commits=True,
    breaking=(("c" * 64, "d" * 64),),
)


def at(revision: int) -> Place:
    return Place(STORE, revision)


def endpoint(revision: int, port: int = 1, **more: Any) -> Shown:
    said: dict[str, Any] = {
        "agent": "alpha",
        "address": f"10.0.0.1:{port}",
        "instance": f"one-{port:05d}",
        "state": "SERVING",
    }
    said |= {"contract": "c" * 64, "metadata": (("call", str(port)),), **more}
    return Shown(revision=revision, **said)


def register(port: int, began: float, revision: int, **more: Any) -> Register:
    said = {"ended": began + 0.1, "place": at(revision), "lease": f"lease-{port}", "granted": 4.0, **more}
    return Register(number=port, who="owner", began=began, spec=endpoint(0, port), ttl=4.0, **said)


def told(when: float, revision: int, *changes: Change, number: int = 50, **more: Any) -> WatchTold:
    kind = "changes" if changes else "bookmark"
    return WatchTold(**{"number": number, "at": when, "kind": kind, "place": at(revision), "changes": changes, **more})


def change(kind: Any, shown: Shown, reason: str = "") -> Change:
    seen = None if kind == "removed" else shown
    return Change(kind=kind, key=shown.key, instance=shown.instance, shown=seen, reason=reason)


def commit(ended: float, revision: int) -> Committed:
    return Committed(began=ended - 0.01, ended=ended, revision=revision, well=True)


ONE, CHANGED = endpoint(1), endpoint(2, slots=5)
KEPT: dict[str, Fact] = {
    "rules": RULES,
    "started": Started(began=0.0, at=0.0, kept=True),
    "begins": WatchBegan(number=50, who="watcher", at=1.0, wanted=WHOLE),
    "reset": told(1.1, 0, kind="reset", reason="FIRST"),
    "commit 1": commit(2.05, 1),
    "register": register(1, 2.0, 1),
    "added": told(2.1, 1, change("added", ONE)),
    "renew": Renew(
        number=60, who="owner", began=3.0, ended=3.1, place=at(1), leases=("lease-1",), statuses=("RENEWED",)
    ),
    "commit 2": commit(3.55, 2),
    "update": Update(number=61, who="owner", began=3.5, ended=3.6, place=at(2), lease="lease-1", slots=5),
    "changed": told(3.6, 2, change("changed", CHANGED)),
    "discover": Discover(number=62, who="asker", began=3.7, ended=3.8, place=at(2), wanted=WHOLE, shown=(CHANGED,)),
    "contract": GetContract(
        number=63, who="asker", began=3.8, ended=3.9, hash="c" * 64, answered="c" * 64, types=("", "")
    ),
    "commit 3": commit(4.05, 3),
    "goodbye": Deregister(number=64, who="owner", began=4.0, ended=4.1, place=at(3), lease="lease-1"),
    "removed": told(4.1, 3, change("removed", CHANGED, "DEREGISTERED")),
    "left": WatchEnded(number=50, at=4.5, why="left"),
}
"""Comes, renews, changes, is looked at, goes; somebody watches all of it."""


def history(without: tuple[str, ...] = (), extra: tuple[Fact, ...] = (), **changed: Any) -> list[Fact]:
    """The history above with facts changed (`name=dict(field=...)`), left out, or added."""
    facts = [
        replace(fact, **changed.get(name.replace(" ", "_"), {})) for name, fact in KEPT.items() if name not in without
    ]
    return [*facts, *extra]


def broken(facts: list[Fact]) -> set[str]:
    return {violation.promise for violation in check(facts)}


GONE = ("contract", "commit 3", "goodbye", "removed", "left")
"""For histories that go on with the endpoint there."""


def expiry(when: float) -> tuple[Fact, ...]:
    return (commit(when, 3), told(when - 1.5, 2), told(when, 3, change("removed", CHANGED, "EXPIRED")))


def discover(when: float, *shown: Shown, **more: Any) -> Discover:
    said = {"place": at(2), "wanted": WHOLE, "shown": shown, **more}
    return Discover(number=70 + int(10 * when), who="asker", began=when, ended=when + 0.1, **said)


def renewed(lease: str, when: float, status: str = "RENEWED", **more: Any) -> Renew:
    said = {"place": at(3), "leases": (lease,), "statuses": (status,), **more}
    return Renew(number=900 + int(when), who="owner", began=when, ended=when + 0.1, **said)


SUSPECT = endpoint(3, slots=5, state="SUSPECT")
AGAIN = WatchBegan(number=51, who="other", at=4.2, wanted=WHOLE, after=at(3))


def begun_anew(reason: str) -> WatchTold:
    return told(4.3, 3, number=51, kind="reset", reason=reason)


BREAKERS: dict[str, tuple[str, Callable[[], list[Fact]]]] = {
    "a revision comes twice": (
        "ordered and unique",
        lambda: history(extra=(told(4.2, 3, change("removed", CHANGED, "DEREGISTERED")),)),
    ),
    "a revision is left out": ("reliable", lambda: history(without=("changed",))),
    "a bookmark is ahead": ("reliable", lambda: history(without=("added",), extra=(told(2.2, 1),))),
    "what is known is added": ("folding", lambda: history(changed={"changes": (change("added", CHANGED),)})),
    "a watch begins with changes": ("resumable", lambda: history(without=("reset",))),
    "COMPACTED is said for nothing": ("resumable", lambda: history(extra=(AGAIN, begun_anew("COMPACTED")))),
    "a future position is resumed": (
        "resumable",
        lambda: history(extra=(replace(AGAIN, after=at(9)), told(4.3, 3, number=51))),
    ),
    "who is fast is told to be slow": (
        "slow watchers",
        lambda: history(extra=(replace(AGAIN, after=at(1)), begun_anew("SLOW_WATCHER"))),
    ),
    "an idle watch is told nothing": ("bookmarked", lambda: history(left={"at": 9.0})),
    "a snapshot shows another state": ("agreeing", lambda: history(discover={"shown": (ONE,)})),
    "a snapshot has one twice": ("snapshots", lambda: history(discover={"shown": (CHANGED, CHANGED)})),
    "two operations share a revision": (
        "atomic",
        lambda: history(added={"changes": (change("added", ONE), change("added", endpoint(1, 2)))}),
    ),
    "an endpoint shows another revision": ("numbered", lambda: history(discover={"shown": (endpoint(9, slots=5),)})),
    "an answer has no position": ("positions said", lambda: history(goodbye={"place": None})),
    "who wrote does not read it": ("read your writes", lambda: history(discover={"place": at(1), "shown": (ONE,)})),
    "two calls are given one revision": (
        "revisions used once",
        lambda: history(extra=(register(2, 2.0, 1),)),
    ),
    "one registry has two stores": ("stores", lambda: history(discover={"place": Place("b" * 32, 2)})),
    "it is acknowledged before its commit": ("committed first", lambda: history(commit_3={"ended": 4.2})),
    "a change is nobody's": ("explained", lambda: history(without=("update",))),
    "a change is another than was asked for": ("explained", lambda: history(update={"slots": 6})),
    "an acknowledged change is not there": (
        "effective",
        lambda: history(update={"slots": 6}, changed={"changes": (change("changed", endpoint(2, slots=7)),)}),
    ),
    "an acknowledged registration is lost": (
        "durable",
        lambda: history(without=("changed", "removed", "goodbye", "update"), discover={"shown": ()}),
    ),
    "what was refused is there": (
        "refused without a trace",
        lambda: history(register={"outcome": "REGISTRY_UNAVAILABLE", "place": None, "lease": ""}),
    ),
    "a lease is shorter than was asked for": ("leases granted", lambda: history(register={"granted": 3.0})),
    "a lease is given twice": ("leases granted", lambda: history(extra=(register(2, 4.2, 4, lease="lease-1"),))),
    "a lease ends early": ("leases not ended early", lambda: history(without=GONE, extra=expiry(6.5))),
    "a lease does not end": ("leases not ended late", lambda: history(without=GONE, extra=(discover(9.0, CHANGED),))),
    "a renewal does not end doubt": (
        "renewals end doubt",
        lambda: history(
            without=GONE,
            extra=(renewed("lease-1", 8.0), discover(9.0, SUSPECT, place=at(3), doubting=True)),
        ),
    ),
    "one lease is doubted": (
        "self-preservation has grounds",
        lambda: history(without=GONE, extra=(commit(7.5, 3), told(7.5, 3, change("changed", SUSPECT)))),
    ),
    "doubt is not said": (
        "self-preservation said",
        lambda: history(without=GONE, extra=(discover(7.6, SUSPECT, place=at(3)),)),
    ),
    "a load is forgotten": (
        "loads",
        lambda: history(renew={"executions": (7,)}, discover={"shown": (replace(CHANGED, executions=3),)}),
    ),
    "a guessed lease is renewed": ("ownership", lambda: history(extra=(renewed("guessed", 4.2),))),
    "a live lease is refused": ("owners heard", lambda: history(renew={"statuses": ("UNKNOWN",)})),
    "SUPERSEDED is said by nobody": ("superseded", lambda: history(extra=(renewed("lease-1", 4.2, "SUPERSEDED"),))),
    "a lease's id is shown": ("lease ids secret", lambda: history(discover={"secrets": ("lease-1",)})),
    "contracts break each other": (
        "contracts go together",
        lambda: history(discover={"shown": (CHANGED, endpoint(2, 2, contract="d" * 64))}),
    ),
    "a contract is refused for nothing": (
        "contracts refused rightly",
        lambda: history(extra=(register(9, 3.7, 0, outcome="INCOMPATIBLE_CONTRACT", place=None, lease=""),)),
    ),
    "a live contract is not to be had": (
        "contracts to be had",
        lambda: history(contract={"began": 2.5, "ended": 2.6, "outcome": "NOT_FOUND", "answered": ""}),
    ),
    "something is refused for nothing": (
        "refusals have a reason",
        lambda: history(update={"outcome": "INTERNAL", "place": None}),
    ),
    "the registry's own word is taken from an owner": (
        "wrong requests refused",
        lambda: history(update={"state": "SUSPECT"}),
    ),
    "a watch ends for nothing": ("refusals have a reason", lambda: history(left={"why": "LOST"})),
    "nobody answers": ("answered in time", lambda: history(extra=(discover(4.2, outcome="LOST", place=None),))),
    "a renewal of a batch is not answered": (
        "renewals answered",
        lambda: history(renew={"leases": ("lease-1", "lease-2")}),
    ),
    "a watcher is told late": (
        "told soon",
        lambda: history(removed={"at": 5.0}, left={"at": 6.0}),
    ),
    "a cold registry shows who may be gone": (
        "warm start",
        lambda: history(
            without=GONE,
            extra=(
                WatchEnded(number=50, at=4.0, why="LOST"),
                Stopped(at=4.0, killed=True),
                Trouble(kind="kill", who="registry", began=4.0, ended=7.0),
                Started(began=4.2, at=4.3, kept=True),
                discover(4.4, CHANGED),
            ),
        ),
    ),
}


def test_a_history_in_which_all_is_well_breaks_no_promise() -> None:
    assert check(history()) == []
    assert check(history(without=GONE, extra=expiry(7.5))) == [], "a lease of 4 s, renewed at 3 s, may end at 7.5 s"


@pytest.mark.parametrize("name", BREAKERS)
def test_a_promise_is_broken_where(name: str) -> None:
    promise, make = BREAKERS[name]
    assert promise in broken(make()), f"the validator of {promise!r} must see that {name}"


def test_every_promise_has_a_validator_that_something_here_or_a_planted_defect_breaks() -> None:
    elsewhere = {"bounded", "self-preservation"}  # these need a crowd: `tests/simulation/registry_defects.toml`
    assert {promise for promise, _ in BREAKERS.values()} | elsewhere == set(PROMISES)


def test_a_history_is_the_same_after_it_was_written_and_read() -> None:
    facts = history()
    lines = [to_line(fact) for fact in facts]
    assert list(from_lines([*lines, ""])) == facts
    assert digest(facts) == digest(from_lines(lines))


def test_what_is_no_fact_cannot_be_read() -> None:
    with pytest.raises(ValueError, match="fact"):
        list(from_lines(['{"fact": "rumour"}']))


def test_a_history_says_first_what_it_is_measured_by() -> None:
    with pytest.raises(ValueError, match="Rules"):
        check(history()[1:])


def test_a_trouble_excuses_what_comes_of_it() -> None:
    paused = Trouble(kind="pause", who="registry", began=4.6, ended=9.0)
    assert check(history(left={"at": 9.0}, extra=(paused,))) == [], "who stands still tells no bookmarks"
    late = history(without=GONE, extra=(paused, *expiry(7.5)))
    assert "leases not ended early" in broken(late), "time in which the registry did not listen must be given back"
