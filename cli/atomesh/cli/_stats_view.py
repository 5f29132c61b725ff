"""A mesh's sums for people, as wide as their terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.text import Text

from atomesh.cli._output import cell, counted
from atomesh.cli._rows import Column, Row, laid_out, wrapped
from atomesh.cli._run_words import took
from atomesh.cli._stats_asked import Heard, Unasked
from atomesh.cli._stats_sums import AgentSums, Mean, RegistrySums, folded, in_all

_ALL = "all"
_UNASKED = 10
"""Targets that told nothing and are shown; --json has all."""

_COLUMNS = (
    Column("agent", least=12),
    Column("processes", right=True, drop=1),
    Column("executions", right=True),
    Column("errors", right=True),
    Column("mean", right=True),
    Column("busy", right=True),
    Column("waiting", right=True, drop=2),
    Column("refused", right=True, drop=3),
)


def stats_lines(heard: Heard, address: str, width: int | None) -> list[Text]:
    """The registry's sums, a row for each agent and one for all, and whom nobody could ask."""
    agents = folded(heard.pages)
    lines = [line for text in _registry(heard.registry, address) for line in wrapped(text, width)]
    lines.append(Text())
    if agents:
        rows = [_row(cell(name, "bold"), sums) for name, sums in agents.items()]
        if len(agents) > 1:
            rows.append(_row(cell(_ALL, "dim"), in_all(agents)))
        lines += laid_out(_COLUMNS, rows, width)
    else:
        lines.append(Text("no agent told its metrics"))
    return lines + [line for text in _not_asked(heard) for line in wrapped(text, width)]


def _registry(sums: RegistrySums, address: str) -> list[Text]:
    lines = [cell(f"registry {address}, revision {sums.revision}, {counted(sums.watchers, 'watcher')}", "bold")]
    if not sums.warm:
        lines.append(
            cell("not warm yet: it holds its answers until those of before the restart are heard of", "yellow")
        )
    if sums.self_preservation:
        lines.append(cell("it doubts itself rather than its endpoints: SUSPECT, not gone", "magenta"))
    gone = {"deregistered": sums.deregistrations, "expired": sums.expirations}
    for name, told in (
        ("leases", _counts(sums.leases)),
        ("registrations", _counts(sums.registrations)),
        ("gone", _counts(gone)),
        ("renewals", _counts(sums.renewals)),
        ("suspicions", str(sums.suspicions or "none")),
        ("probes", _counts(sums.probes, sums.probe_times)),
        ("commits", _commits(sums)),
    ):
        lines.append(Text(f"  {name:<15}").append_text(cell(told)))
    return lines


def _counts(counts: Mapping[str, int], times: Mapping[str, Mean] | None = None) -> str:
    """`12 serving (1.2 ms each), 1 timeout (5.00 s each)`: what there is of each, `none` where there is nothing."""
    told = []
    for name, count in counts.items():
        if count:
            mean = times[name].mean if times and name in times else None
            told.append(f"{count} {name.replace('_', ' ')}" + (f" ({took(mean)} each)" if mean is not None else ""))
    return ", ".join(told) or "none"


def _commits(sums: RegistrySums) -> str:
    mean = sums.commit_time.mean
    return _counts(sums.commits) + (f" ({took(mean)} each)" if mean is not None else "")


def _row(name: Text, sums: AgentSums) -> Row:
    mean, errors = sums.time.mean, sums.errors
    share = f" ({errors / sums.executions:.1%})" if errors else ""
    return Row(
        {
            "agent": name,
            "processes": cell(str(sums.processes)),
            "executions": cell(str(sums.executions)),
            "errors": cell(f"{errors}{share}", "red" if errors else ""),
            "mean": cell(took(mean) if mean is not None else "-"),
            "busy": cell(f"{sums.in_flight}/{sums.slots}"),
            "waiting": cell(str(sums.queued)),
            "refused": cell(str(sum(sums.refusals.values()))),
        }
    )


def _not_asked(heard: Heard) -> list[Text]:
    missing: Sequence[Unasked] = heard.unasked
    if not missing:
        return []
    asked = len(heard.pages) + len(missing)
    lines = [Text(), cell(f"{len(missing)} of {counted(asked, 'target')} told nothing:", "yellow")]
    for each in missing[:_UNASKED]:
        agents = f" ({each.agents})" if each.agents else ""
        lines.append(cell(f"  {each.address}{agents}: {each.reason}"))
    if len(missing) > _UNASKED:
        lines.append(cell(f"  and {len(missing) - _UNASKED} more; --json has all"))
    return lines
