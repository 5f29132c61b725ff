"""Probes in virtual time: who is asked when, who becomes SUSPECT by the answers, and when the prober doubts itself."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from atomesh.core.endpoint import Probe, ProbeResult, State
from atomesh.core.selector import Selector
from atomesh.registry.operations import Stored
from atomesh.registry.probing import JITTER, Probing
from atomesh.registry.settings import RegistrySettings

FAILURES = (ProbeResult.NOT_SERVING, ProbeResult.UNREACHABLE, ProbeResult.TIMEOUT)


def asked(probing: Probing, seconds: int, answer: Any) -> list[tuple[int, str]]:
    """Who was asked in which second; each is answered at once."""
    found = []
    for second in range(seconds):
        for lease in probing.due(float(second)):
            found.append((second, lease))
            probing.answered(lease, answer(lease), float(second))
    return found


def serving(_: str) -> ProbeResult:
    return ProbeResult.SERVING


def test_everybody_is_asked_once_per_interval_give_or_take_the_jitter() -> None:
    probing = Probing(RegistrySettings(), random.Random(1), 0.0)
    for number in range(100):
        probing.begin(f"{number}", 0.0)
    times: dict[str, list[int]] = {}
    for second, lease in asked(probing, 600, serving):
        times.setdefault(lease, []).append(second)
    assert len(times) == 100
    for each in times.values():
        assert each[0] <= 31, "the first time must come within one interval"
        pauses = [later - earlier for earlier, later in itertools.pairwise(each)]
        assert min(pauses) >= 30 * (1 - JITTER) - 1
        assert max(pauses) <= 30 * (1 + JITTER) + 1


def test_a_fleet_that_came_at_once_is_not_asked_at_once() -> None:
    probing = Probing(RegistrySettings(), random.Random(1), 0.0)
    for number in range(600):
        probing.begin(f"{number}", 0.0)
    seconds = [second for second, _ in asked(probing, 300, serving)]
    assert max(seconds.count(second) for second in set(seconds)) < 50


def test_more_than_the_rate_are_put_off_and_nobody_is_forgotten() -> None:
    probing = Probing(RegistrySettings(probes_per_second=10), random.Random(1), 0.0)
    for number in range(1000):
        probing.begin(f"{number}", 0.0)
    found = asked(probing, 250, serving)
    seconds = [second for second, _ in found]
    assert max(seconds.count(second) for second in set(seconds)) <= 10
    assert len({lease for _, lease in found}) == 1000


def test_no_more_are_asked_at_once_than_may_be() -> None:
    probing = Probing(RegistrySettings(probe_concurrency=3), random.Random(1), 0.0)
    for number in range(10):
        probing.begin(f"{number}", 0.0)
    first = [lease for second in range(60) for lease in probing.due(float(second))]
    assert len(first) == 3, "who hangs must keep its place"
    probing.answered(first[0], ProbeResult.TIMEOUT, 60.0)
    probing.end(first[1])
    assert len(probing.due(61.0)) == 2, "an answer and a departure must each make room"


def test_nobody_is_asked_where_probes_are_off() -> None:
    probing = Probing(RegistrySettings(probe_interval=0), random.Random(1), 0.0)
    probing.begin("1", 0.0, failing=True)
    assert not asked(probing, 100, serving)
    assert not probing.failing, "what nobody asks any more must not stay so for ever"


@pytest.mark.parametrize("failure", FAILURES)
def test_failures_and_successes_count_in_a_row_alone(failure: ProbeResult) -> None:
    probing = Probing(RegistrySettings(probe_failures=3, probe_successes=2), random.Random(1), 0.0)
    probing.begin("1", 0.0)
    said = [
        (failure, False),
        (failure, False),
        (ProbeResult.SERVING, False),
        (failure, False),
        (failure, False),
        (failure, True),
        (ProbeResult.SERVING, True),
        (failure, True),
        (ProbeResult.UNIMPLEMENTED, True),
        (ProbeResult.SERVING, False),
    ]
    now = 0.0
    for answer, failing in said:
        now += 100
        assert probing.due(now) == ["1"]
        probing.answered("1", answer, now)
        assert ("1" in probing.failing) is failing, answer


def test_who_must_not_be_asked_is_neither_good_nor_bad() -> None:
    probing = Probing(RegistrySettings(probe_failures=1), random.Random(1), 0.0)
    probing.begin("1", 0.0)
    asked(probing, 300, lambda _: ProbeResult.FORBIDDEN)
    assert not probing.failing


def test_an_answer_about_who_is_gone_is_nothing() -> None:
    probing = Probing(RegistrySettings(probe_failures=1), random.Random(1), 0.0)
    probing.begin("1", 0.0)
    assert probing.due(40.0) == ["1"]
    probing.end("1")
    probing.answered("1", ProbeResult.TIMEOUT, 41.0)
    assert not probing.failing
    assert probing.due(1000.0) == []


class Probed:
    """A registry whose probes are answered at once, by port."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.down: set[str] = set()
        self.asked: list[str] = []

    def wait(self, seconds: int, *renewing: str) -> None:
        ledger = self.world.ledger
        for _ in range(seconds):
            self.world.wait(1)
            for lease in renewing:
                ledger.renew(lease, None, self.world.now, 7.0)
            for lease, endpoint in ledger.probes_due(self.world.now):
                self.asked.append(endpoint.address)
                down = endpoint.address in self.down
                result = ProbeResult.UNREACHABLE if down else ProbeResult.SERVING
                ledger.probed(lease, Probe(result, 5.0, 0.25, "why" if down else ""), self.world.now)


