"""When an endpoint is left alone: the thresholds of ejection, which an agent may have of its own.

An agent's circuit is its endpoints' ejections seen from above (see `circuit`),
so these are its breaker's settings too. The defaults are those of small fleets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from atomesh.core.errors import InvalidArgument

_MAX_SECONDS = 86_400.0
"""A day: what is left alone for longer should be deregistered by somebody."""


@dataclass(frozen=True, slots=True)
class Breaker:
    """Thresholds for the endpoints of one agent.

    Raises:
        InvalidArgument: a count below 1, a share outside 0 to 1, seconds that are not above 0.
    """

    transport_failures: int = 5
    """Connections refused or cut in a row. Half would eject on one lost burst;
    twice lets a dead endpoint eat ten calls."""
    agent_failures: int | None = None
    """The agent's own failures in a row, success alone ends the row. None is
    never by themselves: an input that fails everywhere is no endpoint's fault."""
    window_seconds: float = 10.0
    """What ratios are counted over."""
    min_volume: int = 10
    """Calls in a window before its ratio means anything: at 5, three bad of five is noise."""
    transport_ratio: float = 0.5
    """Of its calls in a window that lost their connection."""
    agent_ratio: float = 0.5
    """Of its calls in a window that the agent failed, where it stands out from its siblings."""
    sibling_ratio: float = 0.1
    """At most so many of the siblings' calls fail while it stands out. 1 is
    whatever the siblings do, and where there are none."""
    base_seconds: float = 10.0
    """How long the first ejection lasts; each in a row lasts twice as long (gRFC A50)."""
    max_seconds: float = 300.0
    """How long any lasts at most."""
    max_ejected: float = 0.5
    """Share of the fleet that is ejected at once, and always one. With 1 all may
    be, and then calls wait: ejected endpoints are not used for want of others."""

    def __post_init__(self) -> None:
        """Checks it."""
        for name in ("transport_failures", "min_volume"):
            _count(name, getattr(self, name))
        if self.agent_failures is not None:
            _count("agent_failures", self.agent_failures)
        for name in ("transport_ratio", "agent_ratio", "max_ejected"):
            _number(name, getattr(self, name), 1.0, "a share above 0 and at most 1")
        _number("sibling_ratio", self.sibling_ratio, 1.0, "a share from 0 to 1", zero=True)
        for name in ("window_seconds", "base_seconds", "max_seconds"):
            _number(name, getattr(self, name), _MAX_SECONDS, f"seconds above 0 and at most {_MAX_SECONDS:g}")
        if self.max_seconds < self.base_seconds:
            raise InvalidArgument(
                f"max_seconds {self.max_seconds:g} of a breaker is less than its base_seconds {self.base_seconds:g}"
            )

    @property
    def panics(self) -> bool:
        """Whether ejected endpoints are used where there are no others."""
        return self.max_ejected < 1

    def may_eject(self, ejected: int, fleet: int) -> bool:
        """Whether one more may be ejected: never more than the share of the fleet, but always one."""
        return ejected + 1 <= max(1, math.floor(fleet * self.max_ejected + 1e-9))  # 0.29 * 100 is 28.999...


def _count(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidArgument(f"{name} {value!r:.80} of a breaker is not a whole number from 1 on")


def _number(name: str, value: object, most: float, wanted: str, *, zero: bool = False) -> None:
    fits = (
        isinstance(value, int | float) and not isinstance(value, bool) and (0 < value <= most or (zero and value == 0))
    )
    if not fits:  # nor does NaN
        raise InvalidArgument(f"{name} {value!r:.80} of a breaker is not {wanted}")


DEFAULT_BREAKER = Breaker()
