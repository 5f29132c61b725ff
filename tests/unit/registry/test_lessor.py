"""Leases in virtual time: who expires, who is doubted, and what a stopped registry costs nobody."""

from __future__ import annotations

import random

import pytest

from atomesh.registry.lessor import Lessor, Verdict, fingerprint
from atomesh.registry.settings import RegistrySettings

SETTINGS = RegistrySettings()
TTL = 15.0


class Time:
    """A lessor whose ticker never misses a second."""

    def __init__(self, leases: int = 0, ttl: float = TTL) -> None:
        self.now = 0.0
        self.lessor = Lessor(SETTINGS, self.now)
        for number in range(leases):
            self.lessor.grant(f"{number}", ttl, self.now)

    def tick(self) -> Verdict:
        self.now += SETTINGS.tick
        verdict = self.lessor.judge(self.now)
        self.lessor.carry_out(verdict, self.now)
        return verdict

    def until(self, end: float, *renewing: str) -> tuple[dict[str, float], dict[str, float]]:
        """When each lease expired, and when it became suspect, while these renew every third."""
        expired: dict[str, float] = {}
        suspected: dict[str, float] = {}
        while self.now < end:
            verdict = self.tick()
            expired.update(dict.fromkeys(verdict.expired, self.now))
            suspected.update(dict.fromkeys(verdict.suspected, self.now))
            if self.now % (TTL / 3) == 0:
                for lease in renewing:
                    assert self.lessor.renew(lease, self.now), f"lease {lease} renews in time and must be there"
        return expired, suspected


def test_a_lease_lasts_its_ttl_from_its_last_renewal() -> None:
    time = Time(2)
    time.until(10)
    assert time.lessor.renew("0", time.now)
    expired, _ = time.until(60)
    assert expired == {"1": 15, "0": 25}


def test_a_renewed_lease_never_expires() -> None:
    time = Time(2)
    assert time.until(300, "0")[0] == {"1": 15}
    assert "0" in time.lessor


def test_an_expired_and_a_revoked_lease_cannot_be_renewed() -> None:
    time = Time(2)
    time.lessor.revoke("0")
    expired, _ = time.until(20)
    assert expired == {"1": 15}, "a revoked lease must not expire a second time"
    assert not time.lessor.renew("0", time.now)
    assert not time.lessor.renew("1", time.now)


def test_judging_decides_and_does_nothing() -> None:
    time = Time(1)
    time.until(14)
    first = time.lessor.judge(15.0)
    assert first == time.lessor.judge(15.5) == Verdict(expired=("0",))
    assert time.lessor.renew("0", 15.6), "what is judged and not carried out has not ended"
    assert time.lessor.judge(16.0) == Verdict()


def test_a_registry_that_was_stopped_for_an_hour_expires_nobody_because_of_it() -> None:
    time = Time(30)
    time.until(10)
    time.now += 3600
    assert time.tick() == Verdict(), "a lease must not expire while nobody listened"
    assert all(time.lessor.renew(f"{number}", time.now) for number in range(30))


def test_after_a_stop_each_lease_has_what_was_left_of_it() -> None:
    time = Time(1)
    time.until(10)
    time.now += 3600
    expired, _ = time.until(4000)
    assert 3615 <= expired["0"] <= 3617, "a stop must delay the expiry by its length and no more"


def test_renewals_that_arrive_before_the_first_tick_after_a_stop_count_as_any() -> None:
    time = Time(2)
    time.until(10)
    time.now += 3600
    assert time.lessor.renew("0", time.now)
    expired, _ = time.until(3640)
    assert expired["1"] == pytest.approx(3616, abs=2)
    assert expired["0"] == pytest.approx(3625, abs=2)


def test_a_loop_blocked_for_4_seconds_expires_nobody() -> None:
    time = Time(5)
    time.until(13)
    time.now += 4
    assert time.tick() == Verdict()


