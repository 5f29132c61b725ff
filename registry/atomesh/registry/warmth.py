"""Whether what a registry knows is what there is.

A restarted registry knows what was there when it stopped. Since then anything
may have gone, and whoever asks would be sent to it. So it holds its answers
until every lease that it restored has been heard of, or `warm_within` (3 s) has passed: all
who live have been heard of by then. An owner whose renewal found no registry
tries again every 2 s at most (`rpc.registry_client.RECONNECT`); one who did not
notice had renewed shortly before. A registry with nothing to restore is warm at
once: it cannot know that there should be anybody.
"""

from __future__ import annotations

from collections.abc import Iterable


class Warmth:
    """Which restored leases are still to be heard of."""

    def __init__(self, restored: Iterable[str], within: float, now: float) -> None:
        """Begins cold, where anything was restored; `within` in seconds."""
        self._unheard = set(restored)
        self.latest = now + within
        """By when it is warm at the latest, monotonic seconds."""

    def heard(self, lease: str) -> None:
        """It was heard of, or is gone for good."""
        self._unheard.discard(lease)

    def warm(self, now: float) -> bool:
        """Whether answers can be given. Once warm, always so."""
        if self._unheard and now >= self.latest:
            self._unheard.clear()
        return not self._unheard
