"""Plans found from what agents publish: capabilities, contracts, versions, and how they fare now."""

from atomesh.pipelines.assembly.answers import answer_of, find_plans, query_of
from atomesh.pipelines.assembly.assemble import assemble, to_yaml, without_fallback
from atomesh.pipelines.assembly.catalog import Catalog, Published
from atomesh.pipelines.assembly.chains import Chain, Found, Stage, find
from atomesh.pipelines.assembly.choice import Choice, choose
from atomesh.pipelines.assembly.figures import Figures
from atomesh.pipelines.assembly.gather import RegistryFinder
from atomesh.pipelines.assembly.query import Query

__all__ = [
    "Catalog",
    "Chain",
    "Choice",
    "Figures",
    "Found",
    "Published",
    "Query",
    "RegistryFinder",
    "Stage",
    "answer_of",
    "assemble",
    "choose",
    "find",
    "find_plans",
    "query_of",
    "to_yaml",
    "without_fallback",
]
