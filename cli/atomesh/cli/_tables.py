"""Endpoints as rows for people and as data for programs."""

from __future__ import annotations

import datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from atomesh.cli._output import cell
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.core.endpoint import Endpoint, Probe, ProbeResult, State
from atomesh.rpc.registry_client import Snapshot

WIDE = 110
"""Columns from which all of a row fits beside an agent's name and address of usual length."""

_WIDE = (
    *("agent", "version", "endpoint", "state", "slots", "in flight", "zone"),
    *("registered", "renewed", "probed", "capabilities"),
)
_NARROW = ("agent", "version", "endpoint", "state", "busy", "zone", "registered", "renewed")

_STYLES = {State.SERVING: "green", State.DRAINING: "yellow", State.SUSPECT: "magenta", State.NOT_SERVING: "red"}


def endpoint_table(snapshot: Snapshot, registry: str, *, width: int = WIDE) -> Table:
    """One row for each endpoint; where it is narrow without capabilities, and with a zone only where some have one."""
    wide = width >= WIDE
    shown: tuple[str, ...] = _WIDE if wide else _NARROW
    if not (wide or any(endpoint.zone for endpoint in snapshot.endpoints)):
        shown = tuple(name for name in shown if name != "zone")
    table = Table(
        title=f"{len(snapshot.endpoints)} endpoint{_s(len(snapshot.endpoints))}, registry {registry}, revision {snapshot.position.revision}",
        title_justify="left",
        title_style="bold",
        header_style="dim",
        box=None,
        pad_edge=False,
        padding=(0, 2 if wide else 1, 0, 0),
    )
    if snapshot.self_preservation:
        table.caption = (
            "so much went wrong at once that the registry doubts itself: leases that ran out are SUSPECT, not gone"
        )
    for name in shown:
        numeric = name in ("slots", "in flight", "busy")
        foldable = name == "capabilities" or (not wide and name in ("agent", "endpoint", "zone"))
        table.add_column(name, justify="right" if numeric else "left", no_wrap=not foldable, overflow="fold")
    now = SYSTEM_CLOCK.wall()
    for endpoint in snapshot.endpoints:
        row = _row(endpoint, now)
        table.add_row(*(row[name] for name in shown))
    return table


def _row(endpoint: Endpoint, now: float) -> dict[str, Text]:
    capabilities = ", ".join(c.name if c.score is None else f"{c.name} {c.score:.2f}" for c in endpoint.capabilities)
    running = str(endpoint.load.in_flight) if endpoint.load else "-"
    return {
        "agent": cell(endpoint.agent, "bold"),
        "version": cell(endpoint.version),
        "endpoint": cell(endpoint.address),
        "state": state_cell(endpoint.state),
        "slots": cell(str(endpoint.slots)),
        "in flight": cell(running),
        "busy": cell(f"{running}/{endpoint.slots}"),
        "zone": cell(endpoint.zone or "-"),
        "registered": cell(ago(now - endpoint.registered_at)),
        "renewed": cell(ago(now - endpoint.last_renewed_at)),
        "probed": _probed(endpoint.last_probe, now),
        "capabilities": cell(capabilities or "-"),
    }


def _probed(probe: Probe | None, now: float) -> Text:
    """What came of the last probe and when; only what is not well has a colour."""
    if probe is None:
        return cell("-")
    style = "" if probe.result in (ProbeResult.SERVING, ProbeResult.UNIMPLEMENTED) else "magenta"
    return cell(f"{probe.result.name.lower().replace('_', ' ')} {ago(now - probe.at)}", style)


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def state_cell(state: State) -> Text:
    """A state in its colour."""
    return cell(state.name.lower().replace("_", " "), _STYLES.get(state, ""))


def ago(seconds: float) -> str:
    """`12 s ago`; clocks that disagree make it now, not the future."""
    seconds = max(0.0, seconds)
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "m"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name} ago"
    return f"{seconds / 86_400:.0f} d ago"


def endpoint_data(endpoint: Endpoint) -> dict[str, Any]:
    """All that is known of an endpoint, for JSON."""
    load, recent, probe = endpoint.load, endpoint.recent, endpoint.last_probe
    return {
        "agent": endpoint.agent,
        "version": endpoint.version,
        "address": endpoint.address,
        "instance_id": endpoint.instance_id,
        "state": endpoint.state.name,
        "slots": endpoint.slots,
        "idempotent": endpoint.idempotent,
        "zone": endpoint.zone,
        "labels": dict(endpoint.labels),
        "metadata": dict(endpoint.metadata),
        "capabilities": [{"name": c.name, "score": c.score} for c in endpoint.capabilities],
        "input_type": endpoint.input_type,
        "output_type": endpoint.output_type,
        "contract_hash": endpoint.contract_hash,
        "metrics_address": endpoint.metrics_address,
        "registered_at": timestamp(endpoint.registered_at),
        "last_renewed_at": timestamp(endpoint.last_renewed_at),
        "revision": endpoint.revision,
        "load": None
        if load is None
        else {name: getattr(load, name) for name in ("slots", "in_flight", "queued", "executions", "failures")}
        | {"refusals": load.refusals, "busy_seconds": load.busy},
        "recent": None
        if recent is None
        else {
            "execution_seconds": recent.execution,
            "error_rate": recent.error_rate,
            "executions_per_second": recent.executions_per_second,
        },
        "last_probe": None
        if probe is None
        else {
            "result": probe.result.name,
            "at": timestamp(probe.at),
            "duration_seconds": probe.duration,
            "detail": probe.detail,
        },
    }


def timestamp(seconds: float) -> str | None:
    """RFC 3339 in UTC; None where it is not known."""
    if not seconds:
        return None
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="milliseconds")
