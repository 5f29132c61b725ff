"""What is said at the end of a batch, and the exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from atomesh.cli._batch_room import Room
from atomesh.cli._batch_view import show_summary
from atomesh.cli._errors import ExitCode
from atomesh.cli._output import counted, note, say_json
from atomesh.cli.batch import Manner
from atomesh.pipelines.batch import BatchStatus, Ended

if TYPE_CHECKING:
    from atomesh.pipelines.batch import BatchSummary

_UNAVAILABLE = {"NO_ENDPOINT", "REGISTRY_UNAVAILABLE", "CIRCUIT_OPEN"}
_NAMED = 10  # unknown lines in the summary for people; --json has a hundred


class Report:
    """The end of one run, earlier runs of the same batch counted in."""

    summary: BatchSummary

    def __init__(self, manner: Manner, *, as_json: bool) -> None:
        """Nothing to say yet."""
        self._manner = manner
        self._as_json = as_json

    def tell(self, room: Room, *, interrupted: bool) -> int:
        """Says it; the exit code."""
        summary = self.summary
        known = summary.total + room.past.done + room.unknown
        succeeded = summary.succeeded + room.past.done
        rate = succeeded / known if known else 0.0
        clean = succeeded == known and summary.ended is Ended.INPUTS
        room.finished = clean
        status = BatchStatus.SUCCESS if clean else BatchStatus.PARTIAL
        status = status if rate >= self._manner.min_success else BatchStatus.FAILED
        if self._as_json:
            say_json(self._data(room, rate, status))
        elif summary.total:
            show_summary(summary, status, self._more(room, rate))
        else:
            done = room.past.done
            note(f"nothing to do: {_lines(done, 'has an output', 'have outputs')}{_unknown(room)}")
        if interrupted:
            note(_go_on(room, "interrupted"))
            return ExitCode.INTERRUPTED
        return self._code(rate, clean=clean)

    def _code(self, rate: float, *, clean: bool) -> int:
        summary = self.summary
        if summary.ended is Ended.TIMEOUT:
            return ExitCode.DEADLINE
        if not summary.succeeded and summary.by_error and set(summary.by_error) <= _UNAVAILABLE:
            return ExitCode.UNAVAILABLE
        if rate < self._manner.min_success or (self._manner.strict and not clean):
            return ExitCode.FAILED
        return ExitCode.OK if summary.ended is Ended.INPUTS else ExitCode.FAILED

    def _more(self, room: Room, rate: float) -> list[tuple[str, str]]:
        told: list[tuple[str, str]] = []
        summary = self.summary
        told += [(f"line {error.key}", f"{error.type}: {error.message}"[:200]) for error in summary.errors[:3]]
        if summary.inputs_error:
            told.append(("inputs", f"reading them ended with {summary.inputs_error}"))
        if room.rejected and room.rejects is not None:
            told.append(("rejects", _rejected(room.rejected, room.rejects.path)))
        if room.past.done:
            told.append(
                ("earlier", f"{_lines(room.past.done, 'had an output', 'had outputs')}; {rate:.1%} of all have one now")
            )
        if room.unknown:
            told.append(("unknown", _unknown(room)[2:]))
        if summary.ended is Ended.TIMEOUT:
            told.append(("timeout", _go_on(room, f"the batch's {self._manner.timeout:g} s were over")))
        return told

    def _data(self, room: Room, rate: float, status: BatchStatus) -> dict[str, Any]:
        return self.summary.to_data() | {
            "status": status.value,
            "lines": {
                "success_rate": round(rate, 6),
                "done_before": room.past.done,
                "unknown": room.unknown,
                "unknown_lines": room.unknown_lines,
                "rejected": room.rejected,
                "reject_file": room.rejects.path if room.rejects is not None and room.rejected else None,
                "output_file": room.output.path if room.output is not None else None,
            },
        }


def _lines(count: int, one: str, many: str) -> str:
    """`1 line has an output`, `2 lines have outputs`."""
    return f"{counted(count, 'line')} {one if count == 1 else many}"


def _rejected(count: int, path: str) -> str:
    told = _lines(count, "is no input", "are no inputs")
    return f"{told}; {path} has {'it' if count == 1 else 'them'}"


def _unknown(room: Room) -> str:
    if not room.unknown:
        return ""
    named = ", ".join(map(str, room.unknown_lines[:_NAMED])) + (", ..." if room.unknown > _NAMED else "")
    sent, left, them = (
        ("was sent before and nobody knows whether it was done", "it is left alone", "it")
        if room.unknown == 1
        else ("were sent before and nobody knows whether they were done", "they are left alone", "them")
    )
    return f"; {counted(room.unknown, 'line')} {sent}, and {left} ({named}); --repeat-unknown sends {them} again"


def _go_on(room: Room, what: str) -> str:
    if room.output is None:
        return f"{what}; without --output-file it cannot be resumed"
    return f"{what}; the same command with --resume goes on from {room.output.path}"
