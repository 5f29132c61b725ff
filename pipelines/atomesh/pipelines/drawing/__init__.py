"""A pipeline drawn: for a terminal, as a Mermaid flowchart, and as SVG.

All three show the same chart (`chart.py`), are the same for the same pipeline,
and make whatever stands in a name or an expression harmless where they show it.
With a plan the edges say what type goes over them.
"""

from atomesh.pipelines.drawing.mermaid import as_mermaid
from atomesh.pipelines.drawing.svg import as_svg
from atomesh.pipelines.drawing.text import as_text

__all__ = ["as_mermaid", "as_svg", "as_text"]
