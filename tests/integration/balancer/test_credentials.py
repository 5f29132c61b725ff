"""TLS and mTLS from the caller through the registry to the agent, with certificates made on the spot."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from atomesh.agents import AgentServer
from atomesh.balancer import Client
from atomesh.core import Contract, errors
from atomesh.registry import MemoryStorage, RegistryServer
from atomesh.rpc import Credentials
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

Text = Callable[..., TextInput]
ECHO = Contract("echo", TextInput, TextOutput)
NOW = datetime.datetime.now(datetime.UTC)
HOUR = datetime.timedelta(hours=1)


class Authority:
    """Signs certificates for 127.0.0.1."""

    def __init__(self, name: str = "authority") -> None:
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.pem = self._sign(self._name, self._key, authority=True)

    def issue(self, name: str) -> tuple[bytes, bytes]:
        """A certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        return self._sign(subject, key), key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, authority: bool = False) -> bytes:
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - HOUR)
            .not_valid_after(NOW + HOUR)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
            .public_bytes(Encoding.PEM)
        )


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


async def call(registry: Credentials, agent: Credentials, caller: Credentials, message: TextInput, echo: Any) -> Any:
    """One call through a mesh whose parts have these credentials."""
    async with (
        RegistryServer(storage=MemoryStorage(), credentials=registry) as known,
        AgentServer(echo(), registry=known.address, credentials=agent) as server,
        Client(known.address, credentials=caller, timeout=5) as client,
    ):
        await server.registered.wait()
        reply = await client.execute(ECHO, message)
        assert reply.info.endpoint == server.address
        return reply.output


async def test_tls_end_to_end(authority: Authority, text: Text, echo: Any) -> None:
    cert, key = authority.issue("server")
    # An agent is the registry's caller too: it must know whom to believe. A server with a CA asks for certificates.
    agent = Credentials(cert, key, authority.pem, token="s3cret")
    caller = Credentials(*authority.issue("caller"), authority.pem)
    output = await call(Credentials(cert, key, token="s3cret"), agent, caller, text("hi"), echo)
    assert output.result == "hi"


async def test_mtls_end_to_end(authority: Authority, text: Text, echo: Any) -> None:
    parts = [Credentials(*authority.issue(name), authority.pem) for name in ("registry", "agent", "caller")]
    assert (await call(parts[0], parts[1], parts[2], text("hi"), echo)).result == "hi"


async def test_a_caller_without_a_certificate_gets_nowhere_in_an_mtls_mesh(
    authority: Authority, text: Text, echo: Any
) -> None:
    registry, agent = [Credentials(*authority.issue(name), authority.pem) for name in ("registry", "agent")]
    with pytest.raises(errors.RegistryUnavailable, match="mTLS"):
        await call(registry, agent, Credentials(tls_ca=authority.pem), text(), echo)


async def test_a_caller_who_believes_another_authority_is_told_so(authority: Authority, text: Text, echo: Any) -> None:
    registry, agent = [Credentials(*authority.issue(name), authority.pem) for name in ("registry", "agent")]
    another = Credentials(*authority.issue("caller"), Authority("another").pem)
    with pytest.raises(errors.RegistryUnavailable, match="not signed by --tls-ca"):
        await call(registry, agent, another, text(), echo)


async def test_a_caller_in_plaintext_is_told_what_is_missing(authority: Authority, text: Text, echo: Any) -> None:
    registry, agent = [Credentials(*authority.issue(name), authority.pem) for name in ("registry", "agent")]
    with pytest.raises(errors.RegistryUnavailable, match="--tls-ca"):
        await call(registry, agent, Credentials(), text(), echo)


async def test_an_agent_in_plaintext_is_not_spoken_to_by_a_caller_with_tls(
    authority: Authority, text: Text, echo: Any
) -> None:
    caller = Credentials(*authority.issue("caller"), authority.pem)
    async with AgentServer(echo()) as server, Client(endpoints=[server.address], credentials=caller) as client:
        with pytest.raises(errors.UnknownAgent):
            await client.call(ECHO, text())
        assert server.agents["echo"].admission.executions == 0


async def test_plaintext_off_loopback_is_refused_before_anything_is_dialled() -> None:
    for wrong in ({"registry": "10.1.2.3:7400"}, {"endpoints": ["127.0.0.1:7500", "agents.example.org:7500"]}):
        with pytest.raises(errors.InvalidArgument, match=r"plaintext.*--tls-cert"):
            Client(**wrong)
    async with Client("10.1.2.3:7400", credentials=Credentials(insecure=True)):
        pass
