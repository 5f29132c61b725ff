"""What a registry may dial by itself, and what it never does."""

from __future__ import annotations

import pytest

from atomesh.core.errors import InvalidArgument
from atomesh.registry.allow_list import PRIVATE, AllowList


@pytest.mark.parametrize("ip", ["127.0.0.1", "127.9.9.9", "::1", "10.1.2.3", "172.31.0.1", "192.168.0.9", "fd12::1"])
def test_loopback_and_private_addresses_may_be_probed(ip: str) -> None:
    assert AllowList(PRIVATE).allows(ip)


@pytest.mark.parametrize(
    "ip",
    [
        "8.8.8.8",
        "172.32.0.1",
        "100.64.0.1",
        "0.0.0.0",
        "2001:db8::1",
        "169.254.169.254",
        "fe80::1",
        "fe80::1%eth0",
        "::ffff:169.254.169.254",
        "::ffff:8.8.8.8",
        "64:ff9b::a9fe:a9fe",
        "localhost",
        "",
        "2130706433",
    ],
)
def test_others_may_not(ip: str) -> None:
    assert not AllowList(PRIVATE).allows(ip)


def test_a_mapped_address_is_the_one_that_it_stands_for() -> None:
    assert AllowList(PRIVATE).allows("::ffff:10.0.0.1")


@pytest.mark.parametrize("ip", ["169.254.169.254", "fe80::1", "::ffff:169.254.0.1"])
def test_link_local_addresses_are_never_probed_whatever_is_allowed(ip: str) -> None:
    assert not AllowList(["0.0.0.0/0", "::/0"]).allows(ip)


def test_nothing_is_allowed_where_nothing_is_said() -> None:
    assert not AllowList([]).allows("127.0.0.1")


@pytest.mark.parametrize("network", ["10.0.0.0", "10.0.0.1/8", "10.0.0.0/33", "example.org/8", "", "fe80::/10 "])
def test_what_is_no_network_is_refused_in_one_line(network: str) -> None:
    if network == "10.0.0.0":
        assert AllowList([network]).allows("10.0.0.0"), "an address by itself is a network of one"
        return
    with pytest.raises(InvalidArgument, match="no network to probe") as refused:
        AllowList([network])
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("network", ["169.254.0.0/16", "169.254.169.254/32", "fe80::/10"])
def test_a_link_local_network_is_refused_by_name(network: str) -> None:
    with pytest.raises(InvalidArgument, match="link-local"):
        AllowList([network])
