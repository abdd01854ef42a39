"""Objects from the API as models, parsed once for each resource version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dsg.api.load import InvalidObject, parse_object
from dsg.api.repository import Repository, RepositoryStatus
from dsg.api.storagepool import StoragePool
from dsg.api.synctransaction import SyncTransaction
from dsg.reconcile.cluster import Key, Raw, key_of
from dsg.storage.repository_type import Target


@dataclass(frozen=True, slots=True)
class Parsed:
    """One object: as it came, and as a model or with what is wrong with it."""

    raw: Raw
    model: Repository | StoragePool | SyncTransaction | None
    problems: tuple[str, ...] = ()

    @property
    def key(self) -> Key:
        """Return the object's key."""
        return key_of(self.raw)

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Return the raw metadata."""
        metadata: Mapping[str, Any] = self.raw["metadata"]
        return metadata

    @property
    def deleting(self) -> bool:
        """Return whether the object is being deleted."""
        return self.metadata.get("deletionTimestamp") is not None

    @property
    def status(self) -> Mapping[str, Any]:
        """Return the raw status; empty when there is none."""
        return self.raw.get("status") or {}


def repository_status(parsed: Parsed) -> RepositoryStatus:
    """Return the status that a Repository has now, as far as this version reads it."""
    if isinstance(parsed.model, Repository) and parsed.model.status is not None:
        return parsed.model.status
    return RepositoryStatus()


def target(parsed: Parsed) -> Target | None:
    """Return the repository that an object declares; None when it is no valid Repository."""
    if not isinstance(parsed.model, Repository):
        return None
    metadata, status = parsed.model.metadata, repository_status(parsed)
    return Target(
        namespace=metadata.namespace or "",
        name=metadata.name,
        uid=metadata.uid,
        spec=parsed.model.spec,
        existed=status.storage is not None and bool(status.storage.generation),
    )


class Parser:
    """Parses objects and remembers the newest result of each."""

    def __init__(self) -> None:
        self._known: dict[Key, Parsed] = {}

    def parse(self, obj: Raw) -> Parsed:
        """Return an object as a model; an invalid one is returned with its problems."""
        key = key_of(obj)
        known = self._known.get(key)
        # Not by resource version: the last state of an object that goes has the version of the state before it.
        if known is not None and known.raw is obj:
            return known
        try:
            model = parse_object(dict(obj))
        except InvalidObject as error:
            parsed = Parsed(obj, None, tuple(error.problems))
        else:
            parsed = Parsed(obj, model)
        self._known[key] = parsed
        return parsed

    def forget(self, present: set[Key]) -> None:
        """Drop what is no longer there."""
        # A copy in one go: others may parse meanwhile.
        for key in list(self._known):
            if key not in present:
                self._known.pop(key, None)
