from __future__ import annotations

from typing import Any

import pytest

from atomesh.core.errors import InvalidArgument
from atomesh.registry.settings import RegistrySettings


@pytest.mark.parametrize(
    "contradiction",
    [
        {"min_ttl": 20},
        {"min_ttl": 0},
        {"default_ttl": 4000},
        {"preservation_ratio": 1.5},
        {"tick": 5},
        {"tick": 0},
        {"watch_queue": 10},
        {"history_changes": 0},
    ],
)
def test_settings_that_contradict_each_other_are_refused_by_name(contradiction: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(contradiction)).removesuffix("_ttl")):
        RegistrySettings(**contradiction)


def test_the_defaults_agree_with_each_other() -> None:
    assert RegistrySettings().default_ttl == 15
