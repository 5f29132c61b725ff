"""Flags that several verbs share, as small value objects; `expanded` turns them into a signature for typer.

A field's name is the setting's own (see `_settings.py`), None is "not given":
so flags, environment, file and defaults meet in one place, and a verb takes
two or three values instead of twenty.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Annotated, Any, get_type_hints

import typer

_COMMON = "Configuration and logs"
_CREDENTIALS = "Credentials"


def _flag(name: str, help_text: str, panel: str | None = None, metavar: str | None = None) -> Any:
    return typer.Option(name, help=help_text, rich_help_panel=panel, metavar=metavar, show_default=False)


@dataclass(frozen=True)
class Basics:
    """What every verb takes."""

    config: Annotated[str | None, _flag("--config", "Configuration file (TOML).", _COMMON, "FILE")] = None
    log_level: Annotated[
        str | None, _flag("--log-level", "debug, info, warning, error or critical [info].", _COMMON, "LEVEL")
    ] = None
    log_format: Annotated[
        str | None,
        _flag("--log-format", "auto, json or text; auto is JSON where stderr is no terminal.", _COMMON, "FORMAT"),
    ] = None


@dataclass(frozen=True)
class Secured(Basics):
    """What every server and every client takes."""

    tls_cert: Annotated[str | None, _flag("--tls-cert", "Own certificate, PEM.", _CREDENTIALS, "FILE")] = None
    tls_key: Annotated[str | None, _flag("--tls-key", "Its private key, PEM.", _CREDENTIALS, "FILE")] = None
    tls_ca: Annotated[
        str | None,
        _flag(
            "--tls-ca", "Whom to believe, PEM; a server with one asks for client certificates.", _CREDENTIALS, "FILE"
        ),
    ] = None
    token_file: Annotated[
        str | None, _flag("--token-file", "Token for Register, Update, Deregister, Drain.", _CREDENTIALS, "FILE")
    ] = None
    insecure: Annotated[
        bool | None, typer.Option("--insecure", help="Plaintext off loopback too.", rich_help_panel=_CREDENTIALS)
    ] = None


@dataclass(frozen=True)
class Dialling(Secured):
    """What every client of the registry takes."""

    registry: Annotated[
        str | None, _flag("--registry", "The registry's address [127.0.0.1:7400].", metavar="HOST:PORT")
    ] = None


Json = Annotated[bool, typer.Option("--json", help="JSON on stdout, for programs.")]


def expanded(verb: Callable[..., Any]) -> Callable[..., Any]:
    """The verb with each value object among its parameters replaced by the flags that it is made of."""
    groups: dict[str, type] = {}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(verb).parameters.items():
        hint = get_type_hints(verb, include_extras=True)[name]
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            groups[name] = hint
            parameters += _parameters(hint)
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hint))

    @functools.wraps(verb)
    def flat(**given: Any) -> Any:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in dataclasses.fields(group)})
        return verb(**given)

    del flat.__wrapped__  # or inspect would look through to the verb's own signature
    signature = inspect.Signature(parameters)
    setattr(flat, "__signature__", signature)  # noqa: B010 # not an attribute that mypy knows of a function
    flat.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return flat


def as_typed(group: Any, *, without: Collection[str] = ()) -> list[str]:
    """The flags of a value object as somebody would type them, those that were given; for a process that gets them too."""
    words: list[str] = []
    for name, hint in get_type_hints(type(group), include_extras=True).items():
        value = getattr(group, name)
        if value is None or value == [] or name in without:
            continue
        yes, _, no = _option(hint).partition("/")
        if isinstance(value, bool):
            words += [yes if value else no]
        else:
            words += [f"{yes}={item}" for item in (value if isinstance(value, list) else [value])]
    return words


def _option(hint: Any) -> str:
    """`--slots`, or `--memory/--no-memory`."""
    # typer takes the first name for the default until it makes the command.
    names = (name for data in hint.__metadata__ for name in (data.default, *data.param_decls))
    return next(name for name in names if isinstance(name, str))


def _parameters(group: type) -> list[inspect.Parameter]:
    """One parameter per field; a group's own flags come before those that it shares."""
    hints = get_type_hints(group, include_extras=True)
    own = [field for field in dataclasses.fields(group) if field.name in group.__annotations__]
    shared = [field for field in dataclasses.fields(group) if field.name not in group.__annotations__]
    return [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=_default(field), annotation=hints[field.name]
        )
        for field in (*own, *shared)
    ]


def _default(field: dataclasses.Field[Any]) -> Any:
    return inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
