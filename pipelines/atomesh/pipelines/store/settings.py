"""How a store keeps what it is given."""

from __future__ import annotations

from dataclasses import dataclass, field

from atomesh.pipelines.store.base import MAX_OUTPUT
from atomesh.pipelines.store.retention import Retention


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """The same for every kind of store."""

    retention: Retention = field(default_factory=Retention)
    max_output: int = MAX_OUTPUT
    """Bytes up to which an output is kept; 0 keeps none."""
