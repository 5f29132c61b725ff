"""A contract as proto that people read."""

from __future__ import annotations

from atomesh.cli._contract_text import readable
from atomesh.core.contract import describe
from atomesh.text.v1.text_pb2 import TextInput, TextOutput
from atomesh.v1.registry_pb2 import RegisterRequest, RegisterResponse


def test_messages_in_reach_are_shown_with_fields_numbers_and_rules() -> None:
    text = readable(describe(TextInput, TextOutput))
    for line in (
        "// atomesh.text.v1.TextInput -> atomesh.text.v1.TextOutput",
        "message atomesh.text.v1.TextInput {",
        "  string content = 1;  // min_len 1; max_len 10000; must not be only white space",
        "  // option top_k belongs to extract_keywords only",
        "  optional uint32 top_k = 2;  // gte 1; lte 100",
        "  oneof structured {",
        "    Summary summary = 2;",
        "  map<string, string> metadata = 8;",
        "  repeated Keyword keywords = 1;",
        "  string label = 1;  // in positive, neutral, negative",
    ):
        assert line in text.splitlines(), f"{line!r} must be shown"


def test_well_known_types_are_named_and_not_spelt_out() -> None:
    text = readable(describe(RegisterRequest, RegisterResponse))
    assert "google.protobuf.Duration ttl = 3;" in text
    assert "message google.protobuf.Duration" not in text
    assert "max_pairs 64" in text, "rules of a map are shown"
