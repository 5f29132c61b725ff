"""How fast an endpoint is beside its siblings, learnt from what executions there take.

A slow copy that nobody declared (a noisy neighbour, a colder machine) has slots
like any other. Filled evenly, they are taken when a burst comes, where one
central queue would have kept them as its reserve. So endpoints are filled by
weight, and the weight is what the operator declared, corrected by what is seen.

Costs differ a thousandfold, so a mean says nothing before thousands of calls.
The mean of the *logarithm* does: a factor in speed is a difference there, and a
thousandfold spread only a standard deviation of 2 (ln 1000 / sqrt 12, for costs
spread evenly in the logarithm). A difference counts once it is 2.5 standard
errors: a copy 16 times slower is found after some ten calls, one of 1.7 after 128.
A false alarm only changes the order in which equals are filled.
"""

from __future__ import annotations

import math
from collections.abc import Collection

from atomesh.balancer.candidate import Candidate

MEMORY = 128
"""Executions that a speed rests on. Half finds a factor of 2 at best; twice is
late when an endpoint slows down."""
MIN_SAMPLES = 4
SPREAD = 2.0
"""Standard deviation of ln(seconds) over calls, as for costs that differ a thousandfold."""
ERRORS = 2.5
"""Standard errors that count. At 2 one endpoint in twenty is misjudged at any time;
at 3 a slow one is used half as long again before it is found."""
SHORTEST = 1e-3
"""Seconds; what is done sooner is done at once. Below it a machine's noise is larger
than any difference between endpoints, and nobody waits for it."""
_STEP = math.log(2) / 2  # weights move by half octaves: finer ones would make pickers anew for noise


def learn(candidate: Candidate, seconds: float) -> None:
    """An execution at the endpoint took so long, by its own clock."""
    samples = candidate.samples = min(candidate.samples + 1, MEMORY)
    candidate.pace_ln += (math.log(max(seconds, SHORTEST)) - candidate.pace_ln) / samples


def reweigh(candidates: Collection[Candidate]) -> bool:
    """Sets the weights of all siblings; whether any has changed."""
    known = [candidate for candidate in candidates if candidate.samples >= MIN_SAMPLES]
    total = sum(candidate.samples for candidate in known)
    summed = sum(candidate.samples * _relative(candidate) for candidate in known)
    changed = False
    for candidate in candidates:
        weight = candidate.declared
        others = total - candidate.samples
        if candidate.samples >= MIN_SAMPLES and others >= MIN_SAMPLES:
            own = _relative(candidate)
            off = own - (summed - candidate.samples * own) / others
            if abs(off) > ERRORS * SPREAD * math.sqrt(1 / candidate.samples + 1 / others):
                weight *= math.exp(-round(off / _STEP) * _STEP)
        if weight != candidate.weight:
            candidate.weight, changed = weight, True
    return changed


def _relative(candidate: Candidate) -> float:
    """Its mean of ln(seconds), as it would be at a declared weight of 1."""
    return candidate.pace_ln + math.log(candidate.declared)
