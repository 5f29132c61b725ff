"""What a batch leaves behind: outputs, rejects, and a journal of what was sent, so that it can be resumed.

A line of the journal (`OUTPUT.started`) is written before its input is sent, a
line of the output when there is an outcome. Both are in the system's hands when
the write returns, so kill -9 loses none; a machine that loses its power may. A
line that was torn by a kill is cut off. What was sent and has no outcome is
unknown: an agent that must not run twice is not asked again.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

from atomesh.cli._errors import CliError, ExitCode, UsageMistake
from atomesh.cli._output import to_json
from atomesh.pipelines.batch import Unobserved

_MOST_LINES = 1 << 31  # a number beyond it was not written by us


class Counts:
    """A small number for each line, in one byte: a million lines are a megabyte."""

    def __init__(self) -> None:
        """All 0."""
        self._bytes = bytearray()

    def __getitem__(self, line: int) -> int:
        """The number of a line."""
        return self._bytes[line] if line < len(self._bytes) else 0

    def set(self, line: int, value: int) -> None:
        """At most 255."""
        if line >= len(self._bytes):
            self._bytes.extend(bytes(line + 1024 - len(self._bytes)))
        self._bytes[line] = min(255, max(0, value))


class Past:
    """What earlier runs did, line by line."""

    def __init__(self) -> None:
        """Nothing."""
        self._done = Counts()
        self._open = Counts()
        self.done = 0
        """Lines that have an output."""

    def has_output(self, line: int) -> bool:
        """Whether nothing is left to do."""
        return bool(self._done[line])

    def unknown(self, line: int) -> bool:
        """Whether it was sent, and nobody knows what came of it."""
        return self._open[line] > 0

    def sent(self, line: int) -> None:
        """Takes a line of the journal."""
        self._open.set(line, self._open[line] + 1)

    def ended(self, line: int, error: dict[str, Any] | None) -> None:
        """Takes a line of the output."""
        if error is None:
            self.done += not self._done[line]
            self._done.set(line, 1)
        elif error.get("sent") and not error.get("may_have_run"):
            self._open.set(line, self._open[line] - 1)


class Appended:
    """A file of lines that is only ever added to."""

    def __init__(self, path: str) -> None:
        """Opens it, and makes it where it is not.

        Raises:
            UsageMistake: it cannot be written, or another batch writes it.
        """
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        except (OSError, ValueError) as error:
            raise UsageMistake(
                f"{path!r:.200} cannot be written: {getattr(error, 'strerror', None) or error}"
            ) from None
        if not self._alone():
            os.close(self._fd)
            raise UsageMistake(f"{path} is being written by another batch; wait for it, or write elsewhere")

    def _alone(self) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks
            return True
        return True

    @property
    def empty(self) -> bool:
        """Whether there is nothing in it."""
        return os.fstat(self._fd).st_size == 0

    def repair(self) -> bool:
        """Cuts off a last line that has no end; whether there was one."""
        size = end = os.fstat(self._fd).st_size
        while end:
            start = max(0, end - 64 * 1024)
            found = os.pread(self._fd, end - start, start).rfind(b"\n")
            if found >= 0:
                end = start + found + 1
                break
            end = start
        if end < size:
            os.ftruncate(self._fd, end)
        return end < size

    def lines(self) -> Iterator[bytes]:
        """What is in it."""
        with open(self.path, "rb") as file:
            yield from file

    def add(self, line: str) -> None:
        """Writes a line, or several.

        Raises:
            CliError: the disk is full, or something like it.
        """
        left = memoryview((line + "\n").encode("utf-8", "backslashreplace"))
        try:
            while left:
                left = left[os.write(self._fd, left) :]
        except OSError as error:
            told = f"{self.path} cannot be written: {error.strerror or error}; go on with --resume when it can"
            raise CliError(told, ExitCode.FAILED) from None

    def clear(self) -> None:
        """Empties it."""
        os.ftruncate(self._fd, 0)

    def close(self, *, remove: bool = False) -> None:
        """Lets go of it."""
        if remove:
            with contextlib.suppress(OSError):
                os.unlink(self.path)
        os.close(self._fd)


class Journal(Unobserved):
    """Which lines were sent."""

    def __init__(self, path: str, head: dict[str, str]) -> None:
        """`head` says which batch it is of."""
        self.file = Appended(path)
        self.head = head

    def read(self, past: Past) -> None:
        """Takes what earlier runs sent, and the batch's id from them.

        Raises:
            UsageMistake: it is no journal, or of a batch for another agent.
        """
        self.file.repair()
        lines = self.file.lines()
        first = next(lines, None)
        if first is None:
            return
        head = _parsed(first, self.file.path, 1)
        if head.get("target") != self.head["target"]:
            raise UsageMistake(
                f"{self.file.path} is of a batch for {head.get('target')!r:.80}, not {self.head['target']}; "
                "resume it with the same agent, or write elsewhere"
            )
        self.head = {**self.head, "batch": str(head.get("batch") or self.head["batch"])}
        for number, line in enumerate(lines, 2):
            if not line.strip().isdigit() or int(line) > _MOST_LINES:
                raise UsageMistake(f"{self.file.path} line {number} is no line of a batch's journal; write elsewhere")
            past.sent(int(line))

    def begin(self) -> None:
        """Writes the head where there is none."""
        if self.file.empty:
            self.file.add(to_json(self.head, indent=None))

    @property
    def sent(self) -> bool:
        """Whether it says of any line that it was sent."""
        lines = self.file.lines()
        return next(lines, None) is not None and next(lines, None) is not None

    def items_starting(self, batch_id: str, keys: Sequence[str]) -> None:
        """Writes down what is about to be sent, all in one write."""
        self.file.add("\n".join(keys))


def read_past(output: Appended, past: Past) -> bool:
    """Takes what earlier runs put into the output; whether a torn last line was cut off.

    Raises:
        UsageMistake: it is no output of a batch.
    """
    torn = output.repair()
    for number, line in enumerate(output.lines(), 1):
        data = _parsed(line, output.path, number)
        at, error = data.get("line"), data.get("error")
        if not isinstance(at, int) or not 0 < at < _MOST_LINES or not ("output" in data or isinstance(error, dict)):
            raise UsageMistake(f"{output.path} line {number} is no output of a batch; resume with the file that is one")
        past.ended(at, error)
    return torn


def _parsed(line: bytes, path: str, number: int) -> dict[str, Any]:
    try:
        data = json.loads(line)
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise UsageMistake(f"{path} line {number} is no output of a batch; resume with the file that is one")
    return data


def rejected(line: int, why: str, raw: bytes | None) -> str:
    """A line of the reject file."""
    told: dict[str, Any] = {"line": line, "why": why}
    if raw is not None:
        try:
            told["raw"] = raw.decode()
        except UnicodeDecodeError:
            told["raw_base64"] = base64.b64encode(raw).decode()
    return to_json(told, indent=None)
