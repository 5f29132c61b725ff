"""JSON against a contract: what does not fit is named, with what would."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from google.protobuf.struct_pb2 import ListValue
from google.protobuf.wrappers_pb2 import StringValue

from atomesh.cli._errors import UsageMistake
from atomesh.cli._messages import example, parse, read_argument, read_file, to_data
from atomesh.text.v1.text_pb2 import TextInput, TextOutput
from atomesh.v1.registry_pb2 import RegisterRequest


def test_fields_go_by_their_own_name_or_their_json_name() -> None:
    for spelt in ("max_sentences", "maxSentences"):
        message = parse(f'{{"content": "x", "options": {{"{spelt}": 2}}}}', "the input", TextInput)
        assert isinstance(message, TextInput)
        assert message.options.max_sentences == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"contnt": "x"}', "has no field 'contnt'; did you mean content?"),
        ('{"options": {"topk": 3}}', "has no field 'options.topk'; did you mean top_k?"),
        ('{"qqqq": 1}', "there are content, operation, options"),
        ('{"content": 3}', "content: expected a string"),
        ('{"options": {"top_k": "many"}}', "options.top_k"),
        ('{"options": {"top_k": -1}}', "options.top_k"),
        ("{a}", "is not JSON"),
        ("[1]", "no object"),
        ("", "is not JSON"),
        ("[" * 100_000, "nested too deep"),
    ],
)
def test_what_does_not_fit_is_named(text: str, said: str) -> None:
    with pytest.raises(UsageMistake) as mistake:
        parse(text, "the input", TextInput)
    assert said in mistake.value.message
    assert "\n" not in mistake.value.message


def test_unknown_fields_are_found_in_lists_and_maps_too() -> None:
    with pytest.raises(UsageMistake, match=r"'spec\.capabilities\[1\]\.nam'; did you mean name"):
        parse('{"spec": {"capabilities": [{"name": "x"}, {"nam": "y"}]}}', "the input", RegisterRequest)
    parse('{"spec": {"labels": {"any key": "at all"}}, "ttl": "15s"}', "the input", RegisterRequest)


def test_a_well_known_message_is_read_from_its_own_kind_of_json() -> None:
    assert parse('"Zoë"', "the input", StringValue) == StringValue(value="Zoë")
    assert parse('["a", 1]', "the input", ListValue) == _listed("a", 1)
    with pytest.raises(UsageMistake, match=r"the input does not fit google\.protobuf\.StringValue: expected a string"):
        parse('{"value": "Zoë"}', "the input", StringValue)


def _listed(*values: str | float) -> ListValue:
    made = ListValue()
    made.extend(values)
    return made


def test_an_example_shows_the_shape() -> None:
    assert example(TextInput) == '{"content": "...", "operation": "..."}'


def test_a_file_that_is_not_utf8_is_told_with_the_offset(tmp_path: Path) -> None:
    file = tmp_path / "input.txt"
    file.write_bytes(b"caf\xe9 is bad")
    with pytest.raises(UsageMistake, match=r"not UTF-8: byte 0xe9 at offset 3"):
        read_file(str(file))


def test_input_comes_from_the_argument_a_file_or_stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "input.json"
    file.write_bytes(b"\xef\xbb\xbf{}")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b'{"a": 1}')))
    assert read_argument('{"b": 2}')[0] == '{"b": 2}'
    assert read_argument(f"@{file}")[0] == "{}", "a byte order mark is not part of the JSON"
    assert read_argument("-")[0] == '{"a": 1}'


def test_output_has_the_fields_own_names() -> None:
    assert to_data(TextOutput(word_count=3)) == {"word_count": 3}


def test_an_answer_of_zero_is_shown_and_not_left_out() -> None:
    shown = to_data(TextOutput(result="none"), whole=True)
    assert (shown["result"], shown["word_count"], shown["confidence"]) == ("none", 0, 0.0)
    assert "summary" not in shown, "what was not chosen is not there"
