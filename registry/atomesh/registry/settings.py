"""What an operator may change of a registry; each default says why it is what it is."""

from __future__ import annotations

from dataclasses import dataclass

from atomesh.core.errors import InvalidArgument
from atomesh.registry.allow_list import PRIVATE, AllowList


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """Times are in seconds."""

    min_ttl: float = 15.0
    """The shortest lease. Owners renew every third of it: half would lose
    leases to a loop blocked for 5 s, twice would keep a dead endpoint listed
    for half a minute."""

    default_ttl: float = 15.0
    """The lease of whoever does not say. The shortest: fast is the better default
    as long as a renewal costs a few microseconds."""

    max_ttl: float = 3600.0
    """The longest lease. Half would still do; more turns a lease into a
    configuration entry, and a crash into an hour of failed calls."""

    tick: float = 1.0
    """How often leases are judged: an expiry is seen at most so late. Half
    gains nothing a caller would feel, twice is an eighth of the shortest ttl."""

    deaf_after: float = 2.5
    """A registry that looked at no lease for longer was not listening (stopped,
    suspended, its loop blocked) and gives every lease that time back. Half
    takes an ordinary late tick for deafness; twice is a lost round of renewals."""

    preservation_ratio: float = 0.15
    """More than this share of leases in doubt at once, and the registry doubts
    itself. Half is reached by a rolling restart, twice only by a disaster that
    has already emptied a third of the fleet. (Netflix Eureka's number.)"""

    preservation_minimum: int = 20
    """Leases below which expiry is plain: 15 % of fewer is one or two
    processes, and those do crash together."""

    preservation_window: float = 15.0
    """Plain expiries of the last so many seconds count as in doubt too: one
    shortest ttl, in which everything that was cut off at one moment runs out."""

    suspect_ttls: float = 10.0
    """Ttls that a lease may stay SUSPECT. Half ends within a switch's reboot;
    twice keeps the really dead for five minutes."""

    history_changes: int = 10_000
    """Changes kept for watchers that resume: about 5 MB. Half covers a
    reconnect after a rollout of 2,000 endpoints barely; twice is memory only."""

    watch_queue: int = 10_000
    """Changes that may wait for one watcher, before a Reset replaces them. Not
    below `history_changes`, or what can be resumed would overflow at once."""

    bookmark_interval: float = 5.0
    """How often an idle watcher learns the position: it can resume as long as
    fewer than `history_changes` happen in that time."""

    pending_operations: int = 10_000
    """Operations that may wait for their commit. At a slow disk's 100 commits
    per second that is still below a second of work, as they share commits."""

    superseded_kept: int = 10_000
    """Superseded leases remembered, so that their owners hear it and stop;
    forgotten ones hear UNKNOWN, and register again over their successors."""

    strict_contracts: bool = False
    """Whether a registration is held to the rules of the live contracts too, not
    only to what goes over the wire. Off, as a rule made narrower on purpose is
    common, and the endpoint names whatever it refuses."""

    warm_within: float = 3.0
    """How long a restarted registry waits for those that it restored to be heard
    of. Half is less than the 2 s after which owners try again; twice is longer
    than a client waits for one answer."""

    probe_interval: float = 30.0
    """How often an endpoint is asked for its health; 0 for never. Leases tell of
    crashes sooner; half finds wrong addresses sooner at twice the cost, twice
    leaves one in use for two minutes."""

    probe_timeout: float = 5.0
    """How long a probe may take, name resolution and connection included. Half
    is less than a loop blocked for 4 s, twice tells nothing more."""

    probe_concurrency: int = 64
    """Probes at once: as many as can hang without the others being late, at the
    rate below and a timeout of 5 s a quarter of all. Twice is file descriptors only."""

    probes_per_second: float = 50.0
    """Probes begun per second: some 5 % of a core. Fleets above 1,500 endpoints are
    probed less often than every 30 s; twice would be felt by registrations."""

    probe_failures: int = 2
    """Failures in a row that make SUSPECT. One is any lost packet, four are two minutes."""

    probe_successes: int = 2
    """Successes in a row that end it. One lets an endpoint flap, four are two minutes."""

    probe_networks: tuple[str, ...] = PRIVATE
    """Where probes may go, in CIDR: see `allow_list`."""

    def __post_init__(self) -> None:
        """Raises InvalidArgument for settings that contradict each other."""
        if not 0 < self.min_ttl <= self.default_ttl <= self.max_ttl:
            raise InvalidArgument(
                f"ttl settings {self.min_ttl:g} (min), {self.default_ttl:g} (default), {self.max_ttl:g} (max) "
                "must be above 0 and in this order"
            )
        if not 0 < self.preservation_ratio < 1:
            raise InvalidArgument(f"preservation_ratio {self.preservation_ratio:g} must lie between 0 and 1")
        if self.tick <= 0 or self.deaf_after <= self.tick:
            raise InvalidArgument(f"tick {self.tick:g} must be above 0 and below deaf_after {self.deaf_after:g}")
        self._check_probes()
        if not 0 < self.history_changes <= self.watch_queue:
            raise InvalidArgument(
                f"watch_queue {self.watch_queue} must not be below history_changes {self.history_changes}"
            )

    def _check_probes(self) -> None:
        if not (self.probe_interval == 0 or self.probe_interval >= self.probe_timeout > 0):
            raise InvalidArgument(
                f"probe_interval {self.probe_interval:g} s must be 0 (no probes) or at least "
                f"probe_timeout {self.probe_timeout:g} s, and that above 0"
            )
        counts = (self.probe_concurrency, self.probes_per_second, self.probe_failures, self.probe_successes)
        if min(counts) < 1:
            raise InvalidArgument(
                "probe_concurrency, probes_per_second, probe_failures and probe_successes must be at least 1; "
                "switch probes off with probe_interval 0"
            )
        AllowList(self.probe_networks)
