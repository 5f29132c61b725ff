"""Pipelines drawn: what is on the picture, that nothing hostile leaves it, and that lines lead where they should."""

from __future__ import annotations

import itertools
import random
import re
import time
from xml.etree import ElementTree

import pytest
from rich.cells import cell_len

from atomesh.core.contract import Contract
from atomesh.pipelines.drawing import as_mermaid, as_svg, as_text
from atomesh.pipelines.drawing.layers import depths, in_layers, places
from atomesh.pipelines.drawing.tracks import DOWN, LEFT, RIGHT, STROKES, UP
from atomesh.pipelines.errors import PipelineInvalid
from atomesh.pipelines.model import PipelineSpec
from atomesh.pipelines.plan import Bound, Plan, wants
from atomesh.pipelines.planner import make_plan
from atomesh.pipelines.reading import read_pipeline
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

LINEAR = """
name: linear
input_type: atomesh.text.v1.TextInput
stages:
  summary: {agent: text-processor, input: {content: $input.content, operation: summarize}}
  mood: {agent: text-processor, version: ">=1,<2", input: {content: $summary.result, operation: sentiment}, timeout: 2}
"""
DIAMOND = """
name: diamond
description: Two views of one summary.
input_fields: {title: string, text: string}
stages:
  summary: {agent: text-processor, input: {content: $input.text, operation: summarize}}
  mood: {agent: text-processor, input: {content: $summary.result, operation: sentiment}}
  keywords: {agent: text-processor, input: {content: $summary.result, operation: extract_keywords}}
output: {mood: $mood.sentiment.label, keywords: $keywords.keywords.keywords}
"""
POLICIES = """
name: policies
input_fields: {documents: repeated string, long: bool}
stages:
  each:
    name: Mood of each
    capability: sentiment_analysis
    map: $input.documents
    concurrency: 32
    attempts: 5
    when: $input.long
    input: {content: $item, operation: sentiment}
    on_error: skip
    default: {result: none}
  store:
    agent: text-processor
    after: [each]
    input: {content: stored, operation: summarize}
    on_error: {fallback: other-text, version: ">=1"}
    undo: {agent: eraser, input: {content: gone, operation: summarize}}
  last: {agent: text-processor, input: {content: $store.result, operation: summarize}, on_error: compensate}
output: {moods: $each, stored: $last.result}
"""


def spec_of(text: str) -> PipelineSpec:
    return read_pipeline(text)[0]


def plan_of(text: str) -> Plan:
    spec, source = read_pipeline(text)
    contract = Contract("text-processor", TextInput, TextOutput).descriptor
    return make_plan(spec, {want.key: Bound(want.agent or "text-processor", contract) for want in wants(spec)}, source)


def row_with(text: str, word: str) -> int:
    return next(number for number, line in enumerate(text.splitlines()) if f" {word} " in line)


# -- as text -----------------------------------------------------------------


def test_a_linear_pipeline_is_boxes_below_one_another() -> None:
    text = as_text(spec_of(LINEAR))
    rows = [row_with(text, word) for word in ("input", "summary", "mood", "output")]
    assert rows == sorted(set(rows)), "each stage must stand below the one that it reads"
    arrows = [line.index("▼") for line in text.splitlines() if "▼" in line]
    assert len(arrows) == 3, "three boxes are reached"
    assert len(set(arrows)) == 1, "all in one line"


def test_branches_stand_side_by_side() -> None:
    text = as_text(spec_of(DIAMOND))
    assert row_with(text, "mood") == row_with(text, "keywords"), "what can run side by side must be drawn so"
    assert row_with(text, "summary") < row_with(text, "mood")


def test_with_a_plan_the_lines_say_their_types() -> None:
    assert "│ TextOutput" in as_text(spec_of(LINEAR), plan_of(LINEAR))
    assert "TextOutput" not in as_text(spec_of(LINEAR)), "without a plan nobody knows them"
    assert "keywords: repeated Keyword" in as_text(spec_of(DIAMOND), plan_of(DIAMOND)), "the output's fields too"


