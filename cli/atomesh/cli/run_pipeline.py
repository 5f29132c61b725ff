"""`atomesh run-pipeline`: the short form of `atomesh pipeline run`."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from atomesh.cli._flags import Json
from atomesh.cli._pipelines import RunFlags


def run_pipeline(
    flags: RunFlags,
    config_file: Annotated[
        str, typer.Option("--config-file", metavar="FILE", help="The pipeline, JSON or YAML.", show_default=False)
    ],
    input_file: Annotated[
        str, typer.Option("--input-file", metavar="FILE", help="Its input as JSON; - is stdin.", show_default=False)
    ],
    output_file: Annotated[
        str | None, typer.Option("--output-file", metavar="FILE", help="Where the output goes [stdout].")
    ] = None,
    as_json: Json = False,
) -> int:
    """Run a pipeline file on an input file.

    The file is a pipeline, or a plain list of agents that follow one another:
    {"name": "tidy", "agents": [{"type": "trimmer"}, {"type": "speller"}]}

    \b
    atomesh run-pipeline --config-file tidy.json --input-file text.json
    """
    from atomesh.cli import pipeline
    from atomesh.cli._logging import configure
    from atomesh.cli._pipelines import looks_like_file
    from atomesh.cli._settings import load

    settings = load(flags)
    configure(settings, quiet=True)
    given = pipeline.Given(input_file=input_file, output_file=output_file)
    # Never a stored pipeline of that name.
    file = config_file if looks_like_file(config_file) else f"./{config_file}"
    return asyncio.run(pipeline.run_pipeline(file, settings, given, as_json=as_json))
