"""A node's data plane over HTTPS, one connection pool for each transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

# TLS and certificates are imported when they are used: they take a quarter of a command's start, and most need none.
from dsg.transfer import client

if TYPE_CHECKING:
    from dsg.transfer.client import asks
    from dsg.transfer.client.identity import Endpoint, Identity


class HttpsDataPlane:
    """`cluster_remote.DataPlane` by `dsg.transfer.client`."""

    @contextmanager
    def reader(self, endpoint: Endpoint, uid: str, identity: Identity) -> Iterator[asks.VersionReader]:
        """Return what reads the transaction's version."""
        with client.Connection(endpoint, uid, identity) as connection:
            yield client.Reader(connection)

    @contextmanager
    def writer(self, endpoint: Endpoint, uid: str, identity: Identity) -> Iterator[asks.StageWriter]:
        """Return what fills the transaction's stage."""
        with client.Connection(endpoint, uid, identity) as connection:
            yield client.Writer(connection)
