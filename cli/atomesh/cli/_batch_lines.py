"""Lines of a file or of stdin, one after the other, in constant memory: what is read while something waits blocks nothing."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncGenerator

from atomesh.cli._errors import UsageMistake
from atomesh.cli._messages import MAX_INPUT_BYTES

MAX_LINE = 4 * MAX_INPUT_BYTES
"""Bytes of a line: no message's JSON is longer."""
_BLOCK = 64 * 1024
_MARK = b"\xef\xbb\xbf"  # what some editors begin UTF-8 with


class Source:
    """An input file; `-` is stdin."""

    def __init__(self, name: str) -> None:
        """Opens it.

        Raises:
            UsageMistake: it cannot be read.
        """
        self.name = "stdin" if name == "-" else name
        try:
            self._fd = 0 if name == "-" else os.open(name, os.O_RDONLY | os.O_CLOEXEC)
            self._kind = os.fstat(self._fd)
        except OSError as error:
            raise UsageMistake(f"{name} cannot be read: {error.strerror or error}") from None
        except ValueError:  # a name with a zero byte
            raise UsageMistake(f"{name!r:.80} is no file's name") from None
        if stat.S_ISDIR(self._kind.st_mode):
            os.close(self._fd)
            raise UsageMistake(f"{name} is a folder; give a file of JSON lines")

    def close(self) -> None:
        """Lets go of it."""
        if self._fd:
            os.close(self._fd)

    @property
    def _regular(self) -> bool:
        return stat.S_ISREG(self._kind.st_mode)

    def same_as(self, other: str) -> bool:
        """Whether this is the file of that name."""
        try:
            return os.path.samestat(self._kind, os.stat(other))
        except (OSError, ValueError):
            return False

    def count(self) -> int | None:
        """How many lines there are, for a bar to go by; None where only reading would tell."""
        if not self._regular:
            return None
        at, lines, last = 0, 0, b"\n"
        while block := os.pread(self._fd, _BLOCK * 16, at):
            lines, at, last = lines + block.count(b"\n"), at + len(block), block[-1:]
        return lines + (last != b"\n")

    async def lines(self) -> AsyncGenerator[tuple[int, bytes | None], None]:
        """Each line that is not blank with its number, from 1, without its end; None for one that is too long."""
        number, rest, cut = 0, bytearray(), False
        while True:
            block = await self._block()
            *ended, last = block.split(b"\n")
            for part in ended:
                number += 1
                line, rest, was_cut, cut = bytes(rest + part), bytearray(), cut, False
                if was_cut or len(line) > MAX_LINE:
                    yield number, None
                elif (line := line.removeprefix(_MARK) if number == 1 else line).strip():
                    yield number, line.rstrip(b"\r")
            if not block:
                break
            rest += last
            if len(rest) > MAX_LINE:
                rest, cut = bytearray(), True
        if cut or rest.strip():
            yield number + 1, None if cut else bytes(rest).removeprefix(_MARK if not number else b"")

    async def _block(self) -> bytes:
        if not self._regular:
            await _readable(self._fd)
        return os.read(self._fd, _BLOCK)


async def _readable(fd: int) -> None:
    """Returns when a pipe or terminal has something, or has ended."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    try:
        loop.add_reader(fd, _set, ready)
    except PermissionError:  # a device that is always ready, such as /dev/null
        return
    try:
        await ready
    finally:
        loop.remove_reader(fd)


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
