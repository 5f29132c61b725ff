"""What a history is measured by, where the settings of its registry are known."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from atomesh.registry.settings import RegistrySettings
from atomesh.testing.history import Rules


def rules_of(settings: RegistrySettings, **measured: Any) -> Rules:
    """Rules that have the registry's settings in them; `measured` is what else there is of `Rules`."""
    names = {field.name for field in fields(Rules)} & {field.name for field in fields(RegistrySettings)}
    return Rules(**{name: getattr(settings, name) for name in names}, **measured)
