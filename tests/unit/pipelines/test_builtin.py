"""The pipelines that come with the mesh can be had by name, and each is one."""

from __future__ import annotations

from pathlib import Path

import pytest

from atomesh.pipelines import builtin as package
from atomesh.pipelines.builtin import BUILTIN, builtin
from atomesh.pipelines.errors import UnknownPipeline
from atomesh.pipelines.graph import needs
from atomesh.pipelines.reading import read_pipeline


def test_every_file_is_a_builtin_pipeline_and_every_one_a_file() -> None:
    files = {path.stem for path in Path(package.__file__).parent.glob("*.yaml")}
    assert files == set(BUILTIN)


@pytest.mark.parametrize("name", BUILTIN)
def test_a_builtin_pipeline_has_its_files_name_and_describes_itself(name: str) -> None:
    spec, source = read_pipeline(builtin(name), name)
    assert spec.name == name
    assert spec.description
    assert all(stage.description for stage in spec.stages), "who reads it learns from it"
    assert needs(spec, source)[1] == [], "its stages must fit one another"


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownPipeline, match="did you mean document-report"):
        builtin("document-reports")
    with pytest.raises(UnknownPipeline, match="there are document-report, folder-report"):
        builtin("../../etc/passwd")
