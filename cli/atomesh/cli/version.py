"""`atomesh version`."""

from __future__ import annotations

import platform
from importlib import metadata

from atomesh.cli._flags import Json
from atomesh.cli._output import say, say_json

_SHOWN = ("grpcio", "protobuf", "protovalidate")


def version(as_json: Json = False) -> None:
    """The versions of atomesh and of what it stands on."""
    versions = {"atomesh": metadata.version("atomesh"), "python": platform.python_version()}
    versions |= {name: metadata.version(name) for name in _SHOWN}
    if as_json:
        say_json(versions)
    else:
        say(f"atomesh {versions.pop('atomesh')} ({', '.join(f'{name} {said}' for name, said in versions.items())})")
