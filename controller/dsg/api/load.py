"""From what an API server or a file holds to a model, or to what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from dsg.api.base import Model, ObjectMeta
from dsg.api.problems import Problem, choice, problems
from dsg.api.repository import Repository
from dsg.api.storagepool import StoragePool
from dsg.api.synctransaction import SyncTransaction

Resource = Repository | StoragePool | SyncTransaction

MODELS: dict[str, type[Repository] | type[StoragePool] | type[SyncTransaction]] = {
    "Repository": Repository,
    "StoragePool": StoragePool,
    "SyncTransaction": SyncTransaction,
}
"""The models by kind."""

_METADATA = frozenset(info.alias or name for name, info in ObjectMeta.model_fields.items())


class InvalidObject(ValueError):
    """An object that breaks the schema; `problems` has a line for each thing that is wrong."""

    def __init__(self, found: Iterable[Problem]) -> None:
        self.found = tuple(found)
        self.problems = [str(problem) for problem in self.found]
        super().__init__("; ".join(self.problems))


def parse_object(raw: Mapping[str, Any]) -> Resource:
    """Return an object of the API as its model.

    Takes whatever an API server returns: fields of a status that only a newer operator knows are left out, and so is
    metadata that only a newer Kubernetes knows. Anything else that the schema does not know is an error, as for the
    API server. Raises `InvalidObject`.
    """
    kind = raw.get("kind")
    if not isinstance(kind, str) or kind not in MODELS:
        raise InvalidObject([Problem("kind", choice(MODELS, kind) if kind else "is required")])
    model = MODELS[kind]
    metadata = raw.get("metadata")
    # An object with a uid has been through an API server, which checks metadata itself.
    if isinstance(metadata, Mapping) and metadata.get("uid"):
        raw = {**raw, "metadata": {key: value for key, value in metadata.items() if key in _METADATA}}
    try:
        return model.model_validate(raw, by_alias=True, by_name=False)
    except ValidationError as error:
        raise InvalidObject(problems(model, error)) from None


def forbidden_update(old: Model, new: Model) -> list[Problem]:
    """Return what an update from `old` to `new` would break: fields that never change, or not in this direction."""
    return [Problem(path, message) for path, message in new.forbidden_changes(old)]
