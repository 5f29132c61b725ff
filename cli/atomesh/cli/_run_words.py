"""Words that a run is told in, while it goes on and afterwards."""

from __future__ import annotations

import re

from atomesh.cli._output import counted

_MADE_UP = re.compile(r"[0-9a-f]{32}")
_MADE_UP_SHOWN = 12
"""Of 32: of a hundred thousand runs, two begin alike once in fifty thousand stores."""
_NAMED_SHOWN = 32
_GUARD = "when "


def short(run_id: str) -> str:
    """An id as lists show it: the beginning of one that was made up, all of one that somebody chose."""
    return run_id[: _MADE_UP_SHOWN if _MADE_UP.fullmatch(run_id) else _NAMED_SHOWN]


def took(seconds: float) -> str:
    """`12.3 ms`, `4.56 s` or `3 m 20 s`."""
    if seconds < 1:
        return f"{seconds * 1000:.1f} ms"
    return f"{seconds:.2f} s" if seconds < 120 else f"{int(seconds // 60)} m {int(seconds % 60)} s"


def items_told(total: int, done: int, skipped: int) -> str:
    """`6 items`, `3 of 6 items` or `5 of 6 items, 1 skipped`, which are done too; empty where there are none."""
    if not total:
        return ""
    well = done - skipped
    told = counted(total, "item") if well == total else f"{well} of {counted(total, 'item')}"
    return told + (f", {skipped} skipped" if skipped else "")


def left_out(reason: str) -> str:
    """Why a stage does not run: `left out: size(many) > 100 is false`."""
    if reason.startswith(_GUARD):
        reason = f"{reason.removeprefix(_GUARD)} is false"
    return f"left out: {reason}" if reason else "left out"


def in_place(fallback: str, first: str) -> str:
    """Who did it in whose place; empty where nobody had to."""
    if not fallback:
        return ""
    return f"by {fallback}, in place of {first}" if first and first != fallback else f"by {fallback}, its fallback"


def whose(owner: str) -> str:
    """The process of a run, without what only other processes need of it."""
    from atomesh.pipelines.owner import Owner, gave_up

    text = gave_up(owner) or owner
    known = Owner.parse(text)
    return f"pid {known.pid} on {known.host}" if known is not None else text or "an unknown process"


def gone(owner: str) -> str:
    """What became of the process of an interrupted run."""
    from atomesh.pipelines.owner import gave_up

    return f"{whose(owner)} gave it up" if gave_up(owner) else f"its process, {whose(owner)}, is gone"


def what_next(run_id: str, *, durable: bool) -> str:
    """What can be done with a run that was interrupted."""
    if not durable:
        return "nothing of it runs any more; run its pipeline anew"
    name = short(run_id)
    return f"`atomesh runs resume {name}` goes on with it, `atomesh runs cancel {name}` ends it"