def test_everything_that_a_stage_does_differently_is_said() -> None:
    for drawn in (as_text(spec_of(POLICIES), width=120), as_svg(spec_of(POLICIES)).replace("&gt;", ">")):
        for said in (
            "each: Mood of each",
            "capability sentiment_analysis",
            "map $input.documents, 32 at once",
            "when $input.long",
            "5 attempts",
            "on error: skip to its default",
            "on error: fallback other-text >=1",
            "on error: compensate",
            "undo: eraser",
        ):
            assert said in drawn, said
    linear = as_text(spec_of(LINEAR))
    assert "text-processor >=1,<2" in linear
    assert "timeout 2 s" in linear
    assert "attempt" not in linear, "what is usual must not be said"
    assert "capability sentiment_analysis: text-processor" in as_text(spec_of(POLICIES), plan_of(POLICIES), width=120)


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("text", [LINEAR, DIAMOND, POLICIES])
def test_no_line_is_longer_than_the_terminal_is_wide(text: str, width: int) -> None:
    for plan in (None, plan_of(text)):
        assert max(map(cell_len, as_text(spec_of(text), plan, width).splitlines())) <= width


def test_a_graph_too_wide_to_be_drawn_is_told_by_layers() -> None:
    wide = {f"s{number}": {"agent": "text-processor", "input": "$input.text"} for number in range(20)}
    last = {"agent": "text-processor", "input": [f"${stage}.result" for stage in wide], "after": ["s3"]}
    text = as_text(PipelineSpec.model_validate({"name": "wide", "stages": {**wide, "join": last}}))
    lines = text.splitlines()
    assert re.match(r"1  s0 +text-processor", lines[3])
    assert not any(re.match(r"1  s1 ", line) for line in lines), "stages of one layer share its number"
    assert any(re.match(r"2  join", line) for line in lines)
    assert "reads s0 (result), s1 (result)" in text


def test_wide_letters_do_not_push_the_frame_aside() -> None:
    stage = {"id": "a", "agent": "text-processor", "name": "日本語の要約 é"}
    lines = as_text(PipelineSpec.model_validate({"name": "p", "stages": [stage]})).splitlines()
    box = next(number for number, line in enumerate(lines) if "日" in line)
    assert cell_len(lines[box - 1]) == cell_len(lines[box]) == cell_len(lines[box + 1])


# -- whatever stands in it -----------------------------------------------------

HOSTILE = '"]; click </desc><script>alert(1)</script> &amp; `x` #35; ]]> \x1b[2J \u202e \x07 %%{init}%%'


def hostile() -> PipelineSpec:
    stage = {"id": "end", "agent": "text-processor", "name": HOSTILE, "description": HOSTILE, "when": f"'{HOSTILE}'"}
    output = {"id": "output", "agent": "text-processor", "input": f"$end.{HOSTILE}"}
    stages = [stage, output]
    return PipelineSpec.model_validate({"name": "p", "description": HOSTILE, "stages": stages, "output": {HOSTILE: 1}})


def test_names_and_expressions_cannot_control_a_terminal() -> None:
    text = as_text(hostile(), width=120)
    assert text.replace("\n", "").isprintable(), "whatever is not printable must be spelled out"
    assert "\\x1b[2J \\u202e \\x07" in text


def test_names_and_expressions_cannot_leave_their_place_in_svg() -> None:
    svg = as_svg(hostile())
    root = ElementTree.fromstring(svg)
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert tags <= {"svg", "title", "desc", "style", "defs", "marker", "path", "rect", "g", "text"}
    assert svg.isprintable() or svg.replace("\n", "").isprintable()
    assert "<script" not in svg


def test_names_and_expressions_cannot_leave_their_place_in_mermaid() -> None:
    for line in as_mermaid(hostile()).splitlines()[1:]:
        found = re.fullmatch(r'    (\w+(?:\(\["|\[")|\w+ -->\|")(.*)("\]\)?|"\| \w+)|    \w+ --> \w+', line)
        assert found, line
        inner = re.sub(r"</?b>|<br/>|#\d+;", "", found[2] or "")
        assert re.fullmatch(r"[\w .,:/+=*-]*", inner), f"only numbered entities may stand for the rest: {inner}"


