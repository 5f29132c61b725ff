"""Worlds themselves: what one reports, that a seed decides it, and that what breaks is shown with its replay."""

from __future__ import annotations

import io
import random

import pytest

from atomesh.testing.world import (
    Bimodal,
    Constant,
    Cut,
    Drag,
    Fail,
    Failures,
    Kill,
    LogUniform,
    Partition,
    Pause,
    Profile,
    Report,
    Restart,
    Scenario,
    Spiky,
    Violation,
    World,
    explain,
    random_scenario,
    run_world,
)
from atomesh.testing.world.runner import main

SMALL = Scenario(seed=1, slots=(2, 1), clients=2, costs=Constant(0.05), calls=40, idempotent=0.5)


def _small(**changes: object) -> Scenario:
    return Scenario(**{name: getattr(SMALL, name) for name in SMALL.__slots__} | changes)


def test_a_world_without_faults_answers_every_call() -> None:
    report = run_world(SMALL)
    assert report.violations == ()
    assert report.results == {"OK": report.calls}
    assert report.calls >= 40


def test_a_seed_decides_every_event_and_another_seed_other_ones() -> None:
    first, again, other = run_world(SMALL), run_world(SMALL), run_world(_small(seed=2))
    assert first.lines == again.lines, "one seed must have one trace"
    assert first.digest == again.digest
    assert first.digest != other.digest


@pytest.mark.parametrize(
    "fault",
    [
        Kill(0.2, 0.5, "endpoint-1"),
        Kill(0.2, 0.5, "registry"),
        Restart(0.2, 0.0, "endpoint-1"),
        Pause(0.2, 2.0, "endpoint-2"),
        Pause(0.2, 2.0, "client-1"),
        Pause(0.2, 20.0, "registry"),
        Partition(0.2, 1.0, "client-1", "endpoint-1"),
        Partition(0.2, 20.0, "endpoint-1", "client-2", one_way=True),
        Cut(0.2, 0.0, "client-1", "endpoint-1"),
        Fail(0.2, 1.0, "endpoint-1", 1.0),
        Drag(0.2, 1.0, "endpoint-2", 16.0),
    ],
    ids=str,
)
def test_every_fault_leaves_a_trace_and_a_mesh_that_recovers(fault: object) -> None:
    report = run_world(_small(faults=(fault,), calls=120))
    assert report.violations == (), explain(report)
    assert any(f"{type(fault).__name__}(" in line for line in report.lines), "a fault must be in the trace"


def test_a_kill_is_felt() -> None:
    report = run_world(_small(slots=(1,), calls=60, faults=(Kill(0.5, 3.0, "endpoint-1"),), timeout=2.0))
    assert set(report.results) > {"OK"}, "with its only endpoint dead, some calls must fail"


@pytest.mark.parametrize(
    "changes", [{"mux": False}, {"streamed": 1.0}, {"large": 0.5}, {"hedge": True, "idempotent": 1.0}]
)
def test_every_kind_of_call_goes_through_a_world(changes: dict[str, object]) -> None:
    report = run_world(_small(**changes))
    assert report.violations == (), explain(report)
    assert report.results == {"OK": report.calls}


def test_what_broke_is_explained_with_seed_time_events_and_replay() -> None:
    violation = Violation(1.25, "a rule", ("    1.000000 one        event",))
    report = Report(17, 2.0, 1, {"OK": 1}, (violation,), violation.events, "digest")
    told = explain(report)
    assert "seed 17, at 1.250000 s of virtual time: a rule" in told
    assert "one        event" in told
    assert told.endswith("replay: python -m atomesh.testing.world --seed 17")


def test_a_world_that_crashes_has_a_seed_a_time_and_last_events_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    async def crash(world: World) -> None:
        await world.ground.clock.sleep(1)
        raise LookupError("not there")

    monkeypatch.setattr(World, "_settle", crash)
    told = explain(run_world(SMALL))
    assert "the world ends with LookupError: not there" in told
    assert "seed 1, at " in told
    assert "ends: OK" in told, "the events before it must be shown"


def test_the_command_shows_one_world_and_its_digest() -> None:
    out = io.StringIO()
    assert main(["--seed", "3", "--grep", "fault"], out) == 0
    shown = out.getvalue()
    assert "Scenario(seed=3" in shown
    assert run_world(random_scenario(3)).digest in shown


def test_the_command_runs_a_range_and_says_that_all_held() -> None:
    out = io.StringIO()
    assert main(["--seeds", "0:2", "--processes", "1"], out) == 0
    assert "2 worlds" in out.getvalue()
    assert "every rule held" in out.getvalue()


@pytest.mark.parametrize(
    "profile", [Constant(0.3), LogUniform(0.01, 10.0), Bimodal(0.1, 2.0, 0.2), Spiky(0.2, 1.0, 0.1)]
)
def test_profiles_draw_what_their_mean_says(profile: Profile) -> None:
    rng = random.Random(5)
    drawn = [profile.draw(rng) for _ in range(20_000)]
    assert min(drawn) > 0
    assert sum(drawn) / len(drawn) == pytest.approx(profile.mean, rel=0.05)


def test_failures_are_a_share() -> None:
    rng = random.Random(5)
    assert not any(Failures().draw(rng) for _ in range(100))
    assert sum(Failures(0.3).draw(rng) for _ in range(10_000)) == pytest.approx(3_000, rel=0.05)
