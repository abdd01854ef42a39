"""What reconciling needs of the Kubernetes API, and the objects as they come from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from dsg.api.reasons import Reason, reason

Raw = Mapping[str, Any]
"""An object as the API server sent it."""


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Names one object; `namespace` is empty for a cluster-scoped kind."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        """Return the key as kubectl users write it."""
        where = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind} {where}{self.name}"


def key_of(obj: Raw) -> Key:
    """Return the key of an object."""
    metadata = obj["metadata"]
    return Key(obj["kind"], metadata.get("namespace", ""), metadata["name"])


@dataclass(frozen=True, slots=True)
class EventDraft:
    """An Event to be posted: a reason from the registry and a sentence."""

    reason: str
    message: str

    @property
    def entry(self) -> Reason:
        """Return the reason's entry in the registry."""
        return reason(self.reason)


class ClusterError(Exception):
    """Raised when the API server could not be asked or said no; the write can be tried again later."""


class Conflict(ClusterError):
    """Raised when the object has changed since it was read; a newer one comes through the watch."""


class Gone(ClusterError):
    """Raised when the object no longer exists."""


class Forbidden(ClusterError):
    """Raised when the operator has not been given the right."""


class Secrets(Protocol):
    """Reads of Secrets. Raises ClusterError, Forbidden, Gone."""

    def secret(self, namespace: str, name: str) -> Mapping[str, str]:
        """Return a Secret's entries, each in base64 as the API has them."""


class Cluster(Protocol):
    """Writes to the Kubernetes API. Every call is one request. Raises ClusterError, Conflict, Gone."""

    def put_status(self, obj: Raw, status: Mapping[str, Any]) -> Raw:
        """Replace an object's status, if the object has not changed since; return the new object."""

    def set_finalizers(self, obj: Raw, finalizers: list[str]) -> Raw:
        """Replace an object's finalizers, if the object has not changed since; return the new object."""

    def delete_object(self, obj: Raw) -> None:
        """Delete an object, if it is still that one (by uid) and has not changed since it was read."""

    def post_event(self, obj: Raw, event: EventDraft) -> None:
        """Post an Event about an object."""
