"""Plans found from what agents publish: capabilities, contracts, versions, and how they fare now."""

from atomesh.pipelines.assembly.catalog import Catalog, Published
from atomesh.pipelines.assembly.choice import Choice, choose
from atomesh.pipelines.assembly.figures import Figures

__all__ = [
    "Catalog",
    "Choice",
    "Figures",
    "Published",
    "choose",
]