@pytest.fixture
def probed(world: Any) -> Probed:
    return Probed(world)


def test_who_renews_and_cannot_be_reached_is_suspect_and_comes_back_by_itself(probed: Probed, folded: Any) -> None:
    world = probed.world
    leases = [world.register(port=port) for port in (1, 2)]
    watch = folded(world.ledger, Selector(states=(State.SERVING, State.SUSPECT)))
    watch.follow()
    probed.wait(40, *leases)
    assert watch.follow() == [], "a probe that goes well must change nothing"
    probed.down = {"10.0.0.1:2"}
    probed.wait(80, *leases)
    (step,) = watch.follow()
    assert [(c.endpoint.address, c.endpoint.state) for c in step.changes] == [("10.0.0.1:2", State.SUSPECT)]
    assert world.ledger.store.get(("text", "10.0.0.1:2")) is not None, "a failed probe must never take away"
    probed.wait(300, *leases)
    assert watch.follow() == []
    probed.down = set()
    probed.wait(80, *leases)
    (step,) = watch.follow()
    assert [(c.endpoint.address, c.endpoint.state) for c in step.changes] == [("10.0.0.1:2", State.SERVING)]


def test_the_last_probe_is_shown_to_who_asks_and_is_no_change(probed: Probed) -> None:
    lease = probed.world.register()
    revision = probed.world.ledger.store.revision
    (before,) = probed.world.ledger.discover(Selector())
    assert before.last_probe is None
    probed.wait(40, lease)
    (endpoint,) = probed.world.ledger.discover(Selector())
    assert endpoint.last_probe == Probe(ProbeResult.SERVING, 5.0, 0.25, "")
    assert endpoint.last_renewed_at == 7.0
    assert probed.world.ledger.store.revision == revision


def test_a_new_instance_at_the_address_is_asked_anew(probed: Probed) -> None:
    world = probed.world
    lease = world.register(instance="instance-1")
    probed.down = {"10.0.0.1:1"}
    probed.wait(100, lease)
    assert world.ledger.counts() == {State.SUSPECT: 1}
    again = world.register(instance="instance-2")
    assert world.ledger.counts() == {State.SERVING: 1}
    (endpoint,) = world.ledger.discover(Selector())
    assert endpoint.last_probe is None, "what was heard of another instance must not be told of this one"
    probed.wait(100, again)
    assert world.ledger.counts() == {State.SUSPECT: 1}


def test_who_drains_is_not_asked(probed: Probed) -> None:
    lease = probed.world.register()
    probed.world.update(lease, state=State.DRAINING)
    probed.down = {"10.0.0.1:1"}
    probed.wait(200, lease)
    assert not probed.asked
    probed.world.update(lease, state=State.SERVING)
    probed.wait(40, lease)
    assert probed.asked, "and again when it serves again"


def test_a_renewal_does_not_end_what_probes_say_and_a_probe_not_what_leases_say(probed: Probed) -> None:
    world = probed.world
    leases = [world.register(port=port) for port in range(1, 31)]
    probed.wait(20, *leases)
    world.wait(20)
    assert world.ledger.counts() == {State.SUSPECT: 30}
    probed.wait(60)
    assert world.ledger.counts() == {State.SUSPECT: 30}, (
        "who can be reached and does not renew is in doubt all the same"
    )
    probed.wait(2, *leases)
    assert world.ledger.counts() == {State.SERVING: 30}


def test_where_too_many_fail_at_once_nobody_becomes_suspect_by_it(probed: Probed) -> None:
    world = probed.world
    leases = [world.register(port=port) for port in range(1, 31)]
    probed.down = {f"10.0.0.1:{port}" for port in range(1, 31)}
    probed.wait(40, *leases)
    probed.wait(300, *leases)
    few = world.ledger.counts()[State.SUSPECT]
    assert few <= 0.15 * 30, "those that failed before it was noticed"
    assert world.ledger.self_preservation
    probed.down = {"10.0.0.1:5"}
    probed.wait(150, *leases)
    assert not world.ledger.self_preservation, "and it must end by itself"
    assert world.ledger.counts() == {State.SERVING: 29, State.SUSPECT: 1}


def test_below_the_minimum_a_failed_probe_is_plain(probed: Probed) -> None:
    world = probed.world
    leases = [world.register(port=port) for port in range(1, 11)]
    probed.down = {f"10.0.0.1:{port}" for port in range(1, 11)}
    probed.wait(120, *leases)
    assert world.ledger.counts() == {State.SUSPECT: 10}
    assert not world.ledger.self_preservation


def test_it_survives_a_restart_until_there_is_news(probed: Probed, new_world: Any) -> None:
    world = probed.world
    lease = world.register()
    probed.down = {"10.0.0.1:1"}
    probed.wait(100, lease)
    store = world.ledger.store
    stored = Stored(store.store_id, store.revision, tuple(store.all()), tuple(store.contracts.values()))
    again = Probed(new_world(stored))
    again.wait(5, lease)
    assert again.world.ledger.counts() == {State.SUSPECT: 1}, "a restart is no sign of health"
    again.wait(80, lease)
    assert again.world.ledger.counts() == {State.SERVING: 1}
    off = Probed(new_world(stored, probe_interval=0))
    off.wait(2, lease)
    assert off.world.ledger.counts() == {State.SERVING: 1}, "without probes nothing would ever end it"
