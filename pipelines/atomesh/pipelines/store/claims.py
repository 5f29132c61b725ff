"""Whether a durable run may be taken over: its owner is gone for sure, or has been silent for long.

A process on the same host can be asked for. For all others the owner's sign of
life counts, which it writes every `LIFE_EVERY` seconds by the database's clock.
"""

from __future__ import annotations

from atomesh.pipelines.errors import NotResumable
from atomesh.pipelines.owner import Host, owner_gone
from atomesh.pipelines.record import RunStatus

LIFE_EVERY = 10.0
"""Seconds between two signs of life. One row of one update for each durable run."""

SILENT_SECONDS = 60.0
"""After which an owner that cannot be asked for counts as gone. Five signs of
life were missed then: at a third, a database that is away for 20 s hands runs
over whose owners live; at ten times an operator waits ten minutes."""


def check_claimable(run_id: str, status: RunStatus, owner: str, *, durable: bool, silence: float, here: Host) -> None:
    """Lets a claim pass. `silence` is in seconds, since the owner's last sign of life.

    Raises:
        NotResumable: the run has ended, is not durable, or its owner still runs.
    """
    if status.ended:
        raise NotResumable(f"run {run_id} has ended ({status.name}); run its pipeline anew")
    if not durable:
        raise NotResumable(
            f"run {run_id} keeps no checkpoints; run its pipeline anew, marked `durable: true` if it must outlive that"
        )
    gone = owner_gone(owner, here)
    if gone is False:
        raise NotResumable(f"run {run_id} is still run by {owner}; cancel it there, or wait for its end")
    if gone is None and silence < SILENT_SECONDS:
        raise NotResumable(
            f"run {run_id} may still be run by {owner}, which was heard of {silence:.0f} s ago; "
            f"try again in {SILENT_SECONDS - silence:.0f} s"
        )
