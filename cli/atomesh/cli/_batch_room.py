"""The files of one batch, opened together: what earlier runs left there is read first."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any, Self

from atomesh.cli._batch_files import Appended, Journal, Past, read_past
from atomesh.cli._batch_lines import Source
from atomesh.cli._errors import UsageMistake
from atomesh.cli._output import note, say, to_json
from atomesh.cli.batch import Files
from atomesh.core.context import new_request_id
from atomesh.pipelines.batch import BatchObserver, Unobserved

_LISTED = 100  # unknown lines that are named


class Room:
    """Where the outcomes of a batch go. Without an output file that is stdout, and there is no past."""

    def __init__(self, output: Appended | None, rejects: Appended | None, journal: Journal | None) -> None:
        """Files that are open already."""
        self.output = output
        self.rejects = rejects
        self.journal = journal
        self.past = Past()
        self.rejected = 0
        self.unknown = 0
        self.unknown_lines: list[int] = []
        """The first hundred."""
        self.finished = False
        """Nothing is left to do: nobody will resume it."""
        self.new_id = new_request_id()[:16]

    @classmethod
    @contextlib.contextmanager
    def opened(cls, files: Files, target: str, source: Source) -> Iterator[Self]:
        """The files that were asked for.

        Raises:
            UsageMistake: one cannot be written, is the input, or holds what would be lost.
        """
        with contextlib.ExitStack() as stack:
            room = cls(*_open(files, target, source, stack))
            if files.resume:
                room._remember()
            if room.journal is not None:
                room.journal.begin()
            yield room
            if room.finished and room.journal is not None:
                room.journal.file.clear()

    @property
    def batch_id(self) -> str:
        """The batch's id, the same when it is resumed."""
        return self.new_id if self.journal is None else self.journal.head["batch"]

    @property
    def observer(self) -> BatchObserver:
        """Whoever writes down what is sent."""
        return self.journal or Unobserved()

    def put(self, told: dict[str, Any]) -> None:
        """Writes what became of a line."""
        line = to_json(told, indent=None)
        if self.output is None:
            say(line)
        else:
            self.output.add(line)

    def leave(self, line: int) -> None:
        """A line is left alone: it was sent, and nobody knows what came of it."""
        self.unknown += 1
        if len(self.unknown_lines) < _LISTED:
            self.unknown_lines.append(line)

    def _remember(self) -> None:
        assert self.output is not None, "only what goes to a file can be resumed"
        if self.journal is not None:
            self.journal.read(self.past)
        if read_past(self.output, self.past):
            note(f"{self.output.path} ended in the middle of a line, which is cut off")


def _open(
    files: Files, target: str, source: Source, stack: contextlib.ExitStack
) -> tuple[Appended | None, Appended | None, Journal | None]:
    path = None if files.output_file in (None, "-") else files.output_file
    if path is None:
        return None, _rejects(files.reject_file, source, stack, fresh=True), None
    if source.same_as(path):
        raise UsageMistake(f"{path} is the input itself; write the outputs elsewhere")
    output = _appended(path, stack)
    if not (files.resume or output.empty):
        raise UsageMistake(f"{path} is there and not empty; go on with --resume, or write elsewhere")
    journal = Journal(f"{path}.started", {"batch": new_request_id()[:16], "target": target})
    stack.callback(_drop_journal, journal)
    if not files.resume:
        if journal.sent:
            at = journal.file.path
            raise UsageMistake(
                f"{at} says that lines were sent before; go on with --resume, or remove it to begin anew"
            )
        journal.file.clear()
    chosen = files.reject_file
    if chosen is not None and os.path.exists(chosen) and os.path.samefile(chosen, path):
        raise UsageMistake(f"{chosen} is the output file too; write the rejects elsewhere")
    rejects = _rejects(chosen or f"{path}.rejects", source, stack, fresh=chosen is not None and not files.resume)
    return output, rejects, journal


def _rejects(path: str | None, source: Source, stack: contextlib.ExitStack, *, fresh: bool) -> Appended | None:
    """The reject file, emptied: whatever is broken is found again by each run."""
    if path is None:
        return None
    if source.same_as(path):
        raise UsageMistake(f"{path} is the input itself; write the rejects elsewhere")
    rejects = Appended(path)
    stack.callback(lambda: rejects.close(remove=rejects.empty))
    if fresh and not rejects.empty:
        raise UsageMistake(f"{path} is there and not empty; go on with --resume, or write elsewhere")
    rejects.clear()
    return rejects


def _appended(path: str, stack: contextlib.ExitStack) -> Appended:
    """A file that is open until the batch ends; one that is new is gone again where nothing was written."""
    new = not os.path.exists(path)
    file = Appended(path)
    stack.callback(_close, file, drop=new)
    return file


def _close(file: Appended, *, drop: bool) -> None:
    file.close(remove=drop and file.empty)


def _drop_journal(journal: Journal) -> None:
    journal.file.close(remove=not journal.sent)
