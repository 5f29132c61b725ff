"""`atomesh proto compile DIR`: contracts of one's own, with the flags that they need."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atomesh.cli._compiling import compiling, package_of
from atomesh.cli._errors import EXIT_CODES_HELP, ExitCode, UsageMistake
from atomesh.cli._output import escape, note, say


def app() -> typer.Typer:
    """The verbs of `atomesh proto`."""
    verbs = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Contracts in .proto files.")
    verbs.command("compile", epilog=EXIT_CODES_HELP)(compile_protos)

    @verbs.callback()
    def group() -> None:
        """Contracts in .proto files."""

    return verbs


def compile_protos(
    directory: Annotated[
        str, typer.Argument(metavar="DIR", help="Where the .proto files are; imports start here.", show_default=False)
    ],
    out: Annotated[
        str | None, typer.Option("--out", metavar="DIR", help="Where the Python goes [DIR itself].", show_default=False)
    ] = None,
) -> int:
    """Compile .proto files to Python messages, stubs for type checkers, and gRPC.

    `buf/validate/validate.proto`, for rules, and Google's well-known types can
    be imported without having them as files.

    \b
    atomesh proto compile protos
    atomesh proto compile protos --out generated
    """
    from atomesh.cli._protoc import compile_tree

    source = Path(directory)
    if not source.is_dir():
        raise UsageMistake(f"{directory!r:.200} is no directory; give the one that your .proto files are in")
    target = Path(out) if out is not None else source
    try:
        with compiling():
            written = compile_tree(source, target)
    except OSError as error:
        raise UsageMistake(f"cannot write to {target}: {error.strerror or error}") from None
    for path in written:
        say(escape(str(path)))
    for mistake in _misplaced(source):
        note(mistake)
    note(f"compiled {len(written)} files; make {target} importable, such as with PYTHONPATH={target}")
    return ExitCode.OK


def _misplaced(source: Path) -> list[str]:
    """Files whose package is not their path: what Python imports is the path, and protoc does not say so."""
    found = []
    for proto in sorted(source.rglob("*.proto")):
        package = package_of(proto.read_bytes())
        folder = proto.relative_to(source).parent.as_posix().replace("/", ".")
        if package and package != ("" if folder == "." else folder):
            found.append(
                f"{proto}: its package is {package}, its folder below {source} is {folder}; "
                "give the folder above the package's, or move it"
            )
    return found
