"""CEL in mappings and guards: compiled and type-checked when a plan is made.

By cel-expr-python, the runtime of CEL's own project (cel-cpp): it checks
against the plan's descriptors and costs some microseconds an evaluation.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from typing import Any

from cel_expr_python import cel
from google.protobuf import message_factory

from atomesh.core.errors import InvalidArgument
from atomesh.pipelines.references import Getter, Values, Wrong
from atomesh.pipelines.shapes import Shape
from atomesh.pipelines.typespace import TypeSpace

_STRINGS = re.compile(r"""(?:\b[rRbB]{1,2})?(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""")
_PATH = re.compile(r"[A-Za-z_]\w*(?:\s*\.\s*[A-Za-z_]\w*)*")
_TOKEN = re.compile(rf"{_PATH.pattern}|\d[\w.]*|\S")
_SCALARS = {
    "string": cel.Type.STRING,
    "bytes": cel.Type.BYTES,
    "bool": cel.Type.BOOL,
    "double": cel.Type.DOUBLE,
    "float": cel.Type.DOUBLE,
    "int32": cel.Type.INT,
    "int64": cel.Type.INT,
    "uint32": cel.Type.UINT,
    "uint64": cel.Type.UINT,
}
_TIMES = {"TIMESTAMP": "google.protobuf.Timestamp", "DURATION": "google.protobuf.Duration"}
_BACK = {"STRING": "string", "BYTES": "bytes", "BOOL": "bool", "DOUBLE": "double", "INT": "int64", "UINT": "uint64"}


class ExpressionFailed(InvalidArgument):
    """An expression was right in itself and failed on the values of a run, such as an index beyond a list's end."""

    reason = "EXPRESSION_FAILED"


class Expressions:
    """Compiles expressions over the values of one plan."""

    def __init__(self, types: TypeSpace) -> None:
        """`types` knows all messages of the plan."""
        self._types = types

    def compile(self, text: str, scope: Mapping[str, Shape]) -> tuple[Shape | None, Getter]:
        """What the expression gives, None where only a run can tell, and the function that evaluates it.

        Raises:
            Wrong: it does not parse, or its types do not fit.
        """
        used = names_in(text, scope)
        variables = {name: _cel_type(scope[name]) for name in used}
        try:
            environment = cel.NewEnv(descriptor_pool=self._types.pool, variables=variables)
            compiled = environment.compile(text)
        except RuntimeError as error:
            raise Wrong(f"{text!r:.80}: {_complaint(error)}") from None
        empty = {name: _empty(scope[name]) for name in used}
        return self._shape(str(compiled.return_type())), _evaluator(text, compiled, empty)

    def _shape(self, said: str) -> Shape | None:
        if said in _BACK:
            return Shape(scalar=_BACK[said])
        if said.startswith("LIST<") and (inner := self._shape(said[5:-1])) is not None:
            return None if inner.many or inner.key else Shape(inner.scalar, inner.message, inner.enum, many=True)
        if said.startswith("MAP<"):
            key, _, value = said[4:-1].partition(", ")
            inner = self._shape(value)
            plain = inner is not None and not inner.many and not inner.key and key in _BACK
            return Shape(inner.scalar, inner.message, inner.enum, key=_BACK[key]) if plain and inner else None
        message = self._types.find(_TIMES.get(said, said))
        return Shape(message=message) if message is not None else None


def check_syntax(text: str) -> None:
    """Raises Wrong where the expression does not parse, whatever its names are."""
    try:
        cel.NewEnv().compile(text, disable_check=True)
    except RuntimeError as error:
        raise Wrong(f"{text!r:.80}: {_complaint(error)}") from None


def names_in(text: str, known: Iterable[str]) -> list[str]:
    """Which of the known names the expression uses; more rather than fewer, sorted.

    Those of messages are none, nor are those of fields in `Message{field: value}`.
    """
    found: set[str] = set()
    braces: list[bool] = []  # of each bracket that is open, whether it is a message's
    before = ""
    for token, after in itertools.pairwise([*_TOKEN.findall(_STRINGS.sub("''", text)), ""]):
        if token in "([{":
            braces.append(token == "{" and before != "in" and _PATH.match(before) is not None)
        elif token in ")]}":
            del braces[-1:]
        elif _PATH.match(token) and before != "." and after != "{":
            fills = bool(braces) and braces[-1] and before in ("{", ",") and after == ":"
            found.update(() if fills else [token.partition(".")[0].strip()])
        before = token
    return sorted(found.intersection(known))


def _evaluator(text: str, compiled: Any, empty: Mapping[str, Any]) -> Getter:
    def evaluate(values: Values) -> Any:
        data = {name: nothing if (value := values.get(name)) is None else value for name, nothing in empty.items()}
        try:
            result = compiled.eval(data=data)
        except (RuntimeError, ValueError, TypeError) as error:
            raise ExpressionFailed(f"{text!r:.120} failed: {_complaint(error)}") from None
        if result.type() == cel.Type.ERROR:
            raise ExpressionFailed(f"{text!r:.120} failed: {_plain_words(str(result.value()))}")
        return _plain(result.plain_value())

    return evaluate


def _plain(value: Any) -> Any:
    """CEL's bytes come as a bytearray, which no field takes."""
    if isinstance(value, bytearray):
        return bytes(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def _cel_type(shape: Shape) -> Any:
    if shape.message is not None:
        single = cel.Type(str(shape.message.full_name))
    else:
        single = _SCALARS.get(shape.scalar, cel.Type.INT)  # an enum is an int to CEL
    if shape.key:
        return cel.Type.Map(_SCALARS[shape.key], single)
    return cel.Type.List(single) if shape.many else single


def _empty(shape: Shape) -> Any:
    """What a stage that gave nothing is to CEL: `has(stage.field)` is false of it."""
    if shape.many:
        return []
    if shape.key:
        return {}
    if shape.message is not None:
        return message_factory.GetMessageClass(shape.message)()
    return {"string": "", "bytes": b"", "bool": False, "double": 0.0, "float": 0.0}.get(shape.scalar, 0)


def _plain_words(text: str) -> str:
    """cel-cpp's words without the name of their status in front."""
    return re.sub(r"^[A-Z_]+: ", "", " ".join(text.split()))[:200]


def _complaint(error: Exception) -> str:
    """cel-cpp's words without their frame and the caret below them."""
    first = str(error).strip().splitlines()[0]
    return re.sub(r"^(INVALID_ARGUMENT: )?(ERROR: )?(<input>:)?", "", first).partition(" expecting {")[0].strip()[:300]
