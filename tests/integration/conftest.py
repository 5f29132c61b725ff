"""Certificates made on the spot, for every component that speaks TLS."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from atomesh.rpc.credentials import Credentials

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


class Authority:
    """Signs certificates for 127.0.0.1 and localhost; `ca` is the file of what others believe."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.folder, self.name = folder, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.ca = folder / f"{name}.crt"
        self.ca.write_bytes(self._signed(name, self._key, NOW - 9 * DAY, NOW + 9 * DAY, authority=True))

    def issue(self, name: str, *, since: float = -2, until: float = 2) -> tuple[Path, Path]:
        """Certificate and key, valid from `since` to `until` days from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        paths = (self.folder / f"{name}.crt", self.folder / f"{name}.key")
        paths[0].write_bytes(self._signed(name, key, NOW + since * DAY, NOW + until * DAY))
        paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return paths

    def credentials(self, name: str = "", *, mutual: bool = False, **days: float) -> Credentials:
        """Those of one who is `name` (nobody where empty), and believes this authority where it is a client or asks."""
        ca = self.ca.read_bytes() if mutual or not name else None
        if not name:
            return Credentials(tls_ca=ca)
        cert, key = self.issue(name, **days)
        return Credentials(cert.read_bytes(), key.read_bytes(), ca)

    def _signed(
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey,
        since: datetime.datetime,
        until: datetime.datetime,
        *,
        authority: bool = False,
    ) -> bytes:
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(since)
            .not_valid_after(until)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if not authority:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def another_authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "another")
