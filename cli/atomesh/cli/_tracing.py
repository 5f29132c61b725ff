"""Spans of this process, where somebody asked for them: exported over OTLP from its beginning to its end."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from atomesh.cli._errors import UsageMistake
from atomesh.cli._flags import Basics, Dialling

if TYPE_CHECKING:
    from atomesh.cli._settings import Settings
    from atomesh.core.tracing import Tracer

log = logging.getLogger("atomesh.tracing")

CLIENT = "atomesh"
"""`service.name` of verbs that call; servers go by their agents' names."""

_TRACING = "Tracing"


@dataclass(frozen=True)
class Traced(Basics):
    """What every verb takes whose calls, executions or runs can be traced."""

    otlp_endpoint: Annotated[
        str | None,
        typer.Option(
            "--otlp-endpoint",
            metavar="URL",
            help="Where spans go, such as http://127.0.0.1:4317 [nowhere].",
            rich_help_panel=_TRACING,
        ),
    ] = None
    trace_ratio: Annotated[
        float | None,
        typer.Option(
            "--trace-ratio",
            metavar="SHARE",
            help="The share of traces begun here that is sampled, 0 to 1 [1].",
            rich_help_panel=_TRACING,
        ),
    ] = None


@dataclass(frozen=True)
class Calling(Dialling, Traced):
    """What every verb takes that calls agents."""


@contextlib.asynccontextmanager
async def opened_tracer(settings: Settings, service: str = CLIENT) -> AsyncIterator[Tracer | None]:
    """What begins spans, None where nobody asked for them; at the end what is left is sent, within two seconds.

    Raises:
        UsageMistake: the extra is not installed.
    """
    own = settings.tracing
    if not own.otlp_endpoint:
        yield None
        return
    try:
        from atomesh.rpc.otlp import open_otlp
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        source = settings.sources["otlp_endpoint"].name
        missing = f'spans are to go to {own.otlp_endpoint} ({source}), which needs `pip install "atomesh[tracing]"`'
        if "OTEL_" not in source:
            raise UsageMistake(missing) from None
        # Set for every program of the machine or pod: no reason for this one not to start.
        log.warning("%s; going on without", missing)
        yield None
        return
    async with open_otlp(own.otlp_endpoint, service=service, ratio=own.trace_ratio) as tracer:
        yield tracer
