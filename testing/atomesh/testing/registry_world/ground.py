"""What everybody in a registry's world stands on. `Notes` is enough where the world is the real one."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from atomesh.core.clock import Clock
from atomesh.testing.clock import VirtualClock
from atomesh.testing.history import Recorder, Trouble
from atomesh.testing.memory import MemoryNetwork


class WallClock(VirtualClock):
    """A machine's clock: its wall time can be set, its monotonic time cannot."""

    offset = 0.0

    def wall(self) -> float:
        """Unix seconds, as far as somebody has set them."""
        return super().wall() + self.offset


@dataclass(slots=True)
class Notes:
    """The time, what was noted, and where randomness comes from."""

    seed: int
    clock: Clock
    recorder: Recorder
    began: dict[tuple[str, str], float] = field(default_factory=dict)
    """When the troubles that last began, by kind and whom."""

    def rng(self, who: str) -> random.Random:
        """Randomness of one's own: what others draw changes nothing for it."""
        return random.Random(f"{self.seed} {who}")

    def trouble(self, kind: str, who: str) -> None:
        """It begins now."""
        self.began.setdefault((kind, who), self.clock.now())

    def over(self, kind: str, who: str, aftermath: float = 0.0) -> None:
        """It ends now; what comes of it may last so many seconds more."""
        began = self.began.pop((kind, who), None)
        if began is not None:
            now = self.clock.now()
            self.recorder.note(Trouble(kind=kind, who=who, began=began, ended=now + aftermath))  # type: ignore[arg-type] # one of its kinds


@dataclass(slots=True)
class Ground(Notes):
    """The network of a world in virtual time as well."""

    network: MemoryNetwork = field(kw_only=True)
    wall: WallClock = field(kw_only=True)
    """The clock, once more: the one whose wall time can be set."""
