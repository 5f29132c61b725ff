"""Lease ids: 128 random bits each, in hex."""

from __future__ import annotations

import os
from collections.abc import Iterator

_BYTES = 16
_AT_ONCE = 256
"""Ids per question to the system. It gives the interpreter's lock away while it
answers, and a busy loop waits 10 us to have it back: half an id's cost at 4."""


def lease_ids() -> Iterator[str]:
    """New ones, without end."""
    while True:
        random = os.urandom(_BYTES * _AT_ONCE)
        for first in range(0, len(random), _BYTES):
            yield random[first : first + _BYTES].hex()
