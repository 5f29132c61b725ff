"""A pipeline as its author states it: the schema of the file, and of the builder.

One model behind both. Nothing here knows of contracts: what a stage takes and
gives is checked when a plan is made of it (`plan.py`). `python -m atomesh
pipeline schema` prints the JSON schema for editors.

Values in mappings are literals, but for two things. A string that begins with
`$` is a reference (`$input.text`, `$summary.sentences[0]`); `$$` stands for a
dollar. An object with the one key `$cel` is an expression in CEL, whose
variables are `input`, the ids of stages, and `item` and `index` where a stage
maps.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from atomesh.core.errors import InvalidArgument
from atomesh.core.names import check_agent_name
from atomesh.core.versions import parse_range, parse_version

RESERVED = frozenset(
    # Names of the language of mappings, and words that CEL keeps for itself.
    [
        "input",
        "item",
        "index",
        "context",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "false",
        "for",
        "function",
        "if",
        "import",
        "in",
        "let",
        "loop",
        "package",
        "namespace",
        "null",
        "return",
        "true",
        "var",
        "void",
        "while",
    ]
)

Value: TypeAlias = Any
"""A literal, a reference or an expression, nested as the message is."""


def _said(check: Any) -> Any:
    """A check of ours as pydantic's."""

    def checked(value: str) -> str:
        try:
            check(value)
        except InvalidArgument as error:
            raise ValueError(error.message) from None
        return value

    return AfterValidator(checked)


def _stage_id(value: str) -> str:
    if value in RESERVED:
        raise ValueError(f"{value!r} means something else in mappings; take another id")
    return value


AgentName = Annotated[str, _said(check_agent_name)]
VersionRange = Annotated[str, _said(parse_range)]
StageId = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$"), AfterValidator(_stage_id)]
Seconds = Annotated[float, Field(gt=0, le=86_400 * 7)]
Words = Annotated[str, Field(max_length=1000)]
Capability = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
TypeName = Annotated[str, Field(pattern=r"^([A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*)?$")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class BackoffSpec(_Model):
    """How long to wait between attempts: `base` seconds, doubled each time up to `cap`, jittered."""

    base: Annotated[float, Field(ge=0, le=3600)] = 1.0
    cap: Annotated[float, Field(ge=0, le=3600)] = 10.0


class Undo(_Model):
    """What undoes a stage that had gone well."""

    agent: AgentName
    version: VersionRange = ""
    input: Value = None
    """What it is given; `$<stage>` and `$input` are what they were. Unset: the stage's output, where it fits."""
    timeout: Seconds = 60.0


class Fallback(_Model):
    """Another agent of an equivalent contract, asked once the attempts are spent."""

    fallback: AgentName
    version: VersionRange = ""


OnError: TypeAlias = Literal["stop", "skip", "compensate"] | Fallback


def _one_or_more(given: Any) -> Any:
    return [given] if isinstance(given, str) else given


class StageSpec(_Model):
    """One stage: whom it asks, with what, and what its failure does."""

    id: StageId
    name: Annotated[str, Field(min_length=1, max_length=200)] = ""
    """For people. Unset: the id."""
    description: Words = ""
    agent: AgentName = ""
    """The agent that runs it. Either this or `capability`."""
    version: VersionRange = ""
    """Which versions of the agent will do, such as `>=1.2,<2`."""
    capability: Capability | Literal[""] = ""
    """What the agent must be able to do; the best one for it is chosen when a run's plan is made."""
    input: Value = None
    """What it is given. Unset: the output of the stage before it, or the pipeline's input for the first."""
    map: str | dict[str, Any] | None = None
    """A list to run it over, item by item: its output is the list of outputs, in the order of the items."""
    concurrency: Annotated[int, Field(ge=1, le=10_000)] = 8
    """Items at once, where it maps."""
    when: str | None = None
    """A guard in CEL, or a reference to a bool: where it is false the stage is left out."""
    after: Annotated[tuple[StageId, ...], BeforeValidator(_one_or_more)] = ()
    """Stages, or one, that must have ended before, though nothing of theirs is read."""
    attempts: Annotated[int, Field(ge=1, le=100)] | None = None
    """Attempts in all. Unset: the pipeline's, 3."""
    timeout: Seconds | None = None
    """Seconds that one attempt may take. Unset: the pipeline's, 60."""
    backoff: BackoffSpec | None = None
    idempotent: bool | None = None
    """Whether it may run twice, whatever the agent declares; only then is what may have run tried again."""
    on_error: OnError = "stop"
    """What its failure does once the attempts are spent."""
    default: Value = None
    """Its output where it is skipped or left out."""
    undo: Undo | None = None

    @model_validator(mode="after")
    def _consistent(self) -> StageSpec:
        if bool(self.agent) == bool(self.capability):
            raise ValueError("name either an agent or a capability")
        if self.version and not self.agent:
            raise ValueError("a version belongs to an agent; a capability has none")
        return self


class Defaults(_Model):
    """What holds for stages that say nothing of it."""

    attempts: Annotated[int, Field(ge=1, le=100)] = 3
    timeout: Seconds = 60.0
    backoff: BackoffSpec = BackoffSpec()


def _semver(value: str) -> str:
    return str(parse_version(value))


def _stages_by_id(given: Any) -> Any:
    """`stages` may also be an object by id."""
    if isinstance(given, dict):
        return [{"id": key, **value} if isinstance(value, dict) else value for key, value in given.items()]
    return given


class PipelineSpec(_Model):
    """A pipeline, as its file states it."""

    name: AgentName
    version: Annotated[str, _said(_semver)] = "1.0.0"
    description: Words = ""
    input_type: TypeName = ""
    """The message that it takes. Unset: what the first stage that takes the input whole takes."""
    input_fields: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], str] = {}
    """The fields of a message of its own that it takes, instead of `input_type`: a type by name, such as `string`,
    `int64`, `repeated string` or a message's full name."""
    output_type: TypeName = ""
    """The message that `output` fills. Unset: one of its own, made from what `output` says."""
    timeout: Seconds = 300.0
    """Seconds for a run whose caller gives no deadline."""
    defaults: Defaults = Defaults()
    context: dict[Annotated[str, Field(min_length=1, max_length=128)], Any] = {}
    """Values that travel with every call of a run, in its context's metadata."""
    providers: tuple[str, ...] = ()
    """Context providers that the runner must have been given."""
    capabilities: tuple[Capability, ...] = ()
    """What it can do, where it is served as an agent."""
    slots: Annotated[int, Field(ge=1, le=100_000)] = 64
    """Runs at once, where it is served as an agent. A run mostly waits for its agents, so that
    a quarter would leave fleets idle; four times as many hold inputs and outputs that nobody works on."""
    durable: bool = False
    """Whether each stage is checkpointed, so that an interrupted run can go on."""
    stages: Annotated[tuple[StageSpec, ...], BeforeValidator(_stages_by_id), Field(min_length=1, max_length=1000)]
    output: Value = None
    """What it gives. Unset: the output of its last stage, or those of all last stages by name."""

    @model_validator(mode="after")
    def _one_input(self) -> PipelineSpec:
        if self.input_type and self.input_fields:
            raise ValueError("say either input_type or input_fields")
        return self

    @model_validator(mode="after")
    def _unique(self) -> PipelineSpec:
        for key in ("id", "name"):
            seen: set[str] = set()
            for index, stage in enumerate(self.stages):
                if (said := getattr(stage, key)) in seen:
                    place = {"place": ("stages", index, key)}
                    words = f"two stages have the {key} {said!r}; give each its own"
                    raise PydanticCustomError("twice", words.replace("{", "{{").replace("}", "}}"), place)
                seen.add(said or f"${index}")
        return self


