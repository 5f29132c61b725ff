"""How the interpreter should run where a registry has the process to itself."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

NEW_OBJECTS = 20_000
"""Objects made before the young ones are looked through for cycles. What a
registration makes stays, and at Python's 700 looking for cycles in it again and
again was a tenth of its cost; here it is a hundredth. Twice gains nothing."""


@contextlib.contextmanager
def restoring() -> Iterator[None]:
    """Does not look for cycles meanwhile: all that is read from a store stays, and looking at it was half the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def tune() -> None:
    """Fits the interpreter to a registry. For its own process alone: what it sets is the whole interpreter's."""
    gc.collect()
    gc.freeze()  # what is there by now stays
    gc.set_threshold(NEW_OBJECTS, 50, 100)
