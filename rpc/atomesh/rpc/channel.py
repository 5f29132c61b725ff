"""Channels with the settings that the mesh needs, and what gRPC's errors mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from atomesh.core.errors import AtomeshError
from atomesh.core.names import check_dialable
from atomesh.core.status import from_code, from_status
from atomesh.rpc.credentials import PLAINTEXT, Credentials

DETAILS_KEY = "grpc-status-details-bin"
PUSHBACK_KEY = "grpc-retry-pushback-ms"

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""gRPC's own default. Twice of it doubles what one hostile message costs in
memory before anybody has looked at it; half cuts off what other stacks send."""

MAX_STATUS_BYTES = 256 * 1024
"""What the status of an error may take: paid work that broke its contract comes
back in it. Half cuts off long texts; twice only helps what hardly fits a log."""

LOOKAHEAD_BYTES = 1024 * 1024
"""What a stream may have on its way before its reader has read. A mux carries
everything in one stream: with gRPC's 64 KiB it waits a round trip for each, and
1 MiB calls ran at half of unary. Twice of it only helps on long fat ways, and is
memory that every stream that nobody reads may take."""

_OPTIONS: tuple[tuple[str, int | str], ...] = (
    # The default grows to 120 s: an endpoint that came back would stay unused
    # for two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # Each endpoint has a channel and a connection of its own.
    ("grpc.use_local_subchannel_pool", 1),
    # Own attempts only; a second retry policy underneath would multiply them.
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Trailers hold the status, in base64 where the peer wants that.
    ("grpc.max_metadata_size", 2 * MAX_STATUS_BYTES),
    ("grpc.absolute_max_metadata_size", 2 * MAX_STATUS_BYTES),
    ("grpc.http2.lookahead_bytes", LOOKAHEAD_BYTES),
    # A dead peer is noticed within 15 s even when nothing is sent to it; our
    # servers allow it (see server.py), and others are pinged only while busy.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # Without this one a ping may stay unanswered for a minute, whatever the
    # timeout above says (seen on grpcio 1.85 with a peer under SIGSTOP).
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 0),
)


def open_channel(
    address: str, credentials: Credentials = PLAINTEXT, options: Sequence[tuple[str, int | str]] = ()
) -> grpc.aio.Channel:
    """A channel to one address; it connects when first used. `options` stand over ours.

    Raises:
        InvalidArgument: it is no address to dial, or plaintext off loopback.
    """
    check_dialable(address)
    secure = credentials.for_channel(address)
    merged = tuple({**dict(_OPTIONS), **dict(options)}.items())  # of two with one name gRPC takes the first
    if secure is None:
        return grpc.aio.insecure_channel(address, options=merged)
    return grpc.aio.secure_channel(address, secure, options=merged)


_CAUSES = (
    ("certificate has expired", "the server's certificate has expired; renew it where the server runs"),
    ("certificate is not yet valid", "the server's certificate is not valid yet; check the clocks of both machines"),
    ("is not in peer certificate", "the server's certificate names other hosts; dial one that it names"),
    ("Hostname Verification Check", "the server's certificate names other hosts; dial one that it names"),
    ("CERTIFICATE_VERIFY_FAILED", "the server's certificate is not signed by --tls-ca; give the CA that signed it"),
    ("WRONG_VERSION_NUMBER", "the server speaks plaintext; leave --tls-ca out, or give the server a certificate"),
    ("http1.x server", "that is an HTTP/1.1 server, not a gRPC one; is it the port of /metrics?"),
    (
        "Socket closed",
        "the server hung up at once; if it speaks TLS, give --tls-ca, for mTLS --tls-cert and --tls-key too",
    ),
)
"""What gRPC says of a connection that never came about, and what it means to an operator."""


def cause_of(message: str) -> str:
    """Why no connection came about and what to do, where gRPC's message gives that away; else empty."""
    if "failed to connect" not in message:
        return ""
    return next((cause for sign, cause in _CAUSES if sign in message), "")


def from_rpc_error(error: grpc.aio.AioRpcError) -> AtomeshError:
    """The error that a failed call carries."""
    code: Any = error.code()
    number: int = code.value[0]
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                status = status_pb2.Status.FromString(value)
            except DecodeError:
                break  # details that do not parse: the plain code still stands
            if status.code != number:
                break  # details of something else, such as OK: nor may they speak for it
            return from_status(status)
    message = error.details() or code.name
    cause = cause_of(message)
    return from_code(number, f"{cause} ({message})" if cause else message)
