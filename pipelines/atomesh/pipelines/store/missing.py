"""The errors for what is not in a store, the same for every kind of store."""

from __future__ import annotations

from atomesh.pipelines.errors import UnknownDefinition, UnknownPipeline, UnknownRun


def unknown_run(run_id: str) -> UnknownRun:
    """The error for a run that is not there."""
    return UnknownRun(f"there is no run {run_id}; `atomesh runs ls` lists those that are kept")


def unknown_pipeline(name: str) -> UnknownPipeline:
    """The error for a pipeline that is not there."""
    return UnknownPipeline(f"no pipeline {name} is stored; `atomesh pipeline ls` lists those that are")


def unknown_definition(name: str) -> UnknownDefinition:
    """The error for a definition that is not there."""
    return UnknownDefinition(f"no agent {name} is defined; `atomesh definitions ls` lists those that are")
