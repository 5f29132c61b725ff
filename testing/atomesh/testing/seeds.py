"""Worlds by their seeds, in several processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

_T = TypeVar("_T")
_CHUNK = 4  # worlds that a process takes at a time


def each_seed(run: Callable[[int], _T], seeds: Iterable[int], processes: int) -> Iterator[_T]:
    """What comes of each, in the order of the seeds; `run` must be one that can be pickled."""
    if processes == 1:
        yield from map(run, seeds)
        return
    # Spawned: grpc does not survive a fork, and a world should begin in a clean process.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        yield from pool.map(run, seeds, chunksize=_CHUNK)


def seed_range(text: str) -> tuple[int, int]:
    """`FIRST:LAST`, as argparse wants it. Raises ValueError where it is none."""
    first, _, last = text.partition(":")
    return int(first), int(last)
