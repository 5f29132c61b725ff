"""Which addresses a registry may dial by itself.

An endpoint's address is what somebody registered. A prober that dialled
whatever it is told would reach into places that the registrant cannot (SSRF):
a cloud's metadata service at 169.254.169.254 above all. So it dials what an
operator allows, and link-local addresses (RFC 3927, RFC 4291) never.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import TypeAlias

from atomesh.core.errors import InvalidArgument

_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

PRIVATE = ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
"""Loopback, and what is private by RFC 1918 and RFC 4193."""

_NEVER = (ipaddress.ip_network("169.254.0.0/16"), ipaddress.ip_network("fe80::/10"))


class AllowList:
    """Networks whose addresses may be dialled."""

    def __init__(self, networks: Iterable[str]) -> None:
        """`networks` in CIDR, such as 10.0.0.0/8; none allows nothing.

        Raises:
            InvalidArgument: one that is no network, or a link-local one.
        """
        self._networks = tuple(map(_network, networks))

    def allows(self, ip: str) -> bool:
        """Whether an IP address, as a resolver gives it, may be dialled."""
        try:
            address = ipaddress.ip_address(ip.partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        address = mapped or address  # ::ffff:169.254.169.254 is 169.254.169.254 in other clothes
        return any(address in network for network in self._networks) and not any(
            address in network for network in _NEVER
        )


def _network(text: str) -> _Network:
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise InvalidArgument(
            f"{text!r:.80} is no network to probe ({error}); give CIDR, such as 10.0.0.0/8 or fd00::/8"
        ) from None
    if any(network.version == never.version and network.subnet_of(never) for never in _NEVER):  # type: ignore[arg-type] # of one version
        raise InvalidArgument(f"{text} is link-local, and such addresses are never probed; leave it out")
    return network
