"""Pipelines that come with the mesh and need no agent but `text-processor`.

    spec, source = read_pipeline(builtin("document-report"))
    plan = await plan_pipeline(mesh, spec, source)

Each is a file beside this one, to be run as it is or taken as a beginning.
"""

from __future__ import annotations

import difflib
from importlib import resources

from atomesh.pipelines.errors import UnknownPipeline

BUILTIN = ("document-report", "folder-report")
"""Their names."""


def builtin(name: str) -> str:
    """The text of a builtin pipeline, YAML.

    Raises:
        UnknownPipeline: there is none of that name.
    """
    if name not in BUILTIN:
        near = difflib.get_close_matches(name, BUILTIN, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(BUILTIN)}"
        raise UnknownPipeline(f"no builtin pipeline {name!r:.80}; {hint}")
    return resources.files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")


__all__ = ["BUILTIN", "builtin"]