def json_schema() -> dict[str, Any]:
    """The schema of the file, for editors: of each form that `read_pipeline` takes."""
    schema = PipelineSpec.model_json_schema(by_alias=True)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Atomesh pipeline"
    kinds, fields = schema["$defs"], schema["properties"]
    # pydantic says minLength of a tuple, which JSON Schema has for text alone.
    least, most = fields["stages"].pop("minLength"), fields["stages"].pop("maxLength")
    stage, listed = kinds["StageSpec"], {**fields["stages"], "minItems": least, "maxItems": most}
    after = stage["properties"]["after"]
    stage["properties"]["after"] = {"anyOf": [_without(after, "title"), after["items"]], "title": after["title"]}
    without_id = {name: rule for name, rule in stage["properties"].items() if name != "id"}
    kinds["StageById"] = {**_without(stage, "required"), "properties": without_id}
    by_id = {
        "type": "object",
        "propertyNames": {"pattern": stage["properties"]["id"]["pattern"]},
        "additionalProperties": {"$ref": "#/$defs/StageById"},
        "minProperties": least,
        "maxProperties": most,
    }
    fields["stages"] = {"anyOf": [_without(listed, "title"), by_id], "title": listed["title"]}
    as_type = {**stage["properties"], "type": {"type": "string", "description": "The agent."}}
    kinds["StageInLine"] = {**_without(stage, "required"), "properties": as_type}
    items = {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/StageInLine"}]}
    fields["agents"] = {**listed, "items": items, "title": "Agents that follow one another"}
    schema["required"] = [name for name in schema["required"] if name != "stages"]
    schema["anyOf"] = [{"required": ["stages"]}, {"required": ["agents"]}]
    return schema


def _without(schema: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: rule for name, rule in schema.items() if name != key}
