"""What is let pass at a glance is what the rules in the proto would let pass."""

import random

import pytest

from atomesh.agents.doors import check_request
from atomesh.core.context import Context
from atomesh.core.contract import pack
from atomesh.core.errors import InvalidArgument
from atomesh.core.rules import WIRE_RULES
from atomesh.text.v1.text_pb2 import TextInput
from atomesh.v1 import agent_pb2


def random_request(rng: random.Random) -> agent_pb2.ExecuteRequest:
    def text() -> str:
        return rng.choice("aé日") * rng.choice((0, 0, 1, 20, 63, 64, 65, 127, 128, 129, 256, 257))

    pairs = {text(): text() for _ in range(rng.choice((0, 0, 0, 1, 2)))}
    via = tuple(text() for _ in range(rng.choice((0, 0, 0, 1, 65))))
    context = Context(text(), text(), text(), pairs, text(), text(), None, via)
    request = agent_pb2.ExecuteRequest(agent=text(), instance_id=text())
    if rng.random() < 0.8:
        request.context.CopyFrom(context.to_proto())
    if rng.random() < 0.8:
        request.input.CopyFrom(pack(TextInput()))
    return request


@pytest.mark.parametrize("seed", range(20))
def test_the_glance_and_the_rules_agree(seed: int) -> None:
    rng = random.Random(seed)
    verdicts = set()
    for _ in range(300):
        request = random_request(rng)
        broken = WIRE_RULES.check(request)
        verdicts.add(bool(broken))
        try:
            check_request(request)
        except InvalidArgument:
            assert broken, f"refused although no rule is broken: {request}"
        else:
            assert not broken, f"let pass although {broken}"
    assert verdicts == {True, False}
