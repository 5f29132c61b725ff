"""Makes plans: pure, since whoever asks for one brings what the mesh says of the agents, see `binding.py`.

All that is wrong is found at once, each with its line.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from google.protobuf import descriptor_pb2
from google.protobuf.message import Message

from atomesh.core.backoff import Backoff
from atomesh.core.contract import Contract
from atomesh.core.errors import InvalidArgument
from atomesh.pipelines.errors import PipelineInvalid, Problem
from atomesh.pipelines.graph import in_order, input_of, last_stages, needs
from atomesh.pipelines.mapping import CEL, Mapper, roots
from atomesh.pipelines.model import Fallback, PipelineSpec, StageSpec
from atomesh.pipelines.own_types import check_names, own_file, shape_named
from atomesh.pipelines.plan import Bound, Plan, Step, Target, Undoing, wants
from atomesh.pipelines.reading import Path, Source
from atomesh.pipelines.references import Getter, Wrong
from atomesh.pipelines.shapes import Shape, misfit, of_message
from atomesh.pipelines.typespace import TypeSpace, own_package


def make_plan(spec: PipelineSpec, bound: Mapping[str, Bound], source: Source | None = None) -> Plan:
    """The plan of a pipeline whose agents are bound, by the keys of `wants`.

    Raises:
        PipelineInvalid: anything in it does not fit; each problem has its line.
    """
    source = source or Source()
    waits, problems = needs(spec, source)
    problems += [
        source.problem(
            ("stages", want.key.partition(".")[0], "agent"), f"the pipeline {spec.name} calls itself without an end"
        )
        for want in wants(spec)
        if want.agent == spec.name
    ]
    if problems:
        raise PipelineInvalid(problems, source.name)
    try:
        return _Planner(spec, bound, source, waits).plan()
    except InvalidArgument as error:
        if isinstance(error, PipelineInvalid):
            raise
        raise PipelineInvalid([Problem(error.message)], source.name) from None


class _Planner:
    """Makes one plan; collects all that is wrong on the way."""

    def __init__(
        self, spec: PipelineSpec, bound: Mapping[str, Bound], source: Source, waits: Mapping[str, tuple[str, ...]]
    ) -> None:
        self._spec = spec
        self._bound = bound
        self._source = source
        self._waits = waits
        self._problems: list[Problem] = []
        self._last = last_stages(spec, waits)
        self._use(None)

    def plan(self) -> Plan:
        inputs = self._input_fields()
        if inputs is not None:
            self._use(own_file(self._spec.name, inputs, None))
        outputs = self._output_fields()
        if outputs is not None:
            self._use(own_file(self._spec.name, self._input_fields(), outputs))
        taken = self._scope["input"].message
        by_id = {stage.id: self._step(place, stage) for place, stage in enumerate(self._spec.stages)}
        given, output = self._output()
        if self._problems or taken is None or given is None:
            raise PipelineInvalid(self._problems, self._source.name)
        classes = (self._types.message_class(str(taken.full_name)), self._types.message_class(str(given.full_name)))
        steps = tuple(step for name in in_order(self._waits) if (step := by_id[name]) is not None)
        order = {stage.id: place for place, stage in enumerate(self._spec.stages)}
        sequential = all(before.id in step.needs for before, step in itertools.pairwise(steps))
        notes = tuple(self._mapper.notes)
        contract, types = Contract(self._spec.name, *classes), self._types.described()
        return Plan(self._spec, contract, steps, output, notes, order, types, sequential)

    # -- types ---------------------------------------------------------------

    def _use(self, own: descriptor_pb2.FileDescriptorProto | None) -> None:
        """Takes the types of all contracts and, where there are some, of the pipeline itself."""
        self._types = TypeSpace((bound.contract for bound in self._bound.values()), own)
        self._mapper = Mapper(self._types)
        self._targets = {key: self._target(bound) for key, bound in self._bound.items()}
        self._scope: dict[str, Shape] = {}
        for stage in self._spec.stages:
            given: Any = self._targets[stage.id].contract.output.DESCRIPTOR
            self._scope[stage.id] = of_message(given, many=stage.map is not None)
        self._scope["input"] = of_message(self._input_message())

    def _target(self, bound: Bound) -> Target:
        taken, given = (
            self._types.message_class(name) for name in (bound.contract.input_type, bound.contract.output_type)
        )
        return Target(bound.agent, bound.version, Contract(bound.agent, taken, given), bound.idempotent)

    def _input_message(self) -> Any:
        """What the pipeline takes; None where that is not known, or not yet."""
        if self._spec.input_fields:
            return self._types.find(f"{own_package(self._spec.name)}.Input")
        if self._spec.input_type:
            found = self._types.find(self._spec.input_type)
            if found is None:
                raise self._stop(("input_type",), f"no agent of the pipeline knows {self._spec.input_type}")
            return found
        for place, stage in enumerate(self._spec.stages):
            if input_of(self._spec, place) == "$input":
                return self._targets[stage.id].contract.input.DESCRIPTOR
        unsaid = "no stage takes the pipeline's input whole; say what it is with input_type or input_fields"
        raise self._stop(("stages",), unsaid)

    def _input_fields(self) -> Mapping[str, Shape] | None:
        if not self._spec.input_fields:
            return None
        self._check_names(("input_fields",), self._spec.input_fields)
        fields = {}
        for name, text in self._spec.input_fields.items():
            try:
                fields[name] = shape_named(text, self._types)
            except Wrong as error:
                raise self._stop(("input_fields", name), str(error)) from None
        return fields

    def _output_fields(self) -> Mapping[str, Shape] | None:
        """The fields of an output of the pipeline's own; None where another message serves."""
        spec = self._spec
        if spec.output_type or (spec.output is None and len(self._last) == 1 and self._last[0].map is None):
            return None
        if spec.output is None:
            self._check_names(("stages",), [stage.id for stage in self._last])
            return {stage.id: self._scope[stage.id] for stage in self._last}
        if not isinstance(spec.output, dict) or any(str(key).startswith("$") for key in spec.output):
            return None
        self._check_names(("output",), map(str, spec.output))
        fields = {}
        for name, value in spec.output.items():
            try:
                fields[str(name)] = self._mapper.value(value, self._scope)[0]
            except Wrong as error:
                raise self._stop(("output", str(name)), str(error)) from None
        return fields

    def _check_names(self, path: Path, names: Iterable[str]) -> None:
        try:
            check_names(names)
        except Wrong as error:
            raise self._stop((*path, *error.path), str(error)) from None

    # -- stages --------------------------------------------------------------

    def _step(self, place: int, stage: StageSpec) -> Step | None:
        count = len(self._problems)
        target, path = self._targets[stage.id], ("stages", stage.id)
        scope = self._scope
        over = None
        if stage.map is not None:
            over, item = self._over(stage, path)
            if item is None:
                return None  # its input would only be wrong for the same reason
            scope = {**scope, "item": item, "index": Shape(scalar="int64")}
        said = input_of(self._spec, place)
        taken: Any = target.contract.input.DESCRIPTOR
        fill = self._message((*path, "input"), said, taken, scope)
        when = None if stage.when is None else self._guard((*path, "when"), stage.when)
        default, passes = self._instead(stage, target, path)
        fallback, undo = self._fallback(stage, target, path), self._undo(stage, path)
        if len(self._problems) > count or fill is None:
            return None
        defaults, backoff = self._spec.defaults, stage.backoff or self._spec.defaults.backoff
        read = roots(said if stage.map is None else stage.map, lambda text: [CEL])
        return Step(
            id=stage.id,
            spec=stage,
            target=target,
            needs=self._waits[stage.id],
            reads=tuple(sorted(read)) if read <= set(self._waits) else (),
            fill=fill,
            when=when,
            over=over,
            default=default,
            passes=passes,
            fallback=fallback,
            undo=undo,
            attempts=stage.attempts or defaults.attempts,
            timeout=stage.timeout or defaults.timeout,
            backoff=Backoff(backoff.base, backoff.cap),
            idempotent=target.idempotent if stage.idempotent is None else stage.idempotent,
        )

    def _over(self, stage: StageSpec, path: Path) -> tuple[Getter | None, Shape | None]:
        try:
            shape, get = self._mapper.value(stage.map, self._scope)
        except Wrong as error:
            self._wrong((*path, "map"), str(error))
            return None, None
        if not shape.many:
            self._wrong((*path, "map"), f"{stage.map} is {shape} and no list")
            return None, None
        return get, shape.one

    def _message(self, path: Path, value: Any, target: Any, scope: Mapping[str, Shape]) -> Getter | None:
        noted = len(self._mapper.notes)
        try:
            made = self._mapper.message(value, target, scope)
        except Wrong as error:
            for each in error.all:
                self._wrong((*path, *each.path), str(each))
            return None
        place = ".".join(map(str, path))
        self._mapper.notes[noted:] = [f"{place}.{note}" for note in self._mapper.notes[noted:]]
        return made

    def _guard(self, path: Path, text: str) -> Getter | None:
        try:
            return self._mapper.boolean(text, self._scope)
        except Wrong as error:
            self._wrong(path, str(error))
            return None

    def _instead(
        self, stage: StageSpec, target: Target, path: Path
    ) -> tuple[Message | None, Callable[[Message], Message] | None]:
        """What goes on in place of an output, where the stage is skipped or left out."""
        given: Any = target.contract.output.DESCRIPTOR
        if stage.default is not None:
            if roots(stage.default, lambda text: ["expression"]):
                self._wrong((*path, "default"), "a default is a literal: nothing else can be counted on then")
                return None, None
            make = self._message((*path, "default"), stage.default, given, {})
            return (None if make is None else make({})), None
        if stage.on_error != "skip":
            return None, None
        if problem := misfit(of_message(target.contract.input.DESCRIPTOR), of_message(given)):
            self._wrong(
                (*path, "on_error"), f"skip needs a default: its input does not fit in place of its output ({problem})"
            )
            return None, None
        return None, _recast(target.contract.output)

    def _fallback(self, stage: StageSpec, target: Target, path: Path) -> Target | None:
        if not isinstance(stage.on_error, Fallback):
            return None
        other = self._targets[f"{stage.id}.fallback"]
        ours, theirs = target.contract, other.contract
        for what, given, wanted in (("input", ours.input, theirs.input), ("output", theirs.output, ours.output)):
            if problem := misfit(of_message(given.DESCRIPTOR), of_message(wanted.DESCRIPTOR)):
                self._wrong(
                    (*path, "on_error"), f"{other.agent} is no fallback for {target.agent}: its {what}: {problem}"
                )
        return other

    def _undo(self, stage: StageSpec, path: Path) -> Undoing | None:
        if stage.undo is None:
            return None
        target = self._targets[f"{stage.id}.undo"]
        said = f"${stage.id}" if stage.undo.input is None else stage.undo.input
        fill = self._message((*path, "undo", "input"), said, target.contract.input.DESCRIPTOR, self._scope)
        return None if fill is None else Undoing(target, fill, stage.undo.timeout)

    # -- the output ----------------------------------------------------------

    def _output(self) -> tuple[Any, Getter]:
        spec, scope = self._spec, self._scope
        own = self._types.find(f"{own_package(spec.name)}.Output")
        said = spec.output
        if said is None:
            said = {stage.id: f"${stage.id}" for stage in self._last} if own is not None else f"${self._last[0].id}"
        target: Any = self._types.find(spec.output_type) if spec.output_type else own
        if spec.output_type and target is None:
            self._wrong(("output_type",), f"no agent of the pipeline knows the message {spec.output_type}")
            return None, _same
        if target is None:
            try:
                shape, _ = self._mapper.value(said, scope)
            except Wrong as error:
                self._wrong(("output",), str(error))
                return None, _same
            if shape.message is None or shape.many or shape.key:
                self._wrong(
                    ("output",), f"{said} is {shape}, and an output is a message; name it: output: {{items: {said}}}"
                )
                return None, _same
            target = shape.message
        return target, self._message(("output",), said, target, scope) or _same

    def _wrong(self, path: Path, message: str) -> None:
        problem = self._source.problem(path, message)
        if problem not in self._problems:
            self._problems.append(problem)

    def _stop(self, path: Path, message: str) -> PipelineInvalid:
        """The problem as an error: what comes after it would only be more of the same."""
        self._wrong(path, message)
        return PipelineInvalid(self._problems, self._source.name)


def _same(values: Mapping[str, Any]) -> Any:
    """Stands where nothing could be made, in a plan that is refused."""
    del values
    return None


def _recast(wanted: type[Message]) -> Callable[[Message], Message]:
    """Makes one message of another of the same structure."""
    return lambda message: message if isinstance(message, wanted) else wanted.FromString(message.SerializeToString())
