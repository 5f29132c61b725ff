"""The rules of contracts, each by its own descriptors."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from buf.validate import validate_pb2
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message import Message

from atomesh.core.contract import Contract, ContractDescriptor, load_contract
from atomesh.core.errors import Violation
from atomesh.core.rules import WIRE_RULES, ContractRuleError, Rules, rules_for
from atomesh.v1 import agent_pb2, context_pb2, registry_pb2

_File = descriptor_pb2.FileDescriptorProto


def _closure(file: Any) -> list[_File]:
    files: dict[str, _File] = {}

    def collect(one: Any) -> None:
        for dependency in one.dependencies:
            collect(dependency)
        files.setdefault(one.name, _File()).Clear()
        one.CopyToProto(files[one.name])

    collect(file)
    return list(files.values())


def _stranger(set_rule: Callable[[Any], None], validate: Callable[[_File], None] | None = None) -> ContractDescriptor:
    """`s.In` -> `s.Out`, with a rule on the string `s.In.a`."""
    own = _File(name="s.proto", package="s", syntax="proto3", dependency=["buf/validate/validate.proto"])
    for name in ("In", "Out"):
        own.message_type.add(name=name).field.add(name="a", number=1, type=9, label=1)
    set_rule(own.message_type[0].field[0].options.Extensions[validate_pb2.field])
    files = _closure(validate_pb2.DESCRIPTOR)
    if validate is not None:
        validate(files[-1])
    descriptors = descriptor_pb2.FileDescriptorSet(file=[*files, own]).SerializeToString()
    return ContractDescriptor.from_proto(
        agent_pb2.Contract(input_type="s.In", output_type="s.Out", descriptor_set=descriptors)
    )


def _loaded(contract: ContractDescriptor) -> Contract[Message, Message]:
    return load_contract(contract.input_type, contract.output_type, contract.descriptor_set)


def _at_least(length: int) -> Callable[[Any], None]:
    def rule(field: Any) -> None:
        field.string.min_len = length

    return rule


def test_strangers_that_share_a_name_do_not_share_rules() -> None:
    lax, strict = _stranger(_at_least(3)), _stranger(_at_least(10))
    texts = {contract.hash: _loaded(contract).input(a="12345") for contract in (lax, strict)}
    assert len(texts) == 2
    assert rules_for(lax.hash).check(texts[lax.hash]) == ()
    (broken,) = rules_for(strict.hash).check(texts[strict.hash])
    assert (broken.field, broken.rule) == ("a", "string.min_len")


def test_the_trap_is_real_one_validator_for_both_would_take_the_first_ones_rules() -> None:
    # Where this fails, protovalidate no longer caches by name, and rules_for could be simpler.
    one_for_both = Rules()
    assert one_for_both.check(_loaded(_stranger(_at_least(3))).input(a="12345")) == ()
    assert one_for_both.check(_loaded(_stranger(_at_least(10))).input(a="12345")) == ()


def test_a_contract_is_held_to_the_validate_proto_that_it_brings() -> None:
    def older(file: _File) -> None:
        file.options.java_package = "an.older.release"
        file.message_type[0].field.add(name="gone_since", number=999, type=9, label=1)

    contract = _stranger(_at_least(4), older)
    rules, made = rules_for(contract.hash), _loaded(contract).input
    assert rules.check(made(a="1234")) == ()
    assert [broken.rule for broken in rules.check(made(a="123"))] == ["string.min_len"]


@pytest.fixture
def user_module(tmp_path: Path) -> Iterator[Callable[[bytes], object]]:
    """Imports generated code that registers these bytes, as a user's own validate_pb2.py does."""
    count = 0

    def imported(file: bytes) -> object:
        nonlocal count
        count += 1
        path = tmp_path / f"users_validate_{count}.py"
        path.write_text(
            "from google.protobuf import descriptor_pool\n"
            f"DESCRIPTOR = descriptor_pool.Default().AddSerializedFile({file!r})\n"
        )
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    yield imported
    for name in [name for name in sys.modules if name.startswith("users_validate_")]:
        del sys.modules[name]


def test_a_user_module_with_the_same_validate_proto_is_welcome_and_another_one_is_not(
    user_module: Callable[[bytes], object],
) -> None:
    ours = _File()
    validate_pb2.DESCRIPTOR.CopyToProto(ours)
    user_module(ours.SerializeToString())
    ours.options.java_package = "another.release"
    with pytest.raises(TypeError, match="duplicate file name"):
        user_module(ours.SerializeToString())
    assert WIRE_RULES.check(agent_pb2.ExecuteRequest()), "a module that failed to import must not cost us our rules"
    assert descriptor_pool.Default().FindFileByName("buf/validate/validate.proto")


def test_a_violation_says_where_with_indexes_and_keys() -> None:
    spec = registry_pb2.EndpointSpec(
        agent="a",
        address="h:1",
        instance_id="instance-1",
        capabilities=[agent_pb2.Capability(name="good"), agent_pb2.Capability(name="Bad Name")],
        labels={"": "x", "k": "v" * 300},
    )
    fields = {broken.field for broken in WIRE_RULES.check(spec)}
    assert fields == {"capabilities[1].name", 'labels[""]', 'labels["k"]'}
    request = registry_pb2.RegisterRequest(spec=spec)
    assert "spec.capabilities[1].name" in {broken.field for broken in WIRE_RULES.check(request)}


def test_a_rule_of_the_whole_message_names_no_field() -> None:
    (broken,) = WIRE_RULES.check(registry_pb2.GetContractRequest())
    assert broken.field == "which"
    assert str(Violation("", "both are set")) == "both are set"


def test_limits_count_bytes_of_utf8() -> None:
    assert WIRE_RULES.check(context_pb2.Context(user_id="ë" * 128)) == ()
    assert WIRE_RULES.check(context_pb2.Context(user_id="ë" * 129))


@pytest.mark.parametrize("expression", ["this is no CEL (", "this.nope == 1"])
def test_a_rule_that_does_not_compile_is_the_contracts_fault(expression: str) -> None:
    def rule(field: Any) -> None:
        field.cel.add(id="broken", message="x", expression=expression)

    contract = _stranger(rule)
    with pytest.raises(ContractRuleError, match=r"a rule of s\.In cannot be evaluated"):
        rules_for(contract.hash).check(_loaded(contract).input(a="x"))
