"""What the operator tells the data plane: which transaction may send to, or read from, which tree, and until when.

The data plane is another process, without access to ZFS or to the Kubernetes API. It serves what it has a grant for.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from dsg.api.synctransaction import Endpoint


@dataclass(frozen=True, slots=True)
class Admission:
    """One open transaction, as the data plane needs to know it."""

    uid: str
    repository: str
    """Namespace and name, `research/justice`."""
    author: str
    client_key: str
    """SHA-256 fingerprint of the client's certificate."""
    mode: Literal["read", "write"]
    root: str
    """Directory of the version's tree, or of the stage."""
    expires: datetime
    size_limit: int | None
    """Bytes that may be sent; None where only the storage sets a limit."""
    version: str | None
    """The version that is read, or that the stage was made from."""


class DataPlaneError(Exception):
    """Raised when the data plane can't be told or asked; the message says why. It can be tried again."""


class DataPlane(Protocol):
    """The data plane of this node. Every method may be repeated, and may raise DataPlaneError."""

    def endpoint(self) -> Endpoint | None:
        """Return where it is reached; None while it has not started for the first time."""

    def last_sign(self) -> float | None:
        """Return when it last said that it lives (seconds since 1970); None where it never did. Raises nothing."""

    def admit(self, admission: Admission) -> None:
        """Let a transaction in."""

    def withdraw(self, uid: str) -> None:
        """Let a transaction in no more; what is being sent just then is not stored."""

    def admitted(self) -> frozenset[str]:
        """Return the uids of the transactions that are let in."""
