from __future__ import annotations

import pytest

from atomesh.pipelines.record import RunStatus
from atomesh.pipelines.store.retention import DAY, Kept, Retention, expired

NOW = 100 * DAY


def kept(id: str, days: float, status: RunStatus = RunStatus.SUCCESS, **fields: bool) -> Kept:
    return Kept(id, NOW - days * DAY, status, **{"durable": False, "abandoned": True} | fields)


def test_what_is_too_old_goes_oldest_first() -> None:
    runs = [kept("new", 1), kept("older", 9), kept("old", 8)]
    assert expired(runs, Retention(days=7), NOW) == ["older", "old"]


def test_what_is_too_many_goes_and_the_newest_stay() -> None:
    runs = [kept(f"r{n}", n / 10) for n in range(5)]
    assert expired(runs, Retention(runs=3), NOW) == ["r4", "r3"]


@pytest.mark.parametrize("status", [RunStatus.RUNNING, RunStatus.PENDING])
def test_what_is_under_way_stays_however_old(status: RunStatus) -> None:
    assert expired([kept("r", 99, status, abandoned=False)], Retention(), NOW) == []


def test_what_can_be_resumed_stays_though_its_process_is_gone() -> None:
    assert expired([kept("r", 99, RunStatus.RUNNING, durable=True)], Retention(), NOW) == []


def test_what_a_dead_process_left_behind_goes() -> None:
    assert expired([kept("r", 99, RunStatus.RUNNING)], Retention(), NOW) == ["r"]


@pytest.mark.parametrize("wrong", [{"days": 0.0}, {"days": float("nan")}, {"runs": 0}])
def test_limits_that_keep_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="keeps nothing"):
        Retention(**wrong)  # type: ignore[arg-type] # that is what is tried
