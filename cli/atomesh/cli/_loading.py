"""Agents by the name that is typed: `module:Class`, or a built-in's alias."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from atomesh.agents import Agent
from atomesh.cli._errors import UsageMistake

BUILT_IN = {"text-processor": "atomesh.agents.builtin.text.agent:TextProcessor"}


def load_agents(names: Sequence[str], *, single: str = "") -> list[Agent[Any, Any]]:
    """One agent for each name; the current directory is importable.

    `single` is a flag that makes sense for one agent only.

    Raises:
        UsageMistake: a name is none, cannot be imported, is no agent, or does not construct.
    """
    if single and len(names) > 1:
        raise UsageMistake(f"{single} is for one agent, and {len(names)} are given; set the names on the classes")
    _here_too()
    return [_made(name, _class(name)) for name in names]


def load_agent(name: str, arguments: Mapping[str, Any]) -> Agent[Any, Any]:
    """The agent of a definition, `module:Class`, made with these keyword arguments.

    Raises:
        UsageMistake: as `load_agents` does, and where the class does not take the arguments.
    """
    _here_too()
    cls = _class(name)
    try:
        return cls(**arguments)
    except TypeError as error:
        given = ", ".join(arguments) or "no arguments"
        raise UsageMistake(f"{name} does not take its configuration ({given}): {_where(error, name)}") from error
    except MemoryError:  # what the process may have is its starter's concern
        raise
    except Exception as error:
        raise UsageMistake(f"{name} cannot be made with its configuration: {_where(error, name)}") from error


def _here_too() -> None:
    """The current directory is importable."""
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)


def _class(name: str) -> type[Agent[Any, Any]]:
    module_name, colon, class_name = BUILT_IN.get(name, name).partition(":")
    if not (colon and module_name and class_name):
        raise UsageMistake(
            f"{name!r:.80} is no agent's class; write module:Class, such as my_module:MyAgent, or {', '.join(BUILT_IN)}"
        )
    module = _module(module_name)
    found: Any = module
    for part in class_name.split("."):
        found = getattr(found, part, None)
    if found is None:
        near = difflib.get_close_matches(class_name, _agents_in(module), n=1)
        listed = f"; did you mean {module_name}:{near[0]}?" if near else _offered(module)
        raise UsageMistake(f"module {module_name} has no class {class_name}{listed}")
    if not (isinstance(found, type) and issubclass(found, Agent)):
        raise UsageMistake(f"{name} is no agent; make it a subclass of atomesh.agents.Agent{_offered(module)}")
    if inspect.isabstract(found):
        missing = ", ".join(sorted(found.__abstractmethods__))
        raise UsageMistake(f"{name} is abstract; it lacks {missing}")
    return found


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            meant = name.removesuffix(".py")
            hint = f"; without .py it is {meant}:CLASS" if meant != name else ""
            raise UsageMistake(
                f"there is no module {name}; looked in {os.getcwd()} and where Python installs packages{hint}"
            ) from None
        raise UsageMistake(f"module {name} needs {error.name}, {_way_to(error.name or '')}") from None
    except (Exception, SystemExit) as error:  # whatever an author's module raises is about that module
        raise UsageMistake(f"module {name} cannot be imported: {_where(error, name)}") from error


def _way_to(missing: str) -> str:
    if "_pb2" in missing:
        return "which is not there; `atomesh proto compile DIR` makes it, and DIR must be importable"
    return "which is not installed; install it"


def _where(error: BaseException, module: str) -> str:
    """The error with the last line of the author's own files in its trace, which is where to look."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    place, trace = "", error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not (file.startswith("<") or "importlib" in file or file == __file__):
            place = f"{file}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{text} ({place or module})"


def _made(name: str, cls: type[Agent[Any, Any]]) -> Agent[Any, Any]:
    try:
        return cls()
    except Exception as error:
        raise UsageMistake(
            f"{name} cannot be made without arguments: {_where(error, name)}; give __init__ defaults"
        ) from error


def _agents_in(module: ModuleType) -> list[str]:
    return [
        name
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Agent) and value is not Agent and not inspect.isabstract(value)
    ]


def _offered(module: ModuleType) -> str:
    names = _agents_in(module)
    return f"; its agents are {', '.join(names)}" if names else ""
