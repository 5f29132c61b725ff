"""Contracts as data: hashes, pools of their own, and messages in an Any."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, duration_pb2, struct_pb2, wrappers_pb2

from atomesh.core import Contract, StreamContract
from atomesh.core.contract import (
    ContractDescriptor,
    default_json_name,
    describe,
    descriptor_files,
    known_class,
    load_contract,
    pack,
    unpack,
)
from atomesh.core.errors import InvalidArgument, WrongType
from atomesh.text.v1 import text_pb2
from atomesh.v1 import agent_pb2, context_pb2

TEXT = Contract("text-processor", text_pb2.TextInput, text_pb2.TextOutput)


def _sent(contract: ContractDescriptor, files: list[descriptor_pb2.FileDescriptorProto]) -> ContractDescriptor:
    serialized = descriptor_pb2.FileDescriptorSet(file=files).SerializeToString()
    return ContractDescriptor.from_proto(
        agent_pb2.Contract(input_type=contract.input_type, output_type=contract.output_type, descriptor_set=serialized)
    )


def test_a_contract_is_whole_and_survives_the_wire() -> None:
    described = TEXT.descriptor
    assert described.input_type == TEXT.input_type == "atomesh.text.v1.TextInput"
    assert described.output_type == TEXT.output_type == "atomesh.text.v1.TextOutput"
    proto = agent_pb2.Contract.FromString(described.to_proto().SerializeToString())
    assert ContractDescriptor.from_proto(proto) == described
    names = [file.name for file in descriptor_files(described.descriptor_set)]
    for file in descriptor_files(described.descriptor_set):
        assert set(file.dependency) <= set(names[: names.index(file.name)]), "dependencies come first"


def test_the_hash_does_not_depend_on_the_order_of_files_or_on_comments() -> None:
    described = TEXT.descriptor
    files = descriptor_files(described.descriptor_set)
    text = next(file for file in files if file.name.endswith("text.proto"))
    text.source_code_info.location.add(path=[4, 0], leading_comments="a comment")
    duration = next(file for file in files if file.name.endswith("duration.proto"))
    reordered = [duration, *(file for file in files if file is not duration)]
    assert [file.name for file in reordered] != [file.name for file in files]
    assert _sent(described, reordered).hash == described.hash


def test_the_hash_tells_contracts_apart() -> None:
    hashes = {
        describe(text_pb2.TextInput, text_pb2.TextOutput).hash,
        describe(text_pb2.TextOutput, text_pb2.TextInput).hash,
        describe(context_pb2.Context, text_pb2.TextOutput).hash,
    }
    assert len(hashes) == 3
    files = descriptor_files(TEXT.descriptor.descriptor_set)
    files[-1].message_type[0].field.add(name="newer", number=4711, type=9, label=1)
    assert _sent(TEXT.descriptor, files).hash != TEXT.descriptor.hash


def test_chunks_are_part_of_a_contract_and_survive_the_wire() -> None:
    stream = StreamContract("text-processor", text_pb2.TextInput, text_pb2.TextOutput, chunk=text_pb2.Keyword)
    described = stream.descriptor
    assert described.types == ("atomesh.text.v1.TextInput", "atomesh.text.v1.TextOutput", "atomesh.text.v1.Keyword")
    proto = agent_pb2.Contract.FromString(described.to_proto().SerializeToString())
    assert ContractDescriptor.from_proto(proto) == described
    loaded = described.load()
    assert loaded.chunk is not None
    assert loaded.chunk.DESCRIPTOR.full_name == "atomesh.text.v1.Keyword"
    assert described.hash != TEXT.descriptor.hash, "with chunks it is another contract"
    assert Contract("x", text_pb2.TextInput, text_pb2.TextOutput, chunk=text_pb2.Keyword).descriptor == described


def test_the_files_of_chunks_are_in_the_contract() -> None:
    described = describe(struct_pb2.Struct, struct_pb2.Struct, duration_pb2.Duration)
    names = [file.name for file in descriptor_files(described.descriptor_set)]
    assert names == ["google/protobuf/struct.proto", "google/protobuf/duration.proto"]


def test_the_hash_of_a_contract_without_chunks_is_what_it_was_before_there_were_any() -> None:
    # Registries of both versions meet: a hash that moved would be another contract to them.
    plain = describe(wrappers_pb2.StringValue, wrappers_pb2.StringValue)
    assert plain.hash == "db537a93105699d1a9e7a4b3641e776116c2a76abe06e536d07f03303820243b"


def test_chunks_that_the_descriptors_do_not_define_are_refused() -> None:
    proto = TEXT.descriptor.to_proto()
    proto.chunk_type = "atomesh.text.v1.Nope"
    with pytest.raises(InvalidArgument, match="Nope"):
        ContractDescriptor.from_proto(proto)


@pytest.mark.parametrize(
    ("name", "json"),
    [("max_top_k", "maxTopK"), ("a", "a"), ("_a", "A"), ("a_", "a"), ("a__b", "aB"), ("aB_c", "aBC"), ("a_1b", "a1b")],
)
def test_default_json_names_are_protobufs(name: str, json: str) -> None:
    file = descriptor_pb2.FileDescriptorProto(name="j.proto", package="j", syntax="proto3")
    file.message_type.add(name="M").field.add(name=name, number=1, type=9, label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    assert pool.FindMessageTypeByName("j.M").fields[0].json_name == json == default_json_name(name)


def test_a_loaded_contract_speaks_the_same_bytes_and_touches_no_default_pool() -> None:
    file = descriptor_pb2.FileDescriptorProto(name="stranger.proto", package="stranger", syntax="proto3")
    for name in ("In", "Out"):
        file.message_type.add(name=name).field.add(name="a", number=1, type=9, label=1)
    serialized = descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString()
    loaded = load_contract("stranger.In", "stranger.Out", serialized)
    assert loaded.input.FromString(loaded.input(a="Zoë").SerializeToString()) == loaded.input(a="Zoë")
    assert known_class("stranger.In") is None, "a stranger's types must not get into the process's own pool"


def test_strangers_that_share_all_names_do_not_meet(protos: Any) -> None:
    f, m = protos.field, protos.message
    one = protos.contract(m("In", f(1, "a")))
    other = protos.contract(m("In", f(1, "a", "int32"), f(2, "b")))
    first: Any = load_contract("t.In", "t.Out", one.descriptor_set)
    second: Any = load_contract("t.In", "t.Out", other.descriptor_set)
    assert first.input(a="text").a == "text"
    assert second.input(a=7, b="x").a == 7
    assert load_contract("t.In", "t.Out", one.descriptor_set) is first, "made once for each"


@pytest.mark.parametrize(
    ("input_type", "output_type", "descriptors", "said"),
    [
        ("t.In", "t.Out", b"", "t.In"),
        ("t.In", "t.Out", b"\xff\xff junk", "not whole"),
        ("atomesh.text.v1.Nope", "atomesh.text.v1.TextOutput", TEXT.descriptor.descriptor_set, "Nope"),
        ("atomesh.text.v1.TextInput", "", TEXT.descriptor.descriptor_set, "not whole"),
        ("", "\x00", TEXT.descriptor.descriptor_set, "not whole"),
        # An enum, a field and a package are no messages.
        ("google.protobuf.FieldDescriptorProto.Type", "atomesh.text.v1.TextOutput", TEXT.descriptor.descriptor_set, ""),
        ("atomesh.text.v1", "atomesh.text.v1.TextOutput", TEXT.descriptor.descriptor_set, "not whole"),
    ],
)
def test_a_contract_that_is_not_whole_is_refused_in_one_line(
    input_type: str, output_type: str, descriptors: bytes, said: str
) -> None:
    proto = agent_pb2.Contract(input_type=input_type, output_type=output_type, descriptor_set=descriptors)
    with pytest.raises(InvalidArgument, match="send all files that both types need") as refused:
        ContractDescriptor.from_proto(proto)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_contract_that_lacks_a_file_is_refused() -> None:
    files = [file for file in descriptor_files(TEXT.descriptor.descriptor_set) if not file.name.startswith("buf/")]
    with pytest.raises(InvalidArgument, match=r"buf/validate/validate\.proto"):
        _sent(TEXT.descriptor, files)


def test_a_contract_that_defines_a_name_twice_is_refused() -> None:
    files = descriptor_files(TEXT.descriptor.descriptor_set)
    files[-1].message_type.add(name="TextInput")
    with pytest.raises(InvalidArgument, match="not whole"):
        _sent(TEXT.descriptor, files)


@pytest.mark.parametrize("host", ["type.googleapis.com/", "example.com/a/b/", "http://evil.example/", "/", ""])
def test_the_host_of_a_type_url_does_not_matter_and_is_never_asked(host: str) -> None:
    message = text_pb2.TextInput(content="hello")
    packed = any_pb2.Any(type_url=f"{host}atomesh.text.v1.TextInput", value=message.SerializeToString())
    assert unpack(packed, text_pb2.TextInput) == message
    assert unpack(pack(message), text_pb2.TextInput) == message


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "/",
            "type.googleapis.com/",
            "type.googleapis.com/atomesh.text.v1.TextOutput",
            "x/atomesh.text.v1.textinput",
        ),
        *(
            "x/.atomesh.text.v1.TextInput",
            "x/atomesh.text.v1.TextInput/",
            "x/atomesh.text.v1.TextInput\n",
            "x" * 10_000,
        ),
    ],
)
def test_another_type_is_refused(url: str) -> None:
    with pytest.raises(WrongType, match=r"expected atomesh\.text\.v1\.TextInput") as refused:
        unpack(any_pb2.Any(type_url=url, value=b""), text_pb2.TextInput)
    assert len(str(refused.value)) < 400
    assert refused.value.executed is False


@pytest.mark.parametrize(
    "junk", [b"\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x02\xff\xfe", b"\x0a\x05abc", b"\x0b" * 10_000]
)
def test_bytes_that_do_not_parse_are_refused(junk: bytes) -> None:
    packed = any_pb2.Any(type_url="x/atomesh.text.v1.TextInput", value=junk)
    with pytest.raises(WrongType, match=f"{len(junk)} bytes that do not parse"):
        unpack(packed, text_pb2.TextInput)


def test_a_message_that_is_too_deep_to_parse_is_refused() -> None:
    value = struct_pb2.Value(string_value="bottom")
    raw = value.SerializeToString()
    for _ in range(1_000):  # Value.list_value.values[0], by hand: building it would recurse
        inner = b"\x0a" + _varint(len(raw)) + raw
        raw = b"\x32" + _varint(len(inner)) + inner
    with pytest.raises(WrongType, match="do not parse"):
        unpack(any_pb2.Any(type_url="x/google.protobuf.Value", value=raw), struct_pb2.Value)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def test_a_class_is_known_where_it_was_imported() -> None:
    assert known_class("google.protobuf.Duration") is duration_pb2.Duration
    for name in ("no.such.Message", "", ".", "\x00", "google.protobuf", "x" * 10_000):
        assert known_class(name) is None
