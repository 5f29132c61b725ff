"""Endpoints as rows: all of it where there is room, the rest where there is not."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from atomesh.cli._tables import ago, endpoint_data, endpoint_table, timestamp
from atomesh.core import Capability, Endpoint, Load, Position, Probe, ProbeResult, Recent, State
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.rpc.registry_client import Snapshot

ENDPOINT = Endpoint(
    agent="text-processor",
    address="127.0.0.1:40123",
    capabilities=(Capability("content_analysis", 0.9),),
    slots=4,
    load=Load(4, 3),
    state=State.DRAINING,
)


def drawn(*endpoints: Endpoint, width: int) -> list[str]:
    out = Console(file=io.StringIO(), width=width, markup=False)
    out.print(endpoint_table(Snapshot(endpoints, Position("s", 9), False), "127.0.0.1:7400", width=width))
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue().splitlines()


def test_eighty_columns_hold_an_endpoint_on_one_line() -> None:
    title, _, *rows = drawn(ENDPOINT, width=80)
    assert "1 endpoint, registry 127.0.0.1:7400, revision 9" in title
    assert len(rows) == 1, "a row must not wrap"
    assert rows[0].split()[:5] == ["text-processor", "1.0.0", "127.0.0.1:40123", "draining", "3/4"]


def test_a_wide_terminal_shows_everything() -> None:
    _, header, row = drawn(ENDPOINT, width=160)
    for name in ("agent", "version", "endpoint", "state", "slots", "in flight", "zone", "registered", "renewed"):
        assert name in header
    assert "content_analysis 0.90" in row


def test_the_last_probe_and_its_time_are_shown_where_there_is_room() -> None:
    probe = Probe(ProbeResult.NOT_SERVING, SYSTEM_CLOCK.wall() - 12, 0.01)
    _, header, row = drawn(replace(ENDPOINT, last_probe=probe), width=170)
    assert "probed" in header
    assert "not serving 12 s ago" in row


def test_a_name_from_the_network_is_neither_markup_nor_control() -> None:
    rows = drawn(Endpoint(agent="[red]x", address="a:1", zone="\x1b[2J"), width=160)
    assert "[red]x" in rows[-1]
    assert "\\x1b[2J" in rows[-1]
    assert "\x1b" not in "".join(rows)


@pytest.mark.parametrize(
    ("seconds", "said"), [(-5, "0 s ago"), (7, "7 s ago"), (300, "5 m ago"), (9000, "2 h ago"), (200_000, "2 d ago")]
)
def test_ages_are_short_and_never_in_the_future(seconds: float, said: str) -> None:
    assert ago(seconds) == said


def test_data_for_programs_names_what_is_not_known() -> None:
    data = endpoint_data(Endpoint(agent="a", address="a:1"))
    assert (data["load"], data["recent"], data["registered_at"], data["state"]) == (None, None, None, "SERVING")
    busy = endpoint_data(Endpoint(agent="a", address="a:1", recent=Recent(0.25, 0.5, 12.0)))
    assert busy["recent"] == {"execution_seconds": 0.25, "error_rate": 0.5, "executions_per_second": 12.0}
    assert data["last_probe"] is None
    probed = endpoint_data(Endpoint(agent="a", address="a:1", last_probe=Probe(ProbeResult.TIMEOUT, 1.5, 5.0, "why")))
    assert probed["last_probe"] == {
        "result": "TIMEOUT",
        "at": "1970-01-01T00:00:01.500+00:00",
        "duration_seconds": 5.0,
        "detail": "why",
    }
    assert timestamp(1.5) == "1970-01-01T00:00:01.500+00:00"
