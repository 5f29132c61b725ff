"""Files of credentials that are wrong, and TLS and mTLS over real connections, right and wrong."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from grpc_health.v1 import health_pb2, health_pb2_grpc

from atomesh.core.errors import ConnectionLost, InvalidArgument, RegistryUnavailable
from atomesh.registry import MemoryStorage, RegistryServer
from atomesh.rpc import PLAINTEXT, Credentials, RegistryClient, load_credentials
from atomesh.rpc.channel import from_rpc_error
from atomesh.rpc.services import HealthService


def _health(_: Any, server: Any) -> None:
    HealthService(server).set({"": True})


async def _ask(running: Any) -> Any:
    stub: Any = health_pb2_grpc.HealthStub(running.channel)
    try:
        return (await stub.Check(health_pb2.HealthCheckRequest(), timeout=10)).status
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error)


def test_files_become_credentials(authority: Any, tmp_path: Path) -> None:
    cert, key = authority.issue("server")
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    loaded = load_credentials(tls_cert=cert, tls_key=key, tls_ca=authority.ca, token_file=token)
    assert loaded == Credentials(cert.read_bytes(), key.read_bytes(), authority.ca.read_bytes(), "s3cret")
    assert loaded.has_tls
    assert load_credentials() == PLAINTEXT


def test_secrets_are_not_shown(authority: Any) -> None:
    credentials = authority.credentials("server", mutual=True)
    assert credentials.tls_key is not None
    shown = repr(Credentials(credentials.tls_cert, credentials.tls_key, credentials.tls_ca, token="hunter2"))
    assert "hunter2" not in shown
    assert "PRIVATE KEY" not in shown


@pytest.mark.parametrize("flag", ["tls_cert", "tls_key"])
def test_half_a_pair_is_refused(authority: Any, flag: str) -> None:
    cert, key = authority.issue("server")
    with pytest.raises(InvalidArgument, match="go together"):
        load_credentials(**{flag: cert if flag == "tls_cert" else key})
    with pytest.raises(InvalidArgument, match="go together"):
        Credentials(**{flag: b"x"})  # type: ignore[arg-type] # bytes each


def test_a_file_that_cannot_be_read_is_named_with_its_flag(authority: Any, tmp_path: Path) -> None:
    cert, key = authority.issue("server")
    missing = tmp_path / "missing"
    for given, flag in (
        ({"tls_cert": missing, "tls_key": key}, "--tls-cert"),
        ({"tls_cert": cert, "tls_key": missing}, "--tls-key"),
        ({"tls_ca": missing}, "--tls-ca"),
        ({"token_file": missing}, "--token-file"),
        ({"token_file": tmp_path}, "--token-file"),
    ):
        with pytest.raises(InvalidArgument, match=f"^{flag} .* cannot be read: (No such file|Is a directory)"):
            load_credentials(**given)


@pytest.mark.parametrize(
    "content", [b"", b"junk", b"\xff\xfe\x00", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_what_is_no_certificate_is_refused(authority: Any, tmp_path: Path, content: bytes) -> None:
    bad = tmp_path / "bad.crt"
    bad.write_bytes(content)
    _, key = authority.issue("server")
    with pytest.raises(InvalidArgument, match=r"--tls-cert .*bad\.crt is not a PEM certificate"):
        load_credentials(tls_cert=bad, tls_key=key)
    with pytest.raises(InvalidArgument, match=r"--tls-ca .*bad\.crt is not a PEM certificate"):
        load_credentials(tls_ca=bad)


def test_a_key_that_is_none_is_locked_or_is_anothers_is_refused(authority: Any, tmp_path: Path) -> None:
    cert, _ = authority.issue("server")
    _, others = authority.issue("other")
    locked = tmp_path / "locked.key"
    secret = ec.generate_private_key(ec.SECP256R1())
    locked.write_bytes(secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"pass")))
    for key, said in (
        (cert, "is not a PEM private key without a passphrase"),
        (locked, "is not a PEM private key without a passphrase"),
        (others, "is not the key of --tls-cert"),
    ):
        with pytest.raises(InvalidArgument, match=f"--tls-key {key} {said}"):
            load_credentials(tls_cert=cert, tls_key=key)


def test_a_certificate_is_refused_after_and_before_its_time(authority: Any) -> None:
    cert, key = authority.issue("old", since=-9, until=-1)
    with pytest.raises(InvalidArgument, match=r"--tls-cert .*old\.crt expired on \d{4}-\d\d-\d\d; renew it"):
        load_credentials(tls_cert=cert, tls_key=key)
    cert, key = authority.issue("early", since=1, until=3)
    with pytest.raises(InvalidArgument, match=r"is valid only from \d{4}-\d\d-\d\d; check the clock"):
        load_credentials(tls_cert=cert, tls_key=key)
    much_later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=99)
    with pytest.raises(InvalidArgument, match=r"--tls-ca .* expired on"):
        load_credentials(tls_ca=authority.ca, now=much_later)


def test_while_a_ca_is_replaced_one_that_is_good_will_do(authority: Any, tmp_path: Path) -> None:
    expired, _ = authority.issue("old", since=-9, until=-1)
    both = tmp_path / "both.crt"
    both.write_bytes(expired.read_bytes() + authority.ca.read_bytes())
    assert load_credentials(tls_ca=both).tls_ca == both.read_bytes()


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"  \n", b"two\nlines", b"nul\0", b"t\xc3\xb6ken", b"\xff", b"a\tb", b"\x1b[1m"]
)
def test_what_is_no_token_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(InvalidArgument, match="holds no token; expected one line of printable ASCII"):
        load_credentials(token_file=path)


async def test_tls_end_to_end(authority: Any, serve: Any) -> None:
    async with serve(
        add=_health, credentials=authority.credentials("server"), client=authority.credentials()
    ) as running:
        assert await _ask(running) == health_pb2.HealthCheckResponse.SERVING


async def test_mtls_end_to_end(authority: Any, serve: Any) -> None:
    server, client = authority.credentials("server", mutual=True), authority.credentials("client", mutual=True)
    async with serve(add=_health, credentials=server, client=client) as running:
        assert await _ask(running) == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize(
    ("server", "client", "said"),
    [
        ("mutual", "nobody", "hung up at once; if it speaks TLS, give --tls-ca, for mTLS --tls-cert"),
        ("mutual", "stranger", "hung up at once"),
        ("tls", "plaintext", "hung up at once; if it speaks TLS, give --tls-ca"),
        ("plaintext", "nobody", "the server speaks plaintext; leave --tls-ca out"),
        ("expired", "nobody", "the server's certificate has expired; renew it where the server runs"),
        ("early", "nobody", "not valid yet; check the clocks"),
        ("tls", "elsewhere", "not signed by --tls-ca; give the CA that signed it"),
    ],
)
async def test_a_connection_that_cannot_be_says_why_and_what_to_do(
    authority: Any, another_authority: Any, serve: Any, server: str, client: str, said: str
) -> None:
    stranger = another_authority.credentials("stranger")
    sides = {
        "plaintext": PLAINTEXT,
        "tls": authority.credentials("server"),
        "mutual": authority.credentials("server", mutual=True),
        "expired": authority.credentials("old", since=-9, until=-1),
        "early": authority.credentials("early", since=1, until=3),
        "nobody": authority.credentials(),
        "stranger": Credentials(stranger.tls_cert, stranger.tls_key, authority.ca.read_bytes()),
        "elsewhere": another_authority.credentials(),
    }
    async with serve(add=_health, credentials=sides[server], client=sides[client]) as running:
        error = await _ask(running)
    assert type(error) is ConnectionLost
    assert said in error.message
    assert "\n" not in error.message


async def test_a_registry_with_an_expired_certificate_is_not_said_to_be_absent(authority: Any) -> None:
    old = authority.credentials("old", since=-9, until=-1)
    async with (
        RegistryServer(storage=MemoryStorage(), credentials=old) as server,
        RegistryClient(server.address, authority.credentials()) as client,
    ):
        with pytest.raises(RegistryUnavailable, match=f"^registry {server.address}: the server's certificate has exp"):
            await client.discover()


async def test_plaintext_off_loopback_needs_to_be_said(serve: Any) -> None:
    for address in ("0.0.0.0:0", "192.0.2.1:7400", "[::]:0", "host.example:7400"):
        with pytest.raises(InvalidArgument, match=r"plaintext, which is not loopback; .* or say --insecure"):
            PLAINTEXT.for_channel(address)
        with pytest.raises(InvalidArgument, match="refusing to listen on"):
            PLAINTEXT.for_server(address)
        assert Credentials(insecure=True).for_channel(address) is None
        assert Credentials(insecure=True).for_server(address) is None
        with pytest.raises(InvalidArgument, match="plaintext"):
            RegistryServer(storage=MemoryStorage(), bind=address)
    for address in ("127.0.0.1:0", "[::1]:7400", "localhost:7400"):
        assert PLAINTEXT.for_channel(address) is None
        assert PLAINTEXT.for_server(address) is None


def test_a_server_that_asks_for_certificates_needs_one_of_its_own(authority: Any) -> None:
    with pytest.raises(InvalidArgument, match="needs a certificate of its own"):
        authority.credentials().for_server("127.0.0.1:0")
