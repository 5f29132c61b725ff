"""How agents and addresses may be spelt."""

from __future__ import annotations

import pytest

from atomesh.core.errors import InvalidArgument
from atomesh.core.names import check_agent_name, check_dialable, is_loopback, join_address, split_address


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("127.0.0.1:7400", "127.0.0.1", 7400),
        ("0.0.0.0:0", "0.0.0.0", 0),
        ("[::1]:65535", "::1", 65535),
        ("[::]:7400", "::", 7400),
        ("[fe80::1%eth0]:7400", "fe80::1%eth0", 7400),
        ("localhost:1", "localhost", 1),
        ("text-1.agents.example:50051", "text-1.agents.example", 50051),
        ("under_scored.example.:80", "under_scored.example.", 80),
        ("xn--bcher-kva.example:80", "xn--bcher-kva.example", 80),
        ("1password.com:443", "1password.com", 443),
        ("deadbeef:80", "deadbeef", 80),
    ],
)
def test_an_address_splits_into_host_and_port_and_back(address: str, host: str, port: int) -> None:
    assert split_address(address) == (host, port)
    assert join_address(host, port) == address


@pytest.mark.parametrize(
    "address",
    [
        "",
        ":",
        ":80",
        "host",
        "host:",
        "host:65536",
        "host:-1",
        "host:+1",
        "host:1_0",
        "host:٨٠",  # digits, but not ASCII ones
        "host:²",
        "host: 80",
        "host:80 ",
        " host:80",
        "ho st:80",
        "host:80\n",
        "host\n:80",
        "host\x00:80",
        "host:080",
        "host:000080",
        "-host:80",
        "host-:80",
        "a..b:80",
        ".a:80",
        "bücher.example:80",
        "١٢٧.0.0.1:80",
        "::1:80",  # an IPv6 address goes in brackets
        "[127.0.0.1]:80",
        "[host]:80",
        "[]:80",
        "[::1]80",
        "[::1:80",
        "[::1%a b]:80",
        "[::1%\n]:80",
        "[::1%]:80",
        "http://host:80",
        "dns:///host:80",
        "unix:/tmp/socket",
        "user@host:80",
        "h" * 64 + ":80",
        "h." * 127 + ":80",
        "h" * 10_000 + ":80",
        "[" + ":" * 10_000 + "]:80",
        "host:" + "1" * 10_000,
    ],
)
def test_what_is_no_address_is_refused_in_one_short_line(address: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        split_address(address)
    assert "expected host:port" in str(refused.value)
    assert len(str(refused.value)) < 250, "the message must not repeat 10 kB of input"
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("host", ["0", "127.1", "0x7f.1", "0x7f000001", "2130706433", "256.1.1.1", "1.2.3.4.5", "a.1"])
def test_a_host_that_ends_in_a_number_is_no_host_name(host: str) -> None:
    # inet_aton reads 0 as 0.0.0.0 and 127.1 as 127.0.0.1: a wildcard, or loopback, that no check would see.
    with pytest.raises(InvalidArgument):
        split_address(f"{host}:7400")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "[::1]:1", "host.example:7400", "192.168.1.2:65535"])
def test_what_can_be_dialled_comes_back_as_it_is(address: str) -> None:
    assert check_dialable(address) == address


@pytest.mark.parametrize(
    "address", ["0.0.0.0:80", "[::]:80", "[::ffff:0.0.0.0]:80", "224.0.0.1:80", "[ff02::1]:80", "[::%eth0]:80"]
)
def test_a_wildcard_cannot_be_dialled(address: str) -> None:
    with pytest.raises(InvalidArgument, match="advertise the address that callers use"):
        check_dialable(address)


def test_port_0_cannot_be_dialled() -> None:
    with pytest.raises(InvalidArgument, match="advertise the real one"):
        check_dialable("127.0.0.1:0")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost", "LOCALHOST", "localhost."])
def test_loopback_is_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "localhost.example", "127.0.0.1.example", "", "127.1"])
def test_all_else_is_not_loopback(host: str) -> None:
    assert not is_loopback(host), "plaintext would be let through"


@pytest.mark.parametrize("name", ["a", "7", "text-processor", "a.b_c-d", "x" * 64])
def test_an_agents_name_may_be(name: str) -> None:
    assert check_agent_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "-a", "a-", "A", "ä", "a b", "a\n", "a/b", "٣", "x" * 65, "x" * 10_000, "a\x00", "\ud800"]
)
def test_an_agents_name_may_not_be(name: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_agent_name(name)
    assert len(str(refused.value)) < 250
