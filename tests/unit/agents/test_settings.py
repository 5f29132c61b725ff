"""How a process is served is checked before anything is bound, in one line."""

from typing import Any

import pytest

from atomesh.agents.settings import ServerOptions, ServerSettings, split_options
from atomesh.core.errors import InvalidArgument


@pytest.mark.parametrize("bind", ["0.0.0.0:7500", "[::]:7500"])
def test_a_wildcard_address_needs_to_say_what_callers_dial(bind: str) -> None:
    with pytest.raises(InvalidArgument, match="--advertise"):
        ServerSettings(bind=bind)
    assert ServerSettings(bind=bind, advertise="10.0.0.5:7500").advertised(bind) == "10.0.0.5:7500"


def test_port_0_is_advertised_as_the_port_that_was_bound() -> None:
    assert ServerSettings().advertised("127.0.0.1:4711") == "127.0.0.1:4711"
    assert ServerSettings(bind="0.0.0.0:0", advertise="agents.example:0").advertised("0.0.0.0:4711") == (
        "agents.example:4711"
    )


def test_metrics_on_a_wildcard_address_are_scraped_at_the_host_that_callers_dial() -> None:
    settings = ServerSettings(bind="0.0.0.0:7500", advertise="agents.example:7500")
    assert settings.advertised_http("0.0.0.0:9100", "agents.example:7500") == "agents.example:9100"
    assert settings.advertised_http("127.0.0.1:9100", "agents.example:7500") == "127.0.0.1:9100"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"bind": "nonsense"}, "'nonsense' is not an address"),
        ({"advertise": "0.0.0.0:80"}, "cannot be dialled"),
        ({"advertise": "http://x:1"}, "is not an address"),
        ({"drain_grace": -1.0}, "drain_grace is -1.0 s; expected 0 to 86,400"),
        ({"default_timeout": 0.0}, "default_timeout"),
        ({"default_timeout": float("nan")}, "default_timeout"),
        ({"bindd": "127.0.0.1:0"}, "no such option: bindd"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(options: Any, said: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        split_options(options)
    assert said in refused.value.message
    assert "\n" not in refused.value.message


def test_options_of_the_server_and_of_its_agents_are_told_apart() -> None:
    options: ServerOptions = {"bind": "127.0.0.1:1", "slots": 3}
    settings, said = split_options(options)
    assert settings.bind == "127.0.0.1:1"
    assert said == {"slots": 3}
