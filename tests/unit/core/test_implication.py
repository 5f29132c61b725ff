"""Rule by rule: where the producer's imply the consumer's, and where they do not."""

from __future__ import annotations

from typing import Any

import pytest

from atomesh.core.fits import fit

STRING = [
    # (the producer's rules, the consumer's, the kind); the first imply the second, and not the other way round
    ("", "min_len: 0", "same"),
    ("min_len: 3", "min_len: 2", ""),
    ("max_len: 3", "max_len: 4", ""),
    ("len: 3", "min_len: 3 max_len: 3", "same"),
    ("len: 3", "max_len: 4", ""),
    ("max_bytes: 3", "max_len: 3", ""),
    ("max_len: 3", "max_bytes: 12", ""),
    ("min_bytes: 9", "min_len: 3", ""),
    ("min_len: 3", "min_bytes: 3", ""),
    ("len_bytes: 4", "max_bytes: 4", ""),
    ("prefix: 'abc'", "prefix: 'ab'", ""),
    ("prefix: 'abc'", "min_len: 3", ""),
    ("suffix: 'abc'", "suffix: 'bc'", ""),
    ("contains: 'abc'", "contains: 'b'", ""),
    ("prefix: 'abc'", "contains: 'b'", ""),
    ("not_contains: 'b'", "not_contains: 'abc'", ""),
    ("pattern: '^a+$'", "pattern: '^a+$'", "same"),
    ("pattern: '^a+$' max_len: 3", "pattern: '^a+$'", ""),
    ("in: 'a' in: 'aa'", "pattern: '^a+$'", ""),
    ("const: 'aa'", "pattern: '^a+$'", ""),
    ("in: 'a'", "in: 'a' in: 'b'", ""),
    ("in: 'a' in: 'bbb' max_len: 2", "const: 'a'", "same"),
    ("const: 'a'", "in: 'a' in: 'b'", ""),
    ("not_in: 'a' not_in: 'b'", "not_in: 'a'", ""),
    ("min_len: 2", "not_in: 'a'", ""),
    ("pattern: '^x'", "not_in: 'a'", ""),
    ("uuid: true", "len: 36", ""),
    ("uuid: true", "min_bytes: 36", ""),
    ("email: true", "min_len: 1", ""),
    ("ipv4: true", "ip: true", ""),
    ("ip: true", "address: true", ""),
    ("hostname: true", "address: true", ""),
    ("uri: true", "uri_ref: true", ""),
    ("email: false", "", "same"),
    ("in: 'a@b.cc'", "email: true", ""),
    ("well_known_regex: KNOWN_REGEX_HTTP_HEADER_NAME", "well_known_regex: KNOWN_REGEX_HTTP_HEADER_NAME", "same"),
]
INT = [
    ("gt: 3", "gte: 4", "same"),
    ("gte: 3", "gte: 2", ""),
    ("gt: 3", "gt: 2", ""),
    ("lt: 3", "lte: 2", "same"),
    ("lte: 300", "lte: 301", ""),
    ("gte: 100 lte: 900", "gt: 99", ""),
    ("gte: 100 lte: 900", "gte: 100 lte: 1000", ""),
    ("gt: 1000", "gt: 500 lt: 100", ""),
    ("gt: 500 lt: 100", "gt: 400 lt: 200", ""),
    ("const: 5", "gte: 5", ""),
    ("in: 5 in: 7", "gte: 5 lte: 7", ""),
    ("gte: 5 lte: 7", "in: 5 in: 6 in: 7 in: 8", ""),
    ("gte: 5 lte: 6", "in: 5 in: 6", "same"),
    ("not_in: 5 not_in: 6", "not_in: 5", ""),
    ("gt: 5", "not_in: 5", ""),
]
FLOAT = [
    ("gt: 3", "gte: 3", ""),
    ("gte: 3 lte: 4", "gt: 2.5", ""),
    ("gte: 3 lte: 4", "finite: true", ""),
    ("finite: true gte: 0", "finite: true", ""),
    ("const: 0.5", "lt: 1", ""),
    ("gt: 3", "not_in: 2", ""),
]
TABLE = [
    *(("string", f"string {{{one}}}", f"string {{{other}}}", same) for one, other, same in STRING),
    *(("int32", f"int32 {{{one}}}", f"int32 {{{other}}}", same) for one, other, same in INT),
    *(("uint64", f"uint64 {{{one}}}", f"uint64 {{{other}}}", same) for one, other, same in INT),
    *(("double", f"double {{{one}}}", f"double {{{other}}}", same) for one, other, same in FLOAT),
    *(("float", f"float {{{one}}}", f"float {{{other}}}", same) for one, other, same in FLOAT),
    ("bytes", "bytes {min_len: 3}", "bytes {min_len: 2}", ""),
    ("bytes", "bytes {prefix: 'abc'}", "bytes {prefix: 'ab'}", ""),
    ("bytes", "bytes {ipv4: true}", "bytes {len: 4}", ""),
    ("bytes", "bytes {in: 'abc'}", "bytes {len: 3}", ""),
    ("bytes", "bytes {uuid: true}", "bytes {len: 16}", ""),
    ("bool", "bool {const: true}", "", ""),
    ("bool", "bool {const: true}", "required: true", "same"),
    ("string", "required: true", "string {min_len: 1}", "same"),
    ("uint32", "required: true", "uint32 {gte: 1}", "same"),
    ("string", "ignore: IGNORE_IF_ZERO_VALUE string {min_len: 3}", "ignore: IGNORE_IF_ZERO_VALUE string {min_len: 2}", ""),
    ("string", "string {min_len: 3}", "ignore: IGNORE_IF_ZERO_VALUE string {min_len: 3}", ""),
    ("string", "string {min_len: 3}", "ignore: IGNORE_ALWAYS string {min_len: 9}", ""),
    ("Color", "enum {defined_only: true}", "", ""),
    ("Color", "enum {in: 1 in: 2}", "enum {defined_only: true}", ""),
    ("Color", "enum {const: 1}", "enum {not_in: 2}", ""),
    ("Color", "enum {defined_only: true}", "enum {not_in: 9}", ""),
    ("Color", "enum {in: 1}", "enum {in: 1 in: 2}", ""),
    ("repeated string", "repeated {min_items: 2}", "repeated {min_items: 1}", ""),
    ("repeated string", "repeated {max_items: 2}", "repeated {max_items: 3}", ""),
    ("repeated string", "repeated {unique: true max_items: 4}", "repeated {unique: true}", ""),
    ("repeated string", "repeated {max_items: 1}", "repeated {unique: true}", ""),
    ("repeated string", "required: true", "repeated {min_items: 1}", "same"),
    ("repeated string", "repeated {items {string {min_len: 2}}}", "repeated {items {string {min_len: 1}}}", ""),
    ("repeated int32", "repeated {items {int32 {in: 1}}}", "repeated {items {int32 {gt: 0}}}", ""),
    ("map<string, int32>", "map {min_pairs: 2}", "map {min_pairs: 1}", ""),
    ("map<string, int32>", "map {max_pairs: 2}", "map {max_pairs: 3}", ""),
    ("map<string, int32>", "map {keys {string {len: 2}}}", "map {keys {string {max_len: 2}}}", ""),
    ("map<string, int32>", "map {values {int32 {gt: 2}}}", "map {values {int32 {gt: 1}}}", ""),
    ("google.protobuf.Duration", "duration {gte {seconds: 2}}", "duration {gt {seconds: 1}}", ""),
    ("google.protobuf.Duration", "duration {in {seconds: 2}}", "duration {gt {seconds: 1}}", ""),
    ("google.protobuf.Duration", "required: true", "", ""),
    ("google.protobuf.Timestamp", "timestamp {gt {seconds: 2}}", "timestamp {gt {seconds: 1}}", ""),
    ("google.protobuf.Timestamp", "timestamp {lt_now: true within {seconds: 3}}", "timestamp {lt_now: true}", ""),
    ("google.protobuf.Timestamp", "timestamp {within {seconds: 3}}", "timestamp {within {seconds: 4}}", ""),
    ("google.protobuf.StringValue", "string {min_len: 3}", "string {min_len: 2}", ""),
    ("google.protobuf.Int32Value", "int32 {const: 3}", "int32 {gt: 2}", ""),
    ("google.protobuf.Any", "any {in: 'a/b'}", "any {in: 'a/b' in: 'a/c'}", ""),
    ("google.protobuf.Any", "any {in: 'a/b'}", "any {not_in: 'a/c'}", ""),
    ("google.protobuf.FieldMask", "field_mask {in: 'a'}", "field_mask {in: 'a' in: 'b'}", ""),
    ("string", "cel {id: 'x' expression: 'this != \"q\"'}", "cel {id: 'y' expression: 'this != \"q\"'}", "same"),
    ("string", "string {in: 'a'}", "cel {id: 'x' expression: 'this != \"q\"'}", ""),
    ("string", "cel_expression: 'this != \"q\"' string {min_len: 1}", "cel {id: 'y' expression: 'this != \"q\"'}", ""),
]  # fmt: skip
COLORS = {"Color": {"NONE": 0, "RED": 1, "BLUE": 2}}


def _breaches(ruled: Any, kind: str, producer: str, consumer: str) -> tuple[Any, ...]:
    one, other = (ruled(f"{kind} a = 1 {{{rules}}}", types=COLORS) for rules in (producer, consumer))
    return fit(one, other)


@pytest.mark.parametrize(("kind", "producer", "consumer", "same"), TABLE)
def test_rules_that_imply_others_are_seen_to_and_the_others_are_not(
    ruled: Any, kind: str, producer: str, consumer: str, same: str
) -> None:
    assert _breaches(ruled, kind, producer, consumer) == (), "what the producer states must be enough"
    back = _breaches(ruled, kind, consumer, producer)
    if same:
        assert back == (), "rules of one meaning imply each other"
    else:
        assert back, "a consumer's rule that the producer does not keep must be named"
        assert {breach.field.partition("[")[0] for breach in back} == {"a"}