def test_a_stage_called_output_or_end_is_no_other_box() -> None:
    chart = as_mermaid(hostile())
    assert "s_end --" in chart, "`end` alone would end Mermaid's graph"
    assert 's_output["' in chart
    assert 'out(["' in chart


# -- as Mermaid and as SVG -----------------------------------------------------


def test_mermaid_says_who_reads_what() -> None:
    lines = [line.strip() for line in as_mermaid(spec_of(DIAMOND), plan_of(DIAMOND)).splitlines()]
    assert lines[0] == "flowchart TD"
    assert 'in -->|"text: string"| s_summary' in lines
    assert 's_summary -->|"result: string"| s_mood' in lines
    assert 's_keywords -->|"keywords.keywords: repeated Keyword"| out' in lines
    assert 's_keywords -->|"keywords.keywords"| out' in as_mermaid(spec_of(DIAMOND))
    assert "s_each -.-> s_store" in as_mermaid(spec_of(POLICIES)), "who only waits reads nothing"
    assert 's_each[["' in as_mermaid(spec_of(POLICIES)), "a stage that maps must be told apart"


def test_svg_has_an_arrow_for_each_edge_and_suits_dark_pages() -> None:
    svg = as_svg(spec_of(DIAMOND), plan_of(DIAMOND))
    assert svg.count('marker-end="url(#atomesh-arrow)"') == 5
    assert "prefers-color-scheme:dark" in svg
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", ""), "it must need nothing of another place"
    assert 'class="w"' in as_svg(spec_of(POLICIES))


def test_boxes_of_the_svg_never_cover_one_another() -> None:
    rng = random.Random(7)
    stages = [
        {
            "id": f"s{n}",
            "agent": "a" * rng.randint(1, 30),
            "input": [f"$s{rng.randrange(n)}.x"] if n > 3 else "$input.x",
        }
        for n in range(40)
    ]
    root = ElementTree.fromstring(as_svg(PipelineSpec.model_validate({"name": "p", "stages": stages})))
    boxes = [
        tuple(float(rect.get(key, "0")) for key in ("x", "y", "width", "height"))
        for rect in root.iter("{http://www.w3.org/2000/svg}rect")
        if rect.get("x") is not None
    ]
    assert len(boxes) == 42
    for n, (x, y, width, height) in enumerate(boxes):
        for a, b, wide, high in boxes[:n]:
            assert x >= a + wide or a >= x + width or y >= b + high or b >= y + height


@pytest.mark.parametrize("draw", [as_text, as_mermaid, as_svg])
def test_a_pipeline_that_waits_for_itself_is_no_picture(draw: object) -> None:
    stages = [{"id": "a", "agent": "x", "input": "$b"}, {"id": "b", "agent": "x", "input": "$a"}]
    with pytest.raises(PipelineInvalid, match="wait for one another"):
        draw(PipelineSpec.model_validate({"name": "p", "stages": stages}))  # type: ignore[operator] # one of three


def test_a_picture_of_a_pipeline_is_always_the_same() -> None:
    for draw in (as_text, as_mermaid, as_svg):
        assert draw(spec_of(POLICIES), plan_of(POLICIES)) == draw(spec_of(POLICIES), plan_of(POLICIES))


@pytest.mark.parametrize("kind", ["linear", "wide", "random", "all read the input", "all into the output"])
def test_a_thousand_stages_take_no_seconds(kind: str) -> None:
    rng = random.Random(3)
    stages: list[dict[str, object]] = [{"id": f"s{n}", "agent": "x"} for n in range(1000)]
    for n, stage in enumerate(stages[1:], start=1):
        if kind == "wide":
            stage["input"] = "$input.x"
        elif kind == "random":
            stage["input"] = [f"$s{rng.randrange(n)}.x" for _ in range(3)]
        elif kind == "all read the input":
            stage["input"] = [f"$s{n - 1}", "$input.x"]
    output = {f"f{n}": f"$s{n}.x" for n in range(1000)} if kind == "all into the output" else None
    spec = PipelineSpec.model_validate({"name": "p", "stages": stages, "output": output})
    started = time.process_time()
    sizes = [len(draw(spec)) for draw in (as_text, as_mermaid, as_svg)]
    assert time.process_time() - started < 6, "0.3 to 2 s where two cores are free"
    assert max(sizes) < 4_000_000


