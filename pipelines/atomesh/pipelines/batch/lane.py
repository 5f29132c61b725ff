"""One target of a batch: what is held for it, and how many calls it has outstanding. Pure."""

from __future__ import annotations

from collections import deque

from atomesh.balancer.capacity import Capacity
from atomesh.pipelines.batch.inputs import Job
from atomesh.pipelines.batch.model import BatchItem, Target
from atomesh.pipelines.batch.window import Want, Window


class Lane:
    """The inputs for one target, in their order."""

    __slots__ = ("held", "met", "name", "outstanding", "target", "window")

    def __init__(self, name: str, target: Target) -> None:
        """Nothing yet; nothing is begun before the target is known."""
        self.name = name
        self.target = target
        self.held: deque[Job] = deque()
        self.outstanding = 0
        self.window = Window()
        self.met = False

    def look(self, capacity: Capacity, now: float) -> None:
        """Takes the capacity of the target."""
        self.window.look(capacity, self.outstanding, now)

    def want(self) -> Want:
        """What it could begin."""
        return Want(self.window.limit if self.met else 0, self.outstanding, len(self.held))

    def ended(self, item: BatchItem, around: float | None) -> None:
        """One of its calls ended."""
        if around is not None and item.execution > 0:
            self.window.took(item.execution, around)
