"""What an endpoint did of late, reckoned from its loads in the test's own time."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import pytest

from atomesh.core.endpoint import Endpoint, Load, Recent
from atomesh.core.selector import Selector
from atomesh.registry.recent import FEWEST, MEMORY_SECONDS, Lately
from atomesh.v1 import registry_pb2


class Counting:
    """An endpoint that works at a pace, and the registry's view of it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.load = Load()
        self.lately = Lately()
        self.tell()

    def work(self, seconds: float, *, rate: float, execution: float = 0.1, errors: float = 0.0) -> None:
        """Works so long, and tells at the end of it."""
        count = round(rate * seconds)
        self.now += seconds
        self.load = replace(
            self.load,
            executions=self.load.executions + count,
            failures=self.load.failures + round(count * errors),
            busy=self.load.busy + count * execution,
        )
        self.tell()

    def tell(self) -> None:
        self.lately.heard(self.load, self.now)

    @property
    def recent(self) -> Recent:
        found = self.lately.recent
        assert found is not None
        return found


def figures(recent: Recent) -> tuple[float | None, float, float]:
    return (recent.execution, recent.error_rate, recent.executions_per_second)


def test_nothing_is_known_before_the_second_load() -> None:
    lately = Lately()
    assert lately.recent is None
    lately.heard(Load(executions=1_000_000, busy=1e6), 50.0)
    assert lately.recent is None, "what came before was over a time that nobody knows"


def test_a_steady_pace_is_told_exactly_from_the_first_step_on() -> None:
    c = Counting()
    for _ in range(30):
        c.work(5.0, rate=20.0, execution=0.25, errors=0.1)
        assert c.recent.execution == pytest.approx(0.25)
        assert c.recent.error_rate == pytest.approx(0.1)
        assert c.recent.executions_per_second == pytest.approx(20.0)


def test_after_a_minute_the_old_pace_weighs_a_third() -> None:
    c = Counting()
    for _ in range(200):
        c.work(5.0, rate=10.0, execution=0.1)
    for _ in range(12):
        c.work(5.0, rate=10.0, execution=1.1, errors=1.0)
    assert c.recent.error_rate == pytest.approx(1 - math.exp(-60 / MEMORY_SECONDS), abs=0.001)
    assert c.recent.execution == pytest.approx(0.1 + 1 - math.exp(-1), abs=0.001)


def test_how_often_it_tells_does_not_matter() -> None:
    often, seldom, unevenly = Counting(), Counting(), Counting()
    rng = random.Random(7)
    for _ in range(100):
        often.work(1.0, rate=8.0, execution=0.2)
    for _ in range(5):
        seldom.work(20.0, rate=8.0, execution=0.2)
    while unevenly.now < 1100.0:
        unevenly.work(rng.randint(1, 9), rate=8.0, execution=0.2)
    for c in (often, seldom, unevenly):
        assert c.recent.executions_per_second == pytest.approx(8.0)
        assert c.recent.execution == pytest.approx(0.2)


def test_one_long_step_weighs_as_much_as_many_short_ones() -> None:
    short, long = Counting(), Counting()
    for c, steps in ((short, 12), (long, 1)):
        for _ in range(100):
            c.work(5.0, rate=10.0, execution=0.1)
        for _ in range(steps):
            c.work(60.0 / steps, rate=40.0, execution=0.5, errors=0.5)
    assert figures(long.recent) == pytest.approx(figures(short.recent))


def test_who_does_nothing_any_more_slows_down_and_is_forgotten() -> None:
    c = Counting()
    c.work(5.0, rate=2.0, execution=0.3, errors=0.5)
    for _ in range(12):
        c.work(5.0, rate=0.0)
    assert c.recent.executions_per_second < 0.2
    assert c.recent.execution == pytest.approx(0.3), "it is still what it took when it last ran"
    for _ in range(120):
        c.work(5.0, rate=0.0)
    recent = c.recent
    assert (recent.execution, recent.error_rate) == (None, 0.0)
    assert recent.executions_per_second < FEWEST
    for _ in range(20):
        c.work(1e7, rate=0.0)
    assert c.recent == Recent(), "nor does a long silence end in anything but zeros"


def test_counts_that_go_back_are_of_another_start() -> None:
    c = Counting()
    c.work(5.0, rate=10.0)
    c.now += 5.0
    c.load = Load(executions=3, busy=1.0)
    c.tell()
    assert c.lately.recent is None
    c.work(5.0, rate=1.0, execution=0.5)
    assert figures(c.recent) == pytest.approx((0.5, 0.0, 1.0))


def test_two_loads_in_one_moment_count_once() -> None:
    c = Counting()
    c.work(5.0, rate=10.0)
    before = c.recent
    c.work(0.0, rate=0.0)
    c.load = replace(c.load, executions=c.load.executions + 7)
    c.tell()
    assert c.recent == before
    c.work(5.0, rate=10.0)
    assert c.recent.executions_per_second > before.executions_per_second, "what was new then is new later"


def test_no_load_whatever_it_claims_makes_nonsense() -> None:
    rng = random.Random(3)
    huge = 2**64 - 1
    lately, now = Lately(), 0.0
    for _ in range(2000):
        now += rng.choice((0.0, 1e-9, 0.1, 5.0, 1e9))
        counts = [rng.choice((0, 1, rng.randint(0, 1000), huge)) for _ in range(2)]
        busy = rng.choice((0.0, -5.0, rng.random() * 100, 3e11, -3e11))
        lately.heard(Load(executions=counts[0], failures=counts[1], busy=busy), now)
        recent = lately.recent
        if recent is not None:
            assert 0 <= recent.error_rate <= 1
            assert 0 <= recent.executions_per_second < math.inf
            assert recent.execution is None or 0 <= recent.execution < math.inf


def test_a_registry_shows_it_to_who_asks_and_makes_no_revision_of_it(world: Any, folded: Any) -> None:
    lease = world.register()
    watch = folded(world.ledger, Selector())
    watch.follow()
    for step in range(1, 4):
        world.now += 5.0
        world.ledger.renew(lease, Load(executions=10 * step, failures=step, busy=2.0 * step), world.now, 0.0)
        (endpoint,) = world.ledger.discover(Selector())
        if step == 1:
            assert endpoint.recent is None
    assert figures(endpoint.recent) == pytest.approx((0.2, 0.1, 2.0))
    assert watch.follow() == []
    assert world.ledger.store.revision == 1
    world.ledger.renew(lease, None, world.now, 0.0)
    assert world.ledger.discover(Selector())[0].recent == endpoint.recent
    world.deregister(lease)
    world.register(instance="instance-2")
    assert world.ledger.discover(Selector())[0].recent is None, "another lease, another history"


def test_it_travels_whole_and_nonsense_off_the_wire_is_nothing() -> None:
    for recent in (Recent(), Recent(0.25, 0.5, 12.5), Recent(0.0, 1.0, 0.0), None):
        endpoint = Endpoint("a", "h:1", recent=recent)
        assert Endpoint.from_proto(endpoint.to_proto()).recent == recent
    for rate in (math.nan, -1.0, math.inf):
        proto = registry_pb2.Recent(error_rate=rate, executions_per_second=rate)
        proto.execution.FromNanoseconds(-5)
        assert Recent.from_proto(proto) == Recent(0.0, 0.0, 0.0)
