"""A pipeline built in Python: the same model as the file's, filled step by step.

report = (
Pipeline("report", input_type="atomesh.text.v1.TextInput")
.stage("summary", "text-processor", input={"content": "$input.content", "operation": "summarize"})
.stage("mood", "text-processor", input={"content": "$summary.result", "operation": "sentiment"})
.output(summary="$summary.result", mood="$mood.sentiment.label")
)
plan = await report.plan(mesh)
"""

from __future__ import annotations

from typing import Any, Self

from pydantic import ValidationError

from atomesh.balancer import Client
from atomesh.core.contract import Contract
from atomesh.pipelines.binding import Choose, plan_pipeline
from atomesh.pipelines.errors import PipelineInvalid
from atomesh.pipelines.model import PipelineSpec
from atomesh.pipelines.plan import Plan
from atomesh.pipelines.reading import Source, problems_of


def ref(path: str) -> str:
    """A reference, for those who would rather not write the dollar: `ref("summary.result")`."""
    return f"${path}"


def cel(expression: str) -> dict[str, str]:
    """An expression in CEL, as the value of a field or of a whole mapping."""
    return {"$cel": expression}


class Pipeline:
    """Builds a pipeline; every method returns the builder itself."""

    def __init__(self, name: str, **settings: Any) -> None:
        """`settings` are the keys of the file: version, description, input_type, timeout, durable ..."""
        self._data: dict[str, Any] = {"name": name, **settings, "stages": []}

    def stage(self, id: str, agent: str | Contract[Any, Any] = "", **settings: Any) -> Self:
        """Adds a stage: its agent, or `capability=`, and the keys of the file: input, map, when, on_error ..."""
        name = agent.agent if isinstance(agent, Contract) else agent
        stage = {"id": id, **({"agent": name} if name else {}), **settings}
        self._data["stages"].append(stage)
        return self

    def defaults(self, **settings: Any) -> Self:
        """What holds for stages that say nothing of it: attempts, timeout, backoff."""
        self._data["defaults"] = {**self._data.get("defaults", {}), **settings}
        return self

    def context(self, **values: Any) -> Self:
        """Values that travel with every call of a run."""
        self._data["context"] = {**self._data.get("context", {}), **values}
        return self

    def output(self, value: Any = None, /, **fields: Any) -> Self:
        """What it gives: one value, or fields of a message of its own."""
        self._data["output"] = value if value is not None else fields
        return self

    @property
    def spec(self) -> PipelineSpec:
        """The model.

        Raises:
            PipelineInvalid: something in it is wrong.
        """
        try:
            return PipelineSpec.model_validate(self._data)
        except ValidationError as error:
            problems = problems_of(error, self._data, Source())
        raise PipelineInvalid(problems, self._data["name"])

    async def plan(self, mesh: Client, *, choose: Choose | None = None) -> Plan:
        """The plan, with the agents that are registered now. Raises what `plan_pipeline` does."""
        return await plan_pipeline(mesh, self.spec, choose=choose)
