"""The client of the data plane: one version's files and manifest read, or contents sent to a transaction's stage.

    identity = Identity.make()                          # its fingerprint goes into spec.clientKey
    with Connection.open(endpoint, uid, identity) as connection:
        reader = Reader(connection, nodes=DirectoryNodes(path))    # of a transaction that reads
        writer = Writer(connection)                                # of one that writes

Lost connections are made again a few times; what then still fails is a TransferError with a message for the user. All
can be done again, and goes on from what is there. Contents are verified by BLAKE3 on both sides, memory is bounded
whatever the sizes. Objects are for one thread; they use several by themselves.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dsg.transfer.client.asks import (
        Completed,
        Progress,
        Report,
        StageWriter,
        VersionReader,
    )
    from dsg.transfer.client.connection import Connection, Traffic
    from dsg.transfer.client.errors import (
        Damaged,
        GrantOver,
        LocalProblem,
        NoSpace,
        Refused,
        SourceChanged,
        Stopped,
        TransferError,
        Unreachable,
        WrongServer,
    )
    from dsg.transfer.client.identity import Endpoint, Identity
    from dsg.transfer.client.nodes import DirectoryNodes, MemoryNodes, NodeCache
    from dsg.transfer.client.reader import Reader
    from dsg.transfer.client.retrying import Persistence
    from dsg.transfer.client.writer import Writer
    from dsg.transfer.contents import Opener, Outgoing, Wanted

__all__ = [
    "Completed",
    "Connection",
    "Damaged",
    "DirectoryNodes",
    "Endpoint",
    "GrantOver",
    "Identity",
    "LocalProblem",
    "MemoryNodes",
    "NoSpace",
    "NodeCache",
    "Opener",
    "Outgoing",
    "Persistence",
    "Progress",
    "Reader",
    "Refused",
    "Report",
    "SourceChanged",
    "StageWriter",
    "Stopped",
    "Traffic",
    "TransferError",
    "Unreachable",
    "VersionReader",
    "Wanted",
    "Writer",
    "WrongServer",
]

_PLACES = {
    "Completed": "dsg.transfer.client.asks",
    "Connection": "dsg.transfer.client.connection",
    "Damaged": "dsg.transfer.client.errors",
    "DirectoryNodes": "dsg.transfer.client.nodes",
    "Endpoint": "dsg.transfer.client.identity",
    "GrantOver": "dsg.transfer.client.errors",
    "Identity": "dsg.transfer.client.identity",
    "LocalProblem": "dsg.transfer.client.errors",
    "MemoryNodes": "dsg.transfer.client.nodes",
    "NoSpace": "dsg.transfer.client.errors",
    "NodeCache": "dsg.transfer.client.nodes",
    "Opener": "dsg.transfer.contents",
    "Outgoing": "dsg.transfer.contents",
    "Persistence": "dsg.transfer.client.retrying",
    "Progress": "dsg.transfer.client.asks",
    "Reader": "dsg.transfer.client.reader",
    "Refused": "dsg.transfer.client.errors",
    "Report": "dsg.transfer.client.asks",
    "SourceChanged": "dsg.transfer.client.errors",
    "StageWriter": "dsg.transfer.client.asks",
    "Stopped": "dsg.transfer.client.errors",
    "Traffic": "dsg.transfer.client.connection",
    "TransferError": "dsg.transfer.client.errors",
    "Unreachable": "dsg.transfer.client.errors",
    "VersionReader": "dsg.transfer.client.asks",
    "Wanted": "dsg.transfer.contents",
    "Writer": "dsg.transfer.client.writer",
    "WrongServer": "dsg.transfer.client.errors",
}


def __getattr__(name: str) -> Any:
    """Import what is used: TLS and certificates take a quarter of a command's start, and most commands need none."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
