"""What can go wrong with a batch as a whole; what goes wrong with an item stays with the item.

AtomeshError
├── InvalidArgument
│   └── EmptyBatch           there is no input
└── AgentFailed
    └── BatchFailed          a strict batch in which something failed (`summary`)
"""

from __future__ import annotations

from atomesh.core.errors import AgentFailed, InvalidArgument
from atomesh.pipelines.batch.model import BatchSummary

_LISTED = 3  # errors in the message


class EmptyBatch(InvalidArgument):
    """There is no input."""

    reason = "EMPTY_BATCH"


class BatchFailed(AgentFailed):
    """A strict batch in which not every item succeeded. `summary` has the counts and the first hundred errors."""

    reason = "BATCH_FAILED"

    def __init__(self, summary: BatchSummary) -> None:
        """Says how many of how many, and why, in short."""
        super().__init__(
            f"{summary.total - summary.succeeded} of {summary.total} items of batch {summary.batch_id} "
            f"have no output, {summary.succeeded} have: {_reasons(summary)}",
            reason="BATCH_FAILED",
            details={"batch_id": summary.batch_id, "succeeded": summary.succeeded, "by_error": summary.by_error},
        )
        self.summary = summary


def _reasons(summary: BatchSummary) -> str:
    counts = [f"{count} {name}" for name, count in summary.by_error.items()]
    counts += [f"{summary.not_run} never begun"] if summary.not_run else []
    counts += [f"the inputs ended with {summary.inputs_error}"] if summary.inputs_error else []
    firsts = [f"item {error.key}: {error.message}" for error in summary.errors[:_LISTED]]
    return "; ".join([", ".join(counts) or "stopped", *firsts])
