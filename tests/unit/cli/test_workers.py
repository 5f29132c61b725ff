"""`--workers`: what may be said, where each listens, and what each is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from atomesh.cli._errors import UsageMistake
from atomesh.cli._flags import as_typed
from atomesh.cli._places import Place, places, spans
from atomesh.cli._sections import ServeSection
from atomesh.cli.registry import RegistryFlags
from atomesh.cli.serve import ServeFlags
from atomesh.core.errors import InvalidArgument

ANY = "127.0.0.1:0"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--workers", "0"), "--workers is 0"),
        (("--workers", "-1"), "--workers is -1"),
        (("--workers", "1000"), "--workers is 1000"),
        (("--workers", "many"), "--workers"),
        (("--workers", "1.5"), "--workers"),
        (("--workers", "3", "--bind", "127.0.0.1:65534"), "begin at 65533 or below"),
        (("--workers", "3", "--http-bind", "127.0.0.1:65535"), "--http-bind 127.0.0.1:65535 runs past port 65535"),
        (("--workers", "2", "--advertise", "host.example:65535"), "--advertise"),
        (("--workers", "2", "--bind", "nowhere"), "is not an address"),
        (("--workers", "3", "--bind", "127.0.0.1:7500", "--http-bind", "127.0.0.1:7502"), "3 or more apart"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_started(
    atomesh: Callable[..., Any], arguments: tuple[str, ...], said: str
) -> None:
    ended = atomesh("serve", "text-processor", *arguments)
    assert ended.code == 2
    assert said in ended.one_line()


def test_the_environments_mistake_names_the_variable(
    atomesh: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATOMESH_SERVE_WORKERS", "0")
    assert "ATOMESH_SERVE_WORKERS" in atomesh("serve", "text-processor").one_line()


def test_a_port_that_is_said_counts_up_and_any_free_one_stays_so() -> None:
    said = ServeSection(bind="[::1]:7500", http_bind=ANY, advertise="host.example:80", workers=3)
    assert places(said, 3) == [
        Place("[::1]:7500", ANY, "host.example:80"),
        Place("[::1]:7501", ANY, "host.example:81"),
        Place("[::1]:7502", ANY, "host.example:82"),
    ]
    assert places(ServeSection(), 2) == [Place(ANY, ANY), Place(ANY, ANY)]
    assert places(ServeSection(bind="0.0.0.0:0", advertise="host.example:0"), 2)[1].advertise == "host.example:0"


def test_the_last_port_there_is_may_be_used() -> None:
    assert places(ServeSection(bind="127.0.0.1:65534"), 2)[1].bind == "127.0.0.1:65535"
    with pytest.raises(UsageMistake):
        places(ServeSection(bind="127.0.0.1:65534"), 3)
    with pytest.raises(InvalidArgument):
        places(ServeSection(bind="127.0.0.1:65536"), 1)


def test_the_same_ports_on_two_hosts_are_no_clash() -> None:
    assert len(places(ServeSection(bind="127.0.0.2:7500", http_bind="127.0.0.1:7500"), 2)) == 2


@pytest.mark.parametrize(
    ("place", "address", "bind"),
    [
        (Place(ANY, ANY), "127.0.0.1:4711", "127.0.0.1:4711"),
        (Place("0.0.0.0:0", ANY, "host.example:0"), "host.example:4711", "0.0.0.0:4711"),
        (Place("0.0.0.0:0", ANY, "host.example:80"), "host.example:80", "0.0.0.0:0"),
        (Place("127.0.0.1:7500", ANY), "127.0.0.1:7500", "127.0.0.1:7500"),
    ],
)
def test_a_successor_listens_where_its_predecessor_did(place: Place, address: str, bind: str) -> None:
    assert place.again_at(address).bind == bind, "at the same address the old lease is superseded, not waited for"


def test_addresses_whose_ports_follow_each_other_are_told_as_a_span() -> None:
    assert spans(["a.example:82", "a.example:80", "a.example:81", "[::1]:5", "b.example:81"]) == (
        "[::1]:5, a.example:80-82, b.example:81"
    )


def test_flags_are_handed_on_as_they_were_given() -> None:
    given = ServeFlags(serve_slots=2, serve_labels=["a=b", "c=d=e"], insecure=True, serve_name="-x", serve_workers=3)
    words = as_typed(given, without=("serve_workers",))
    assert sorted(words) == ["--insecure", "--label=a=b", "--label=c=d=e", "--name=-x", "--slots=2"]
    assert as_typed(RegistryFlags(registry_memory=False)) == ["--no-memory"]
    assert as_typed(ServeFlags()) == []
