from __future__ import annotations

from typing import Any

import pytest

from atomesh.core.errors import InvalidArgument, PermissionDenied
from atomesh.pipelines.definitions import (
    check_allowed,
    check_cpus,
    configuration_of,
    overridden,
    parse_bytes,
    read_definition,
    show_bytes,
    split_configuration,
)

WHOLE = """
name: my-summarizer
module: my_agents.summarize
class: Summarizer
description: Makes it short.
capabilities: [summarize, shorten]
configuration:
  temperature: 0.5
  depth: 3
  serve: {slots: 4}
memory: 512M
cpus: 1.5
"""
LEAST = {"name": "a", "module": "m", "class": "C"}


def written(**keys: Any) -> str:
    """A file with the least that there must be, and these over it."""
    return "\n".join(f"{key}: {value}" for key, value in (LEAST | {k.rstrip("_"): v for k, v in keys.items()}).items())


def test_a_definition_is_read_whole() -> None:
    definition = read_definition(WHOLE)
    assert (definition.name, definition.module, definition.class_name) == (
        "my-summarizer",
        "my_agents.summarize",
        "Summarizer",
    )
    assert list(definition.capabilities) == ["summarize", "shorten"]
    assert configuration_of(definition) == {"temperature": 0.5, "depth": 3, "serve": {"slots": 4}}
    assert type(configuration_of(definition)["depth"]) is int, "a whole number is one"
    assert (definition.memory_bytes, definition.cpus) == (512 * 1024**2, 1.5)


def test_json_is_read_as_well_and_what_is_left_out_is_not_limited() -> None:
    definition = read_definition('{"name": "a", "module": "m", "class": "C"}')
    assert (definition.memory_bytes, definition.cpus) == (0, 0.0)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "it is no definition"),
        ("- a\n- b", "it is no definition"),
        ("name: [", "line 1: it is not YAML"),
        ("module: m\nclass: C", "it has no name; write small letters"),
        ("name: a\nclass: C", "it has no module; write a module such as my_agents.summarize"),
        ("name: a\nmodule: m", "it has no class"),
        (written(name="My Agent"), "line 1: name: 'My Agent' is none"),
        (written(module="../evil"), "line 2: module: '../evil' is none"),
        (written(module="m:C"), "line 2: module: 'm:C' is none"),
        (written(module=".m"), "line 2: module: '.m' is none"),
        (written(module="m."), "line 2: module: 'm.' is none"),
        (written(class_="os.system"), "line 3: class: 'os.system' is none"),
        (written(name=7), "line 1: name: 7 is none"),
        (written(klass="C"), "line 4: klass: there is no such key; did you mean class?"),
        (written(wholly_else="C"), "there is no such key; there are name, module"),
        (written(description="[1]"), "line 4: description: expected a text"),
        (written(capabilities="summarize"), "line 4: capabilities: expected a list"),
        (written(capabilities="[1]"), "line 4: capabilities: expected a list"),
        (written(configuration="[1]"), "line 4: configuration: [1] is no object"),
        (written(configuration="{serve: 4}"), "line 4: configuration.serve: expected an object"),
        (written(memory="much"), "line 4: memory: 'much' is no size of memory; write 512M or 2G"),
        (written(memory="1M"), "line 4: memory: 1M of memory is too little; an agent needs 192M or more"),
        (written(memory="-1G"), "line 4: memory: '-1G' is no size"),
        (written(memory="true"), "line 4: memory: True is no size"),
        (written(cpus="0"), "line 4: cpus: 0 is no number of processors"),
        (written(cpus="-1"), "line 4: cpus: -1 is no number"),
        (written(cpus="fast"), "line 4: cpus: 'fast' is no number"),
        (written(cpus=".nan"), "line 4: cpus:"),
    ],
)
def test_what_is_wrong_is_told_in_one_line_with_its_place(text: str, line: str) -> None:
    with pytest.raises(InvalidArgument) as wrong:
        read_definition(text, "file.yaml")
    assert str(wrong.value).startswith("file.yaml: ")
    assert line in str(wrong.value)
    assert "\n" not in str(wrong.value)