@pytest.mark.parametrize(
    ("total", "dead", "doubted"), [(19, 19, False), (20, 3, False), (20, 4, True), (100, 16, True)]
)
def test_more_than_15_percent_of_at_least_20_are_doubted_instead_of_expired(
    total: int, dead: int, doubted: bool
) -> None:
    time = Time(total)
    expired, suspected = time.until(30, *(f"{number}" for number in range(dead, total)))
    assert len(suspected) == (dead if doubted else 0)
    assert len(expired) == (0 if doubted else dead)


def test_leases_cut_off_at_one_moment_are_doubted_before_the_first_would_expire() -> None:
    rng = random.Random(7)
    lessor = Lessor(SETTINGS, 0.0)
    for number in range(100):
        lessor.grant(f"{number}", TTL, 0.0)
    due = {f"{number}": rng.uniform(0, TTL / 3) for number in range(100)}
    now, expired, suspected = 0.0, set[str](), set[str]()
    while now < 90:
        now += 1
        for lease, at in due.items():
            cut_off = now > 60 and int(lease) < 20
            if not cut_off and at <= now:
                lessor.renew(lease, now)
                due[lease] = at + TTL / 3
        verdict = lessor.judge(now)
        lessor.carry_out(verdict, now)
        expired |= set(verdict.expired)
        suspected |= set(verdict.suspected)
    assert not expired, "one fifth cut off at once must be doubted, though they run out one after the other"
    assert suspected == {f"{number}" for number in range(20)}


def test_expiries_just_past_count_towards_the_next_doubt() -> None:
    time = Time(20)
    healthy = [f"{number}" for number in range(4, 20)]
    time.until(5, *healthy)
    time.lessor.renew("3", time.now)
    expired, suspected = time.until(25, *healthy)
    assert sorted(expired) == ["0", "1", "2"]
    assert sorted(suspected) == ["3"], "3 gone and one in doubt within one window are more than 15 % of 20"


def test_a_suspect_lease_that_renews_is_as_good_as_any() -> None:
    time = Time(20)
    time.until(16)
    assert time.lessor.is_suspect("7")
    assert time.lessor.renew("7", time.now)
    assert not time.lessor.is_suspect("7")
    assert time.tick() == Verdict()


def test_a_suspect_lease_expires_after_ten_ttls() -> None:
    time = Time(20)
    expired, suspected = time.until(200)
    assert set(suspected.values()) == {15}
    assert set(expired.values()) == {165}, "ten ttls after it ran out, a lease is over"
    assert len(time.lessor) == 0


def test_one_that_renews_while_its_suspicion_is_committed_is_not_suspect() -> None:
    time = Time(20)
    time.until(14)
    verdict = time.lessor.judge(15.0)
    assert time.lessor.renew("3", 15.1)
    time.lessor.carry_out(verdict, 15.2)
    assert not time.lessor.is_suspect("3")
    assert time.lessor.is_suspect("4")


def test_no_lease_outlives_its_last_renewal_by_more_than_eleven_ttls_and_none_ends_early() -> None:
    for seed in range(6):
        rng = random.Random(seed)
        lessor, last, now = Lessor(SETTINGS, 0.0), dict[str, float](), 0.0
        for step in range(2000):
            now += rng.choice([0.3, 1.0, 2.0])
            if rng.random() < 0.3:
                lessor.grant(f"{step}", TTL, now)
                last[f"{step}"] = now
            quiet = (step // 300) % 2
            for lease in list(last):
                if rng.random() < (0.02 if quiet else 0.25):
                    assert lessor.renew(lease, now)
                    last[lease] = now
            verdict = lessor.judge(now)
            lessor.carry_out(verdict, now)
            for lease in verdict.expired:
                assert now - last.pop(lease) >= TTL, "no lease may end before its ttl"
            for lease, renewed in last.items():
                assert now - renewed <= 11 * TTL + 2.0, f"seed {seed}: lease {lease} must be over"


def test_a_fingerprint_gives_no_lease_away() -> None:
    assert fingerprint("a" * 32) != fingerprint("a" * 31 + "b")
    assert len(fingerprint("\ud800")) == 64, "whatever a caller sends has a fingerprint"