# -- layers and lines ----------------------------------------------------------


def graph(rng: random.Random) -> tuple[list[str], dict[str, list[str]]]:
    boxes = ["in", *(f"s{n}" for n in range(rng.randint(1, 14))), "out"]
    before = {
        box: rng.sample(boxes[:n], min(n, rng.randint(0, 3))) if box != "in" else [] for n, box in enumerate(boxes)
    }
    return boxes, before


@pytest.mark.parametrize("seed", range(30))
def test_a_box_stands_below_all_that_it_reads_and_apart_from_those_beside_it(seed: int) -> None:
    boxes, before = graph(random.Random(seed))
    depth = depths(boxes, before)
    assert all(depth[other] < depth[box] for box in boxes for other in before[box])
    assert depth["out"] > max(depth[box] for box in boxes[:-1])
    layers = in_layers(boxes, before)
    assert layers is not None
    at = places(layers, lambda key: 1 if layers.is_lane(key) else 9, 3)
    for row in layers.rows:
        for left, right in itertools.pairwise(row):
            half = sum(1 if layers.is_lane(key) else 9 for key in (left, right)) / 2
            assert at[right] - at[left] >= half + 3 - 1e-6


BITS = {**{stroke: bits for bits, stroke in STROKES.items()}, "▼": UP}


def readers(text: str, box: str) -> set[str]:
    """The boxes that read one, found by following its lines as an eye does: from its foot aside and down to arrows."""
    lines = [f"{line:120}" for line in text.splitlines()]
    row = next(row for row, line in enumerate(lines) if f"│ {box} " in line)
    start = lines[row].index(f"│ {box} ")
    foot = next(row for row in range(row, len(lines)) if lines[row][start] in "╰└")
    end = min(at for corner in "╯┘" if (at := lines[foot].find(corner, start)) > 0)
    found: set[str] = set()
    seen: set[tuple[int, int]] = set()
    leaves = BITS.get(lines[foot + 1][(start + end) // 2], 0) & UP
    todo = [(foot + 1, (start + end) // 2)] if leaves else []
    while todo:
        row, column = todo.pop()
        if (row, column) in seen:
            continue
        seen.add((row, column))
        stroke = lines[row][column]
        if stroke == "▼":
            name = lines[row + 2]
            found.add(name[name.rindex("│", 0, column) + 1 : name.index("│", column + 1)].strip())
        for bit, back, down, aside in ((DOWN, UP, 1, 0), (LEFT, RIGHT, 0, -1), (RIGHT, LEFT, 0, 1)):
            if BITS.get(stroke, 0) & bit:
                next_row, beside = row + down, column + aside
                while aside and lines[next_row][beside] == "│":  # it goes over that one
                    beside += aside
                if BITS.get(lines[next_row][beside], 0) & back:
                    todo.append((next_row, beside))
    return found


def test_drawn_lines_lead_from_each_box_to_its_readers_and_nowhere_else() -> None:
    rng, drawn = random.Random(11), 0
    for _ in range(120):
        boxes, before = graph(rng)
        # Ids that are no part of one another; the output's box is called output.
        stages = [
            {
                "id": box,
                "agent": "some-agent",
                "input": "literal",
                "after": [other for other in before[box] if other != "in"],
            }
            for box in boxes[1:-1]
        ]
        output = {other: f"${'input' if other == 'in' else other}.x" for other in before["out"]}
        for stage in stages:
            stage["input"] = "$input.x" if "in" in before[str(stage["id"])] else "literal"
        spec = PipelineSpec.model_validate({"name": "p", "stages": stages, "output": output or {"none": 1}})
        text = as_text(spec, width=120)
        if "▼" not in text:
            continue
        drawn += 1
        for box in boxes[:-1]:
            wanted = {"output" if other == "out" else other for other in boxes if box in before[other]}
            assert readers(text, "input" if box == "in" else box) == wanted, f"{box}\n{text}"
    assert drawn > 100, "most graphs of this size can be drawn"
