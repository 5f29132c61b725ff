"""How agents, instances and addresses may be spelt."""

from __future__ import annotations

import ipaddress
import re

from atomesh.core.errors import InvalidArgument

_AGENT = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?")
_HOST = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")
_PORT = re.compile(r"0|[1-9][0-9]{0,4}")  # one spelling: an address is a key
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_PORTED = re.compile(r":[0-9]+$")
_OTLP_PORT = 4317  # IANA's for OTLP over gRPC
_OCTET = r"(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rf"{_OCTET}(\.{_OCTET}){{3}}")
_ZONE = re.compile(r"[A-Za-z0-9_.-]+")


def check_agent_name(name: str) -> str:
    """The name itself.

    Raises:
        InvalidArgument: it is no agent's name.
    """
    if not _AGENT.fullmatch(name):
        raise InvalidArgument(
            f"agent name {name!r:.80} is not 1 to 64 of a-z, 0-9, '.', '_', '-', with a letter or digit at both ends"
        )
    return name


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[ipv6]:port`; port 0 stands for any free one.

    Raises:
        InvalidArgument: it is no address.
    """
    host, colon, port = address.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if colon and _PORT.fullmatch(port) and int(port) < 65536:
        if bare != host and _is_ip(bare, 6):
            return bare, int(port)
        if bare == host and (_is_ip(host, 4) or _is_host_name(host)):
            return host, int(port)
    raise InvalidArgument(
        f"{address!r:.80} is not an address; expected host:port, such as 127.0.0.1:7400 or [::1]:7400"
    )


def join_address(host: str, port: int) -> str:
    """`host:port`, an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_dialable(address: str) -> str:
    """The address, where others can dial it.

    Raises:
        InvalidArgument: it is no address, a wildcard one or has port 0.
    """
    host, port = split_address(address)
    if port == 0:
        raise InvalidArgument(f"{address!r} cannot be dialled: port 0 stands for any free port; advertise the real one")
    if _is_for_many(host):
        raise InvalidArgument(f"{address!r} cannot be dialled from elsewhere; advertise the address that callers use")
    return address


def _is_for_many(host: str) -> bool:
    """Whether it is an IP address that is nobody's own: a wildcard or a multicast one."""
    if _IPV4.fullmatch(host):  # at every registration: ipaddress takes ten times as long
        return host == "0.0.0.0" or 224 <= int(host.partition(".")[0]) <= 239
    if not _is_ip(host, 6):
        return False
    ip = ipaddress.ip_address(host)
    ip = getattr(ip, "ipv4_mapped", None) or ip  # ::ffff:0.0.0.0 is 0.0.0.0 in other clothes
    return ip.is_unspecified or ip.is_multicast


def is_loopback(host: str) -> bool:
    """Whether the host is this machine and no other can reach it there."""
    if host.lower().removesuffix(".") == "localhost":
        return True
    return (_is_ip(host, 4) or _is_ip(host, 6)) and ipaddress.ip_address(host).is_loopback


def collector_url(endpoint: str) -> str:
    """An OTLP collector's URL: `http://host:port` is plaintext, `https://host:port` is TLS.

    Without a scheme it is plaintext on loopback and TLS elsewhere; without a port it is 4317.

    Raises:
        InvalidArgument: it is no such URL.
    """
    scheme, said, rest = endpoint.rpartition("://")
    rest = rest.removesuffix("/")
    try:
        host, port = split_address(rest if _PORTED.search(rest) else f"{rest}:{_OTLP_PORT}")
    except InvalidArgument:
        host, port = "", 0
    if not port or (said and scheme not in ("http", "https")):
        raise InvalidArgument(
            f"{endpoint!r:.80} is no collector's URL; expected http://host:port or https://host:port, no path"
        )
    scheme = scheme or ("http" if is_loopback(host) else "https")
    return f"{scheme}://{join_address(host, port)}"


def _is_host_name(text: str) -> bool:
    """A DNS name whose last label is no number: to a resolver `0` is 0.0.0.0, and 127.1 and 0x7f.1 are 127.0.0.1."""
    if len(text) > 253 or not _HOST.fullmatch(text):
        return False
    return not _NUMBER.fullmatch(text.removesuffix(".").rpartition(".")[2])


def _is_ip(text: str, version: int) -> bool:
    if version == 4:
        return _IPV4.fullmatch(text) is not None
    # An address is at most 45 characters, with its zone (RFC 4007) some more. ipaddress takes any zone at all.
    _, percent, zone = text.partition("%")
    if len(text) > 64 or (percent and not _ZONE.fullmatch(zone)):
        return False
    try:
        return ipaddress.ip_address(text).version == version
    except ValueError:
        return False
