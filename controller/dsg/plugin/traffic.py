"""What a command sent and received, as a document."""

from __future__ import annotations

from dsg.plugin.cluster_remote import ClusterRemote


def traffic(remote: ClusterRemote) -> dict[str, int]:
    """Return the bytes that went to and from the data plane: bodies, without heads and TLS."""
    return {"sent": remote.traffic.sent, "received": remote.traffic.received}
