"""What the benches compute from what they measured, and what they draw."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest

from benchmarks import bench_overload
from benchmarks._drive import Loops, percentile
from benchmarks._harness import PeerDied, Stage, interleave, median, ratios
from benchmarks._report import spread, verdict
from benchmarks._svg import Line, dot_chart, line_chart
from benchmarks.bench_memory import slope


@pytest.mark.parametrize(
    ("values", "share", "found"),
    [([5.0], 0.99, 5.0), ([1.0, 2.0, 3.0, 4.0], 0.5, 2.0), ([float(n) for n in range(1, 101)], 0.99, 99.0)],
)
def test_percentiles_are_by_nearest_rank(values: list[float], share: float, found: float) -> None:
    assert percentile(values, share) == found


def test_a_window_in_which_no_call_ended_has_no_figures() -> None:
    async def call() -> None: ...

    with pytest.raises(RuntimeError, match=r"no call ended within 2\.0 s"):
        Loops(call, 1).figures(2.0)


def test_an_overload_in_which_no_call_went_well_in_time_is_a_goodput_of_0_and_no_latency() -> None:
    late = [{"calls": [(2.5, 9.0, 0.01)], "failures": {}, "counted": {}}]
    found = bench_overload.figures(late, bench_overload.KINDS["slots"], capacity=160.0, seconds=2.0)
    assert (found["goodput"], found["share"], found["capacity"]) == (0.0, 0.0, 160.0)
    assert "p99_ms" not in found


def test_ratios_are_taken_pair_by_pair() -> None:
    figures = {"a": {"rate": [10.0, 30.0]}, "b": {"rate": [5.0, 10.0]}}
    assert ratios(figures, "a", "b", "rate") == [2.0, 3.0]
    assert ratios(figures, "a", "missing", "rate") == []


def test_worlds_take_turns_and_every_other_repetition_goes_backwards() -> None:
    order: list[tuple[str, str]] = []

    def measure(world: str, cell: str) -> dict[str, float]:
        order.append((cell, world))
        return {"rate": float(len(order))}

    found = interleave(["x", "y"], lambda _: ["a", "b"], 2, measure)
    assert order == [("x", "a"), ("x", "b"), ("y", "a"), ("y", "b"), ("x", "b"), ("x", "a"), ("y", "b"), ("y", "a")]
    assert found["x"] == {"a": {"rate": [1.0, 6.0]}, "b": {"rate": [2.0, 5.0]}}


def test_a_measurement_that_died_takes_its_pair_with_it_and_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    turns = iter([1.0, None, 3.0, 4.0])

    def measure(world: str, cell: str) -> dict[str, float]:
        value = next(turns)
        if value is None:
            raise PeerDied("it had enough")
        return {"rate": value}

    found = interleave(["x"], lambda _: ["a", "b"], 2, measure)
    assert found["x"] == {"a": {"rate": [4.0]}, "b": {"rate": [3.0]}}, "half a pair must not count"
    assert "left out: x b: it had enough" in capsys.readouterr().err


def test_a_process_that_ends_is_told_with_its_last_words() -> None:
    with Stage() as stage:
        peer = stage.run("python3", "-c", "raise SystemExit('no such thing')")
        with pytest.raises(PeerDied, match="no such thing"):
            peer.line()


def test_a_verdict_is_of_the_median() -> None:
    assert verdict("x", [1.0, 3.0, 9.0], 3.0)[-1] == "[green]met[/green]"
    assert verdict("x", [1.0, 2.9, 9.0], 3.0)[-1] == "[red]missed[/red]"
    assert verdict("x", [1.0, 3.1, 9.0], 3.0, at_most=True)[-1] == "[red]missed[/red]"
    assert verdict("x", [], 3.0)[-1] == "not measured"


def test_a_range_is_shown_where_there_is_one() -> None:
    assert spread([2.0]) == "2"
    assert spread([1.0, 2.0, 4.0]) == "2 [dim](1-4)[/dim]"
    assert spread([]) == "-"
    assert math.isnan(median([]))


def test_a_slope_does_not_follow_one_jump() -> None:
    steady = [(float(n), 5.0 * n) for n in range(20)]
    assert slope(steady) == pytest.approx(5.0)
    assert slope([(x, y + (1000.0 if x >= 15 else 0.0)) for x, y in steady]) == pytest.approx(5.0, abs=0.1)


def test_plots_are_svg_with_every_point_and_name() -> None:
    lines = [Line("raw & bare", [("1", 10, 9, 11), ("8", 100, 90, 120)]), Line("mux", [("1", 20, 20, 20)])]
    for content in (line_chart("a < b", "at once", lines), dot_chart("a < b", "cells", lines, mark=1.0)):
        root = ElementTree.fromstring(content)
        space = "{http://www.w3.org/2000/svg}"
        texts = [text.text for text in root.iter(f"{space}text")]
        assert {"a < b", "raw & bare", "mux", "1", "8"} <= set(texts)
        dots = [circle for circle in root.iter(f"{space}circle") if circle.get("r") == "3.2"]
        assert len(dots) == 3, "every point must be drawn"


def test_higher_values_are_drawn_higher() -> None:
    root = ElementTree.fromstring(line_chart("", "", [Line("x", [("1", 10, 10, 10), ("8", 1000, 1000, 1000)])]))
    low, high = (float(c.get("cy") or 0) for c in root.iter("{http://www.w3.org/2000/svg}circle"))
    assert high < low