@pytest.mark.parametrize(
    ("said", "size"),
    [("512M", 2**29), ("512 MiB", 2**29), ("1.5g", 3 * 2**29), ("1GB", 2**30), (2**28, 2**28), ("268435456", 2**28)],
)
def test_sizes_are_powers_of_1024(said: str | int, size: int) -> None:
    assert parse_bytes(said) == size


@pytest.mark.parametrize(("size", "shown"), [(2**29, "512M"), (3 * 2**29, "1.5G"), (1000, "1000")])
def test_sizes_are_shown_as_they_are_written(size: int, shown: str) -> None:
    assert show_bytes(size) == shown


@pytest.mark.parametrize("said", ["9" * 40 + "T", "1E9", "", "M", None, 1.5])
def test_what_is_no_size_is_refused(said: object) -> None:
    with pytest.raises(InvalidArgument):
        parse_bytes(said)


@pytest.mark.parametrize("said", [0, -0.5, float("inf"), float("nan"), 10**9, True, "2", None])
def test_what_is_no_number_of_processors_is_refused(said: object) -> None:
    with pytest.raises(InvalidArgument, match="no number of processors"):
        check_cpus(said)


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("mine", ["mine"]),
        ("mine.agents", ["mine"]),
        ("mine.agents.deep", ["other", "mine.agents"]),
    ],
)
def test_a_module_on_the_list_or_within_a_package_on_it_is_allowed(module: str, allowed: list[str]) -> None:
    check_allowed(module, allowed)


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("mine", []),
        ("mines", ["mine"]),
        ("mine_evil", ["mine"]),
        ("mine", ["mine.agents"]),
        ("mine.agents_evil", ["mine.agents"]),
        ("evil.mine", ["mine"]),
        ("Mine", ["mine"]),
        ("", ["mine"]),
    ],
)
def test_nothing_else_is_however_alike(module: str, allowed: list[str]) -> None:
    with pytest.raises(PermissionDenied, match="may not be started") as refused:
        check_allowed(module, allowed)
    assert f"--allow-module {module}" in str(refused.value), "the line says what to do where it may"
    assert ("allowed: nothing" in str(refused.value)) == (not allowed)


def test_what_is_said_stands_over_the_configuration_and_leaves_it_as_it_was() -> None:
    stored = {"temperature": 0.5, "options": {"depth": 3, "wide": True}, "serve": {"slots": 4}}
    said = ["temperature=0.2", "options.depth=5", "serve.zone=a", "words=[1, 2]", "text=not json", "empty=", "url=a=b"]
    assert overridden(stored, said) == {
        "temperature": 0.2,
        "options": {"depth": 5, "wide": True},
        "serve": {"slots": 4, "zone": "a"},
        "words": [1, 2],
        "text": "not json",
        "empty": "",
        "url": "a=b",
    }
    assert stored == {"temperature": 0.5, "options": {"depth": 3, "wide": True}, "serve": {"slots": 4}}


@pytest.mark.parametrize(
    ("pair", "line"),
    [
        ("temperature", "is not key=value"),
        ("=1", "is not key=value"),
        ("a..b=1", "is not key=value"),
        (".a=1", "is not key=value"),
        ("temperature.deep=1", "temperature is 0.5, no object"),
    ],
)
def test_what_cannot_be_set_is_told_in_one_line(pair: str, line: str) -> None:
    with pytest.raises(InvalidArgument, match=r"--set") as wrong:
        overridden({"temperature": 0.5}, [pair])
    assert line in str(wrong.value)


def test_settings_for_serving_are_apart_from_the_classs_own_arguments() -> None:
    assert split_configuration({"depth": 3, "serve": {"slots": 4}}) == ({"depth": 3}, {"slots": 4})
    with pytest.raises(InvalidArgument, match="serve is 4 in the configuration"):
        split_configuration({"serve": 4})
