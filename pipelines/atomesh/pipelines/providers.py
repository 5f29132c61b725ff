"""The values that a run is given: those that travel in its context, and those that stay here."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from atomesh.core import errors
from atomesh.core.clock import Clock
from atomesh.pipelines.middleware import Provider, authored
from atomesh.pipelines.record import RunRecord
from atomesh.pipelines.running import Run

_MAX_CONTEXT_VALUE = 4096  # bytes, as context.proto says


async def provide(run: Run, providers: Mapping[str, Provider], clock: Clock) -> None:
    """Gives the run what its declared providers give: what can travel goes into the context, the rest stays.

    Raises:
        InvalidArgument: one is not there, or what it gave cannot travel.
        As `authored`.
    """
    travels: dict[str, Any] = {}
    stays: dict[str, Any] = {}
    for name in run.plan.spec.providers:
        provider = providers.get(name)
        if provider is None:
            raise errors.InvalidArgument(
                f"pipeline {run.plan.name} declares the context provider {name!r}, which the runner was not given; "
                f"make it Runner(mesh, providers={{{name!r}: ...}})"
            )
        left = run.deadline - clock.now()
        value = await authored(f"context provider {name}", _given(provider, run.record), left)
        (travels if isinstance(value, str | int | float | bool | list | dict) else stays)[name] = value
    run.context = replace(run.context, metadata={**run.context.metadata, **travelling(travels)})
    run.resources = stays


async def _given(provider: Provider, run: RunRecord) -> Any:
    """What a provider gives, whether it is an `async def` or a plain one."""
    value = provider.provide(run)
    return await value if inspect.isawaitable(value) else value


def travelling(values: Mapping[str, Any]) -> dict[str, str]:
    """Values as context metadata: text as it is, the rest as JSON.

    Raises:
        InvalidArgument: one is no JSON, or too long.
    """
    said: dict[str, str] = {}
    for name, value in values.items():
        try:
            said[name] = text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        except (TypeError, ValueError) as error:
            raise errors.InvalidArgument(f"context value {name!r:.80} cannot travel: {error}") from None
        if len(text.encode("utf-8", "replace")) > _MAX_CONTEXT_VALUE:
            raise errors.InvalidArgument(f"context value {name!r:.80} has more than {_MAX_CONTEXT_VALUE} bytes")
    return said
