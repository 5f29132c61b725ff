"""What an agent says of itself is found, overridden, and refused in one line where it is wrong."""

from typing import Any, TypeVar

import pytest

from atomesh.agents import Agent, Capability, ContextProvider, ExecutionContext
from atomesh.agents.agent import contract_of, is_async
from atomesh.agents.spec import AgentOptions, resolve
from atomesh.core.errors import InvalidArgument
from atomesh.text.v1.text_pb2 import Summary, TextInput, TextOutput

O = TypeVar("O", bound=Any)


class Plain(Agent[TextInput, TextOutput]):
    """Does what it does.

    And more of it.
    """

    name = "plain"
    capabilities = ("task_processing", Capability("validation", 0.5))

    async def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
        return TextOutput(result=input.content)


class HalfBound(Agent[TextInput, O]):
    name = "half"


class Bound(HalfBound[Summary]):
    def execute(self, input: TextInput, context: ExecutionContext, /) -> Summary:
        return Summary()


class Grandchild(Bound):
    """Adds nothing."""


class Unsaid(Agent):  # type: ignore[type-arg] # that is the mistake
    name = "unsaid"

    async def execute(self, input: Any, context: ExecutionContext, /) -> Any:
        return input


class NotMessages(Agent[str, TextOutput]):  # type: ignore[type-var] # that is the mistake
    name = "words"

    async def execute(self, input: str, context: ExecutionContext, /) -> TextOutput:
        return TextOutput()


class Number(ContextProvider[int]):
    def provide(self, context: ExecutionContext, /) -> int:
        return 7


def test_the_contract_is_the_type_arguments_of_the_class() -> None:
    contract = contract_of(Plain, "plain")
    assert (contract.input, contract.output) == (TextInput, TextOutput)


@pytest.mark.parametrize("cls", [Bound, Grandchild])
def test_the_contract_is_found_through_generic_parents(cls: type[Agent[Any, Any]]) -> None:
    contract = contract_of(cls, "half")
    assert (contract.input, contract.output) == (TextInput, Summary)


@pytest.mark.parametrize(
    ("agent", "said"),
    [(Unsaid, "class Unsaid(Agent[YourInput, YourOutput])"), (NotMessages, "str in its contract is not a protobuf")],
)
def test_an_agent_without_a_contract_is_told_how_to_write_one(agent: type[Agent[Any, Any]], said: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        resolve(agent())
    assert said in refused.value.message
    assert "\n" not in refused.value.message


def test_an_agent_with_an_open_type_variable_is_told_so() -> None:
    class Open(HalfBound[O]):
        async def execute(self, input: TextInput, context: ExecutionContext, /) -> O:
            raise NotImplementedError

    with pytest.raises(InvalidArgument, match="not a protobuf message class"):
        resolve(Open())


def test_a_class_speaks_for_its_agent_and_who_serves_it_has_the_last_word() -> None:
    spec = resolve(Plain())
    assert (spec.name, spec.version, spec.slots, spec.idempotent) == ("plain", "1.0.0", 4, False)
    assert spec.description == "Does what it does.", "the first line of the documentation describes it"
    assert spec.capabilities == (Capability("task_processing"), Capability("validation", 0.5))
    served = resolve(Plain(), {"slots": 8, "zone": "north", "labels": {"team": "a"}, "version": "2.1.0"})
    assert (served.slots, served.zone, served.version, dict(served.labels)) == (8, "north", "2.1.0", {"team": "a"})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "Ünfit"}, "agent name 'Ünfit'"),
        ({"name": ""}, "has no name"),
        ({"name": 7}, "expected a string"),
        ({"version": "one"}, "is not semver"),
        ({"slots": 0}, "slots is 0; expected a whole number from 1 to 100,000"),
        ({"slots": True}, "slots is True"),
        ({"slots": 2.5}, "slots is 2.5"),
        ({"slots": 100_001}, "slots is 100001"),
        ({"capabilities": ("a", "a")}, "'a' of Plain is there twice"),
        ({"capabilities": "abc"}, "is one string"),
        ({"capabilities": (7,)}, "7 of Plain is no word"),
        ({"capabilities": ("With Blank",)}, "capabilities[0].name"),
        ({"capabilities": (Capability("a", 2.0),)}, "capabilities[0].score"),
        ({"capabilities": tuple(f"c{i}" for i in range(65))}, "capabilities"),
        ({"labels": {"k": "v" * 257}}, 'labels["k"]'),
        ({"labels": {"": "v"}}, "labels"),
        ({"labels": {"k": 7}}, "label 'k' of Plain is 7; expected a string"),
        ({"zone": "z" * 129}, "zone"),
        ({"providers": {Number: Number()}}, "has no provider Number to replace; it has none"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(options: AgentOptions, said: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        resolve(Plain(), options)
    assert said in refused.value.message
    assert "\n" not in refused.value.message


def test_an_execute_that_could_never_be_called_is_refused_at_the_start() -> None:
    class Forgetful(Plain):
        async def execute(self, input: TextInput) -> TextOutput:  # type: ignore[override] # the mistake
            return TextOutput()

    with pytest.raises(InvalidArgument, match=r"Forgetful\.execute takes .* called with an input and a context"):
        resolve(Forgetful())


def test_a_provider_is_an_instance_and_there_once() -> None:
    class Class(Plain):
        providers = (Number,)  # type: ignore[assignment] # that is the mistake

    class Twice(Plain):
        providers = (Number(), Number())

    with pytest.raises(InvalidArgument, match="give an instance"):
        resolve(Class())
    with pytest.raises(InvalidArgument, match="there twice"):
        resolve(Twice())


def test_the_typed_service_is_the_one_whose_execute_has_the_contracts_types() -> None:
    assert resolve(Plain()).typed_service == "atomesh.text.v1.TextProcessorService"
    assert resolve(Bound()).typed_service == "", "another output is another contract"


def test_a_plain_def_is_told_from_an_async_one() -> None:
    assert is_async(Plain())
    assert not is_async(Bound())
