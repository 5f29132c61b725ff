"""Where `fit` finds nothing, protovalidate finds nothing either: random messages, rules and values of one seed each."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import protovalidate
import pytest
from google.protobuf import message_factory
from google.protobuf.message import Message

from atomesh.core.fits import fit, fits

WORDS = [
    "",
    "a",
    "ab",
    "abc",
    "ba",
    "aaaa",
    "é",
    "éé",
    "1.2.3.4",
    "::1",
    "a.bc",
    "a@b.cc",
    "123e4567-e89b-12d3-a456-426614174000",
]
PARTS = ["a", "b", "ab", "bc", "é"]
FORMATS = [
    "email",
    "hostname",
    "ip",
    "ipv4",
    "ipv6",
    "address",
    "uri",
    "uri_ref",
    "uuid",
    "ip_prefix",
    "ip_with_prefixlen",
]
KINDS = [
    "string", "int32", "int64", "uint32", "uint64", "sint32", "double", "float", "bool", "bytes", "Color",
    "Part", "repeated string", "repeated int32", "repeated Part", "map<string, int32>", "map<int32, Part>",
    "google.protobuf.Duration", "google.protobuf.Timestamp", "google.protobuf.Any", "google.protobuf.FieldMask",
    "google.protobuf.Int32Value", "google.protobuf.StringValue", "google.protobuf.FloatValue",
]  # fmt: skip
WIDER = {
    "int32": "int64",
    "uint32": "int64",
    "repeated int32": "repeated int64",
    "map<string, int32>": "map<string, int64>",
}
COLORS = {"Color": {"NONE": 0, "RED": 1, "BLUE": 2}}


@dataclass
class Chance:
    """Rules, values and messages by chance."""

    rng: random.Random

    def some(self, *choices: Callable[[], str]) -> str:
        """None, one or two of the rules."""
        return " ".join(rule() for rule in self.rng.sample(choices, self.rng.choice([0, 1, 1, 2])))

    def number(self, kind: str) -> Any:
        low = 0 if kind.startswith("u") else -3
        return self.rng.choice([0, 0.5, 1, 2.5]) if kind in ("float", "double") else self.rng.randint(low, 8)

    def numbers(self, kind: str) -> str:
        def bounds() -> str:
            names = self.rng.choice([["gt"], ["gte"], ["lt"], ["lte"], ["gt", "lt"], ["gte", "lte"], ["gt", "lte"]])
            return " ".join(f"{name}: {self.number(kind)}" for name in names)

        def members(name: str) -> str:
            return " ".join(f"{name}: {self.number(kind)}" for _ in range(self.rng.randint(1, 3)))

        choices = [bounds, lambda: members("in"), lambda: members("not_in"), lambda: f"const: {self.number(kind)}"]
        if kind in ("float", "double"):
            choices.append(lambda: "finite: true")
        return f"{kind} {{{self.some(*choices)}}}"

    def text(self, kind: str = "string") -> str:
        pick = self.rng.choice

        def digit() -> int:
            return self.rng.randint(0, 4)

        choices = [
            lambda: f"min_len: {digit()}", lambda: f"max_len: {digit()}", lambda: f"len: {digit()}",
            lambda: f"prefix: '{pick(PARTS)}'", lambda: f"suffix: '{pick(PARTS)}'", lambda: f"contains: '{pick(PARTS)}'",
            lambda: " ".join(f"in: '{pick(WORDS)}'" for _ in range(2)), lambda: f"not_in: '{pick(WORDS)}'",
            lambda: f"const: '{pick(WORDS)}'", lambda: f"pattern: '{pick(['^a', 'a', '^[ab]*$'])}'",
        ]  # fmt: skip
        if kind == "string":
            choices += [
                lambda: f"min_bytes: {digit()}", lambda: f"max_bytes: {digit()}", lambda: f"len_bytes: {digit()}",
                lambda: f"not_contains: '{pick(PARTS)}'", lambda: f"{pick(FORMATS)}: true",
            ]  # fmt: skip
        return f"{kind} {{{self.some(*choices)}}}"

    def rules(self, kind: str) -> str:
        general = self.rng.choice(
            ["", "", "", "", "required: true", "ignore: IGNORE_IF_ZERO_VALUE", "ignore: IGNORE_ALWAYS"]
        )
        if self.rng.random() < 0.05 and kind == "string":
            general += " cel_expression: \"this != 'ab'\""
        return f"{general} {self.typed(kind)}".strip()

    def typed(self, kind: str) -> str:
        if kind.startswith("repeated "):
            sizes = self.some(
                lambda: f"min_items: {self.rng.randint(0, 2)}", lambda: f"max_items: {self.rng.randint(2, 3)}"
            )
            unique = " unique: true" if self.rng.random() < 0.2 and "Part" not in kind else ""
            return f"repeated {{{sizes}{unique} items {{{self.item(kind.removeprefix('repeated '))}}}}}"
        if kind.startswith("map<"):
            key, value = kind[4:-1].split(", ")
            sizes = self.some(
                lambda: f"min_pairs: {self.rng.randint(0, 2)}", lambda: f"max_pairs: {self.rng.randint(1, 3)}"
            )
            return f"map {{{sizes} keys {{{self.item(key)}}} values {{{self.item(value)}}}}}"
        if kind in ("string", "bytes"):
            return self.text(kind)
        if kind == "bool":
            return self.rng.choice(["", "bool {const: true}", "bool {const: false}"])
        if kind == "Color":
            choices = [lambda: "defined_only: true", lambda: "in: 1 in: 2", lambda: "not_in: 1", lambda: "const: 1"]
            return f"enum {{{self.some(*choices)}}}"
        if kind.startswith("google."):
            return self.known(kind.rpartition(".")[2])
        return "" if kind == "Part" else self.numbers(kind)

    def known(self, kind: str) -> str:
        """Rules of a well-known type."""
        if kind in ("Duration", "Timestamp"):
            word, seconds = kind.lower(), self.rng.randint(0, 3)
            bounds = [f"{name} {{seconds: {seconds}}}" for name in ("gt", "gte", "lt", "lte", "const")]
            return f"{word} {{{self.rng.choice(['', *bounds])}}}"
        if kind in ("Any", "FieldMask"):
            word, names = {"Any": ("any", ["a/b", "a/c"]), "FieldMask": ("field_mask", ["a", "a.b", "c"])}[kind]
            sets = self.some(lambda: f"in: '{self.rng.choice(names)}'", lambda: f"not_in: '{self.rng.choice(names)}'")
            return f"{word} {{{sets}}}"
        return self.text() if kind == "StringValue" else self.numbers(kind.removesuffix("Value").lower())

    def item(self, kind: str) -> str:
        return self.rng.choice(["", "", "", "ignore: IGNORE_IF_ZERO_VALUE ", "ignore: IGNORE_ALWAYS "]) + self.typed(
            kind
        )

    def part(self) -> list[str]:
        return [f"string x = 1 {{{self.rules('string')}}}", f"int32 y = 2 {{{self.rules('int32')}}}", "Part in = 3"]

    def fill(self, message: Any, depth: int = 0) -> None:
        """Some of the fields with some of the values that rules here speak of."""
        for field in message.DESCRIPTOR.fields:
            if self.rng.random() < (0.25 if depth == 0 else 0.5) or depth > 2:
                continue
            self._set(message, field, depth)

    def _set(self, message: Any, field: Any, depth: int) -> None:
        held = getattr(message, field.name)
        if field.message_type is not None and field.message_type.name == "Any":
            held.type_url = self.rng.choice(["a/b", "a/c", "a/d"])
            return
        if field.message_type is not None and field.message_type.name == "FieldMask":
            held.paths.extend(self.rng.choices(["a", "a.b", "c", "d"], k=self.rng.randint(0, 2)))
            return
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            held, inside = getattr(message, field.name), field.message_type.fields_by_name
            for _ in range(self.rng.randint(0, 3)):
                key = self.value(inside["key"])
                if inside["value"].message_type is None:
                    held[key] = self.value(inside["value"])
                else:
                    self.fill(held[key], depth + 1)
        elif field.is_repeated:
            held = getattr(message, field.name)
            for _ in range(self.rng.randint(0, 3)):
                if field.message_type is None:
                    held.append(self.value(field))
                else:
                    self.fill(held.add(), depth + 1)
        elif field.message_type is None:
            setattr(message, field.name, self.value(field))
        else:
            getattr(message, field.name).SetInParent()
            self.fill(getattr(message, field.name), depth + 1)

    def value(self, field: Any) -> Any:
        if field.type == field.TYPE_STRING:
            return self.rng.choice([*WORDS, "".join(self.rng.choices("abcé", k=self.rng.randint(0, 5)))])
        if field.type == field.TYPE_BYTES:
            return self.rng.choice(WORDS).encode()
        if field.type == field.TYPE_BOOL:
            return self.rng.random() < 0.5
        if field.type in (field.TYPE_DOUBLE, field.TYPE_FLOAT):
            return self.rng.choice([0, 0.5, 1, 2, 2.5, 3, -1, -0.0, float("nan"), float("inf"), float("-inf")])
        unsigned = field.type in (field.TYPE_UINT32, field.TYPE_UINT64)
        return self.rng.randint(0 if unsigned or field.enum_type else -4, 9)

    def other(self, kind: str, rules: str) -> tuple[str, str]:
        """The consumer's kind and rules for a field of the producer's: often much like them."""
        choice = self.rng.random()
        if choice < 0.2:
            return kind, ""
        if choice < 0.4:
            return kind, rules
        if choice < 0.5 and kind in WIDER:
            return WIDER[kind], ""
        return kind, self.rules(kind)

    def whole(self, lines: list[str]) -> str:
        """Now and then a rule for two fields at once."""
        if not all(f" {name} = " in " ".join(lines) for name in ("f1", "f2")) or self.rng.random() < 0.8:
            return ""
        return f"oneof {{fields: 'f1' fields: 'f2' required: {self.rng.choice(['true', 'false'])}}}"

    def message(self) -> tuple[list[str], dict[str, Any]]:
        """The lines of one message, and what it takes besides."""
        kinds = [self.rng.choice(KINDS) for _ in range(self.rng.randint(1, 5))]
        lines = []
        for number, kind in enumerate(kinds, start=1):
            label = "" if kind.startswith(("repeated", "map")) else self.rng.choice(["", "optional "])
            lines.append(f"{label}{kind} f{number} = {number} {{{self.rules(kind)}}}")
        cel = "cel {id: 'x' expression: 'has(this.f1) || has(this.f2)'}" if len(kinds) > 1 else ""
        whole = self.rng.choice([cel, self.whole(lines)])
        return lines, {"types": {"Part": self.part(), **COLORS}, "rules": whole}

    def pair(self, ruled: Any) -> tuple[Any, Any]:
        lines: tuple[list[str], list[str]] = ([], [])
        for number in range(1, self.rng.randint(2, 5)):
            kind = self.rng.choice(KINDS)
            given = self.rules(kind)
            kinds, rules = zip((kind, given), self.other(kind, given), strict=True)
            for side in (0, 1):
                label = "" if kinds[side].startswith(("repeated", "map")) else self.rng.choice(["", "", "optional "])
                inside = label == "" and "<" not in kinds[side] and " " not in kinds[side] and self.rng.random() < 0.15
                choice = " in choice" if inside else ""
                if self.rng.random() < 0.93:
                    lines[side].append(f"{label}{kinds[side]} f{number} = {number}{choice} {{{rules[side]}}}")
        part = self.part()
        parts = (part, part if self.rng.random() < 0.6 else self.part())
        whole = [self.whole(lines[side]) for side in (0, 1)]
        if all(f" {name} = " in " ".join(lines[1]) for name in ("f1", "f2")) and self.rng.random() < 0.5:
            whole[1] = whole[0]
        one, other = (
            ruled(
                *lines[side],
                types={"Part": parts[side], **COLORS},
                rules=whole[side],
                required=self.rng.choice([[], ["choice"]]),
            )
            for side in (0, 1)
        )
        return one, other


def _broken(validator: Any, message: Message) -> list[Any] | None:
    try:
        return [each.proto for each in validator.collect_violations(message)]
    except (protovalidate.CompilationError, protovalidate.EvaluationError):
        return None


@pytest.mark.parametrize("block", range(4))
def test_what_fits_is_taken(ruled: Any, block: int) -> None:
    fitting = tried = 0
    for seed in range(block * 80, block * 80 + 80):
        chance = Chance(random.Random(seed))
        producer, consumer = chance.pair(ruled)
        breaches = fit(producer, consumer)
        assert fits(producer, consumer) == (not breaches), "the short answer is the long one's"
        if breaches:
            continue
        fitting += 1
        made, taken = message_factory.GetMessageClass(producer), message_factory.GetMessageClass(consumer)
        mine, theirs = protovalidate.Validator(), protovalidate.Validator()
        for _ in range(60):
            message = made()
            chance.fill(message)
            if _broken(mine, message) != []:
                continue
            tried += 1
            received = taken.FromString(message.SerializeToString())
            broken = _broken(theirs, received)
            assert broken == [], f"seed {seed}: {message} fits, and is refused: {broken}"
    assert fitting > 8, "a test of what fits needs some that do"
    assert tried > 150, "and values that their producers may give"


@pytest.mark.parametrize("block", range(3))
def test_the_same_rules_imply_each_other_in_another_file(ruled: Any, block: int) -> None:
    for seed in range(block * 100, block * 100 + 100):
        lines, more = Chance(random.Random(seed)).message()
        one = ruled(*lines, **more)
        other = ruled(*lines, **{**more, "types": {**more["types"], "Aside": ["string a = 1"]}})
        assert fit(one, other) == (), f"seed {seed}: what has not changed breaks nobody"
