"""Where channels and servers come from: gRPC, or a network that a test made.

Everything in the library that talks to somebody takes a `network` and opens
its channels and servers through it. So a whole mesh, unchanged, runs over
sockets, or in memory and virtual time with faults that a seed decides
(`atomesh.testing`). What a network gives are grpc.aio's own abstract classes:
whoever uses them cannot tell which one it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import grpc.aio

from atomesh.rpc.channel import open_channel
from atomesh.rpc.credentials import PLAINTEXT, Credentials

Options = Sequence[tuple[str, int | str]]
"""gRPC's channel arguments, such as `("grpc.so_reuseport", 0)`."""


class Network(Protocol):
    """Opens channels and makes servers."""

    def channel(self, address: str, credentials: Credentials = PLAINTEXT, options: Options = ()) -> grpc.aio.Channel:
        """A channel to one address; it connects when first used. `options` stand over ours.

        Raises:
            InvalidArgument: it is no address to dial, or plaintext off loopback.
        """
        ...

    def server(self, options: Options = ()) -> grpc.aio.Server:
        """A server that listens nowhere yet."""
        ...


class GrpcNetwork:
    """The real one."""

    def channel(self, address: str, credentials: Credentials = PLAINTEXT, options: Options = ()) -> grpc.aio.Channel:
        """See `open_channel`."""
        return open_channel(address, credentials, options)

    def server(self, options: Options = ()) -> grpc.aio.Server:
        """A grpc.aio server."""
        return grpc.aio.server(options=options)


GRPC_NETWORK = GrpcNetwork()
