"""What verbs that compile .proto files share: the package that a file names, and errors in one line."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from atomesh.cli._errors import CliError, ExitCode

_PACKAGE = re.compile(r"^\s*package\s+([\w.]+)\s*;", re.MULTILINE)


def package_of(content: bytes) -> str:
    """The package of a .proto file; empty where it names none."""
    found = _PACKAGE.search(content.decode("utf-8", "replace"))
    return found[1] if found is not None else ""


@contextlib.contextmanager
def compiling() -> Iterator[None]:
    """Around what calls the compiler: its first complaint is the error, and so is its absence.

    Raises:
        CliError: protoc refused, or is not installed.
    """
    from atomesh.cli._protoc import CompileError, folded

    try:
        yield
    except CompileError as error:
        raise CliError(folded(str(error)), ExitCode.USAGE) from None
    except ModuleNotFoundError as error:
        raise CliError(
            f"{error.name} is not installed; pip install grpcio-tools protovalidate", ExitCode.FAILED
        ) from None
