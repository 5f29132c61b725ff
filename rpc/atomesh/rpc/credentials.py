"""What a process shows to others, and what it asks of them.

The same value serves a process's servers and its clients: `tls_cert` and
`tls_key` are its own identity in both roles, `tls_ca` is whom it believes.
A server that has a CA asks its clients for certificates (mTLS). `token` guards
Register, Update, Deregister and Drain, and calls of endpoints that ask for it
(`guard_calls`): there it goes with each call, inside a mux too.

Plaintext is for this machine. Off loopback it is refused unless `insecure`.
"""

from __future__ import annotations

import datetime
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from atomesh.core.errors import InvalidArgument, Unauthenticated
from atomesh.core.names import is_loopback, split_address

if TYPE_CHECKING:
    from cryptography import x509

_BEARER = "Bearer "


@dataclass(frozen=True, slots=True)
class Credentials:
    """PEM contents, a token, and whether plaintext off loopback is all right."""

    tls_cert: bytes | None = None
    tls_key: bytes | None = field(default=None, repr=False)
    tls_ca: bytes | None = None
    token: str = field(default="", repr=False)
    insecure: bool = False

    def __post_init__(self) -> None:
        """Raises InvalidArgument for half a pair, which a server would take for plaintext, and for no sendable token."""
        if (self.tls_cert is None) != (self.tls_key is None):
            raise InvalidArgument("--tls-cert and --tls-key go together; give both or neither")
        if not (self.token.isascii() and self.token.isprintable()):
            raise InvalidArgument("the token is not printable ASCII, which is all that a header can carry")

    @property
    def has_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.tls_cert is not None or self.tls_ca is not None

    def for_channel(self, address: str) -> grpc.ChannelCredentials | None:
        """What a client dials `address` with; None is plaintext.

        Raises:
            InvalidArgument: plaintext off loopback, without `insecure`.
        """
        if self.has_tls:
            return grpc.ssl_channel_credentials(self.tls_ca, self.tls_key, self.tls_cert)
        self._check_plaintext("call", address)
        return None

    def for_server(self, address: str) -> grpc.ServerCredentials | None:
        """What a server binds `address` with; None is plaintext.

        Raises:
            InvalidArgument: plaintext off loopback without `insecure`, or a CA without a certificate.
        """
        if self.tls_cert is not None and self.tls_key is not None:
            return grpc.ssl_server_credentials(
                [(self.tls_key, self.tls_cert)], self.tls_ca, require_client_auth=self.tls_ca is not None
            )
        if self.tls_ca is not None:
            raise InvalidArgument("a server with --tls-ca needs a certificate of its own; add --tls-cert and --tls-key")
        self._check_plaintext("listen on", address)
        return None

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What a client sends with a guarded call."""
        return (("authorization", _BEARER + self.token),) if self.token else ()

    def check_token(self, metadata: Iterable[tuple[str, str | bytes]] | None) -> None:
        """Lets a guarded call pass.

        Raises:
            Unauthenticated: this server has a token, and the call does not carry it.
        """
        if not self.token:
            return
        given = [value for key, value in metadata or () if key == "authorization"]
        if not given:
            raise Unauthenticated("this call needs the token of the server; give it with --token-file")
        # Compared as bytes in constant time; a str with non-ASCII letters cannot be.
        if not any(hmac.compare_digest(_bytes(value), _bytes(_BEARER + self.token)) for value in given):
            raise Unauthenticated("the token is not the one of the server; check --token-file on both sides")

    def _check_plaintext(self, what: str, address: str) -> None:
        host, _ = split_address(address)
        if not (self.insecure or is_loopback(host)):
            raise InvalidArgument(
                f"refusing to {what} {address} in plaintext, which is not loopback; "
                "give --tls-cert, --tls-key and --tls-ca, or say --insecure"
            )


def load_credentials(
    *,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    tls_ca: Path | None = None,
    token_file: Path | None = None,
    insecure: bool = False,
    now: datetime.datetime | None = None,
) -> Credentials:
    """The credentials in these files, checked so far as that is possible before anybody connects.

    Raises:
        InvalidArgument: a file that cannot be read, half a pair, a certificate
            that has expired or is none, a key that is not its, an empty token.
    """
    now = now or datetime.datetime.now(datetime.UTC)
    cert, ca = _read(tls_cert, "--tls-cert"), _read(tls_ca, "--tls-ca")
    key = _read(tls_key, "--tls-key")
    if ca is not None:
        _check_authorities(f"--tls-ca {tls_ca}", ca, now)
    if cert is not None and key is not None:
        _check_pair(f"--tls-cert {tls_cert}", cert, f"--tls-key {tls_key}", key, now)
    token = (_read(token_file, "--token-file") or b"").decode("utf-8", "replace").strip()
    if token_file is not None and not (token and token.isascii() and token.isprintable()):
        raise InvalidArgument(f"--token-file {token_file} holds no token; expected one line of printable ASCII")
    return Credentials(cert, key, ca, token, insecure)


def _read(path: Path | None, flag: str) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidArgument(f"{flag} {path} cannot be read: {error.strerror or error}") from None


def _check_pair(what: str, pem: bytes, whose: str, key: bytes, now: datetime.datetime) -> None:
    """gRPC says of a key that does not fit no more than that it cannot bind the port."""
    from cryptography.exceptions import UnsupportedAlgorithm  # only who uses TLS pays for the import
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    certificate = _certificates(what, pem)[0]  # the process's own; those of its chain follow
    if wrong := _out_of_date(certificate, now):
        raise InvalidArgument(f"{what} {wrong}")
    try:
        private = load_pem_private_key(key, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InvalidArgument(f"{whose} is not a PEM private key without a passphrase") from None
    if private.public_key() != certificate.public_key():
        raise InvalidArgument(f"{whose} is not the key of {what}; give the two that were made together")


def _check_authorities(what: str, pem: bytes, now: datetime.datetime) -> None:
    """While a CA is replaced, its file holds two: one that is good will do."""
    wrongs = [_out_of_date(certificate, now) for certificate in _certificates(what, pem)]
    if all(wrongs):
        raise InvalidArgument(f"{what} {wrongs[0]}")


def _certificates(what: str, pem: bytes) -> list[x509.Certificate]:
    from cryptography import x509  # only who uses TLS pays for the import

    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise InvalidArgument(f"{what} is not a PEM certificate") from None


def _out_of_date(certificate: x509.Certificate, now: datetime.datetime) -> str:
    """What is wrong with its dates, in words; empty where they are right."""
    if certificate.not_valid_after_utc < now:
        return f"expired on {certificate.not_valid_after_utc:%Y-%m-%d}; renew it"
    if certificate.not_valid_before_utc > now:
        return f"is valid only from {certificate.not_valid_before_utc:%Y-%m-%d}; check the clock"
    return ""


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("utf-8", "replace")


PLAINTEXT = Credentials()
"""No TLS, no token: what everything starts with, on loopback."""
