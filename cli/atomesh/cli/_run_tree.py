"""The picture of a run under way: a tree of its stages, no wider and no higher than its terminal."""

from __future__ import annotations

from rich.text import Text
from rich.tree import Tree

from atomesh.cli._output import cell
from atomesh.cli._rows import cut
from atomesh.cli._run_seen import Seen
from atomesh.cli._run_words import short, took
from atomesh.pipelines import RunRecord, StageRecord, StageStatus

STYLES = {
    "pending": "dim",
    "running": "cyan",
    "success": "green",
    "partial": "yellow",
    "failed": "red",
    "cancelled": "yellow",
    "interrupted": "magenta",
    "skipped": "yellow",
    "omitted": "dim",
    "compensated": "yellow",
}
"""Of a run's or a stage's status."""

_MARKS = {
    StageStatus.PENDING: "·",
    StageStatus.RUNNING: "▸",
    StageStatus.SUCCESS: "✓",
    StageStatus.FAILED: "✗",
    StageStatus.CANCELLED: "■",
    StageStatus.SKIPPED: "»",
    StageStatus.OMITTED: "-",
    StageStatus.COMPENSATED: "↶",
}
_FIRST = (StageStatus.RUNNING, StageStatus.FAILED)
"""In sight whatever else is not."""
_NEXT = (StageStatus.SKIPPED, StageStatus.CANCELLED, StageStatus.COMPENSATED)
_NAME, _AGENT = 24, 20  # columns; longer ones are cut, so that times stand below each other
_NARROW = 100  # columns of a terminal in which they are cut to three quarters of that
_TIME = 9  # `12 m 34 s`
_GUIDE = 4  # what the tree puts before each row


def picture(seen: Seen, now: float, width: int, height: int) -> Tree | Text:
    """The run as it is now, in at most `height` lines of `width` columns."""
    run = seen.run
    if run is None:
        return Text()
    tree = Tree(_head(seen, run, now, width), guide_style="dim")
    rows = _Rows(seen, now, run, width - _GUIDE)
    texts = [rows.text(stage) for stage in run.stages]
    lines = [text.plain.count("\n") + 1 for text in texts]
    shown = _in_sight(run.stages, lines, max(2, height - 2))
    for place in sorted(shown):
        tree.add(texts[place])
    if hidden := [stage for place, stage in enumerate(run.stages) if place not in shown]:
        tree.add(Text(_folded(hidden, seen), style="dim", no_wrap=True, overflow="ellipsis"))
    return tree


def _head(seen: Seen, run: RunRecord, now: float, width: int) -> Text:
    word = seen.stands()
    spent = took(run.seconds) if seen.ended else f"{max(0.0, now - seen.began):.1f} s"
    stands = Text(f"{word} in {spent}" if seen.ended else f"{word}, {spent}", style=STYLES.get(word, ""))
    head = cell(f"{run.pipeline} {run.version}", "bold").append_text(cell(f"  run {short(run.id)}  ", "dim"))
    head = cut(head, width - stands.cell_len)
    return head.append_text(stands)


class _Rows:
    """Rows whose columns stand below each other."""

    def __init__(self, seen: Seen, now: float, run: RunRecord, width: int) -> None:
        self._seen, self._now, self._width = seen, now, width
        share = 0.75 if width < _NARROW else 1
        self._name = min(int(_NAME * share), max((cell(_name(stage)).cell_len for stage in run.stages), default=0))
        self._agent = min(int(_AGENT * share), max((cell(stage.agent).cell_len for stage in run.stages), default=0))

    def text(self, stage: StageRecord) -> Text:
        """One stage: a line, and another one for what does not fit into it."""
        status = StageStatus.SKIPPED if stage.items_skipped and stage.status is StageStatus.SUCCESS else stage.status
        style = STYLES[status.name.lower()]
        row = Text(f"{_MARKS[status]} ", style=style, no_wrap=True, overflow="ellipsis")
        row.append_text(_padded(cell(_name(stage), style), self._name))
        row.append(f" {self._seconds(stage):>{_TIME}}  ", style="dim")
        row.append_text(_padded(cell(stage.agent, "dim"), self._agent))
        more = self._more(stage)
        while more and row.cell_len + 2 + more[0].cell_len <= self._width:
            row.append("  ").append_text(more.pop(0))
        if more:
            row.append("\n    ").append_text(cut(Text("  ").join(more), self._width - 4))
        return row

    def _more(self, stage: StageRecord) -> list[Text]:
        """What stands behind a row's columns."""
        said = "; ".join(part for part in (self._seen.instead(stage), self._seen.said(stage)) if part)
        style = "dim" if stage.status is StageStatus.OMITTED else "yellow"
        return [cell(part, each) for part, each in ((self._seen.items(stage), ""), (said, style)) if part]

    def _seconds(self, stage: StageRecord) -> str:
        if stage.status is StageStatus.RUNNING:
            return took(self._now - self._seen.begun.get(stage.stage, self._now))
        return took(stage.seconds) if stage.ran else ""


def _in_sight(stages: list[StageRecord], lines: list[int], height: int) -> set[int]:
    """Which stages are shown: all that fit, else those that run or failed, and those around them."""
    if sum(lines) <= height:
        return set(range(len(stages)))
    focus = next((place for place, stage in enumerate(stages) if stage.status in _FIRST), None)
    if focus is None:
        focus = next((p for p, s in enumerate(stages) if s.status is StageStatus.PENDING), len(stages) - 1)

    def rank(place: int) -> tuple[int, int]:
        status = stages[place].status
        return (0 if status in _FIRST else 1 if status in _NEXT else 2), abs(place - focus)

    shown, left = set[int](), height - 1  # one tells of those that are folded
    for place in sorted(range(len(stages)), key=rank):
        if lines[place] > left:
            break
        shown.add(place)
        left -= lines[place]
    return shown


def _folded(hidden: list[StageRecord], seen: Seen) -> str:
    """`12 done, 20 to come`."""
    counts = dict.fromkeys(("failed", "running", "done", "to come"), 0)
    for stage in hidden:
        word = {StageStatus.PENDING: "to come", StageStatus.RUNNING: "running", StageStatus.FAILED: "failed"}
        counts[word.get(stage.status, "done")] += 1
    told = [
        f"{count} {'not begun' if seen.ended and word == 'to come' else word}"
        for word, count in counts.items()
        if count
    ]
    return "... " + ", ".join(told)


def _name(stage: StageRecord) -> str:
    return stage.name or stage.stage


def _padded(text: Text, width: int) -> Text:
    text = cut(text, width)
    return text.append(" " * (width - text.cell_len))
