"""What goes to the terminal: results on stdout, everything about them on stderr, nothing raw from the network.

An agent's name, an error or a result may hold control characters of whoever
sent it; written as they are, they would move the cursor, retitle the window or
reverse the text. So whatever a terminal would obey is shown as `\\x1b`.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

# Joiners that scripts need to be spelt right, and no terminal obeys.
_HARMLESS = "\u200c\u200d"


def escape(text: str, keep: str = "") -> str:
    """The text with everything unprintable as `\\x..` or `\\u....`; `keep` names what may stay, such as newlines."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep or c in _HARMLESS else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def to_json(data: Any, *, indent: int | None = 2) -> str:
    """JSON that a terminal cannot obey: what is unprintable stands as `\\u....`, which parses back to the same."""
    text = json.dumps(data, ensure_ascii=False, indent=indent)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" or c in _HARMLESS else json.dumps(c)[1:-1] for c in text)


def say(text: str) -> None:
    """A result: one line or more on stdout."""
    _write(sys.stdout, text)


def say_json(data: Any) -> None:
    """A result as JSON on stdout: indented for people, on one line for programs."""
    say(to_json(data, indent=2 if sys.stdout.isatty() else None))


def note(text: str) -> None:
    """One line about what is being done, on stderr."""
    _write(sys.stderr, escape(text))


def fail(text: str) -> None:
    """The one line of an error."""
    _write(sys.stderr, f"error: {escape(' '.join(text.split()))}")


def counted(count: int, what: str) -> str:
    """`1 stage`, `2 stages`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def data_text(text: str) -> str:
    """A result's text as it is for a pipe or file; for a terminal without what it would obey."""
    return escape(text, keep="\n\t") if sys.stdout.isatty() else text


def console(*, stderr: bool = False) -> Console:
    """A rich console; wide enough for any row where the output is no terminal."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, highlight=False, markup=False, width=None if stream.isatty() else 200)


def cell(text: str, style: str = "") -> Text:
    """Text for a table, never read as markup."""
    from rich.text import Text

    return Text(escape(text), style=style)


def _write(stream: TextIO, text: str) -> None:
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    stream.flush()
