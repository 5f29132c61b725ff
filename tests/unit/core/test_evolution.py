"""Which changes of a contract's rules break callers, and which break readers."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import descriptor_pb2

from atomesh.core.contract import ContractDescriptor
from atomesh.core.evolution import Consumer, breaks, narrowed
from atomesh.core.fits import Breach
from atomesh.v1 import agent_pb2


@pytest.fixture
def contract(ruled: Any) -> Any:
    """Of one line each: `t.In` -> chunks of `t.Piece`, where there are any -> `t.Out`."""

    def made(taken: str, given: str = "string y = 1", piece: str = "") -> ContractDescriptor:
        types = {"Out": [given], **({"Piece": [piece]} if piece else {})}
        files = descriptor_pb2.FileDescriptorSet(file=ruled.files(taken, types=types))
        proto = agent_pb2.Contract(input_type="t.In", output_type="t.Out", descriptor_set=files.SerializeToString())
        proto.chunk_type = "t.Piece" if piece else ""
        return ContractDescriptor.from_proto(proto)

    return made


LAX, STRICT = "string a = 1 {string {max_len: 20}}", "string a = 1 {string {max_len: 10}}"


def test_an_input_may_take_more_and_not_less(contract: Any) -> None:
    assert narrowed(contract(STRICT), contract(LAX)) == ()
    (breach,) = narrowed(contract(LAX), contract(STRICT))
    assert str(breach) == "input t.In.a: at most 10 characters are taken, and the live contract states at most 20"


def test_an_output_may_promise_more_and_not_less(contract: Any) -> None:
    same = "string a = 1"
    assert narrowed(contract(same, LAX), contract(same, STRICT)) == ()
    (breach,) = narrowed(contract(same, STRICT), contract(same, LAX))
    assert str(breach) == "output t.Out.a: at most 10 characters are taken, and the changed one states at most 20"


def test_chunks_are_read_like_outputs(contract: Any) -> None:
    same = ("string a = 1", "string y = 1")
    assert narrowed(contract(*same, LAX), contract(*same, STRICT)) == ()
    (breach,) = narrowed(contract(*same, STRICT), contract(*same, LAX))
    assert breach.field == "chunks t.Piece.a"
    assert narrowed(contract(*same), contract(*same, STRICT)) == (), "a caller that knows of no chunks drops them"


def test_a_contract_replaces_itself(contract: Any) -> None:
    assert narrowed(contract(STRICT), contract(STRICT)) == ()


def test_what_only_the_wire_says_is_not_said_here(contract: Any) -> None:
    assert narrowed(contract("string a = 1"), contract("int32 a = 1")) == ()


def test_a_new_field_breaks_only_where_it_must_be_set(contract: Any) -> None:
    assert narrowed(contract("string a = 1"), contract("string b = 2")) == ()
    (breach,) = narrowed(contract("string a = 1"), contract("string b = 2 {required: true}"))
    assert str(breach) == "input t.In.b: it must be set (it is required), and the live contract has no such field"
    (breach,) = narrowed(
        contract("string a = 1", "string y = 1 {required: true}"), contract("string a = 1", "string z = 2")
    )
    assert breach.field == "output t.Out.y", "readers count on what the old rules promise"


def _said(*found: Any) -> list[str]:
    return [str(each) for each in found]


def test_what_breaks_is_said_with_whom_it_breaks(contract: Any) -> None:
    live = contract(LAX, STRICT)
    assert breaks(live, contract(LAX, STRICT)) == ()
    assert _said(*breaks(live, contract(STRICT, LAX))) == [
        "input t.In.a: at most 10 characters are taken, and the live contract states at most 20; breaks callers",
        "output t.Out.a: at most 10 characters are taken, and the changed one states at most 20; breaks readers",
    ]
    (wire, *_) = breaks(live, contract("int32 a = 1", STRICT))
    assert str(wire) == "field t.In.a is int32, was string; breaks callers and readers"


def test_what_breaks_a_known_consumer_is_said_with_its_name_after_what_breaks_everybody(contract: Any) -> None:
    live, changed = contract(LAX), contract(STRICT)
    asked: list[ContractDescriptor] = []

    def broken(old: ContractDescriptor, new: ContractDescriptor) -> list[Breach]:
        asked.extend((old, new))
        return [Breach("stage draft", "it sends 15")]

    found = breaks(
        live, changed, [Consumer("nightly", "pipeline", broken), Consumer("weekly", "pipeline", lambda *_: ())]
    )
    assert [each.cause for each in found] == ["rules", "pipeline"]
    assert str(found[1]) == "stage draft: it sends 15; breaks pipeline nightly"
    assert asked == [live, changed]
