"""A pipeline as a Mermaid flowchart, for pages and editors that draw such."""

from __future__ import annotations

import re

from atomesh.pipelines.drawing.chart import INPUT, OUTPUT, Box, Edge, chart_of, shortened
from atomesh.pipelines.model import PipelineSpec
from atomesh.pipelines.plan import Plan

_SHAPES = {"end": ('(["', '"])'), "map": ('[["', '"]]'), "stage": ('["', '"]')}
_HARMLESS = re.compile(r"[^A-Za-z0-9_ .,:/+=*-]")
_FACT = 120
"""Characters of a line in a box, which no page wraps."""


def as_mermaid(spec: PipelineSpec, plan: Plan | None = None) -> str:
    """The pipeline as the text of a flowchart.

    Raises:
        PipelineInvalid: a stage reads one that is not there, or stages wait for one another.
    """
    chart = chart_of(spec, plan)
    lines = ["flowchart TD", *map(_node, chart.boxes), *map(_link, chart.edges)]
    return "\n    ".join(lines) + "\n"


def _id(box: str) -> str:
    """`s_end` for a stage `end`, which is a word of Mermaid's own."""
    return {INPUT: "in", OUTPUT: "out"}.get(box, f"s_{box}")


def _node(box: Box) -> str:
    left, right = _SHAPES["end" if box.id in (INPUT, OUTPUT) else "map" if box.maps else "stage"]
    lines = [f"<b>{_escaped(box.title)}</b>", *(_escaped(shortened(fact, _FACT)) for fact in box.facts)]
    return f"{_id(box.id)}{left}{'<br/>'.join(lines)}{right}"


def _link(edge: Edge) -> str:
    arrow = "-.->" if edge.waits else "-->"
    label = f'|"{_escaped(edge.label)}"|' if edge.label else ""
    return f"{_id(edge.source)} {arrow}{label} {_id(edge.target)}"


def _escaped(text: str) -> str:
    """The text with all that Mermaid or HTML might read as more than text as numbered entities."""
    return _HARMLESS.sub(lambda found: f"#{ord(found[0])};", text)
