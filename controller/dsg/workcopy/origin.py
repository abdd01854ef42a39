"""`.dsg/origin.yaml`: which repository a working copy is of, and what of it is synced."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, ValidationError

from dsg.api.base import Model
from dsg.api.repository import Ignore
from dsg.scan.scope import Scope
from dsg.workcopy.errors import Damaged, NotAWorkingCopy
from dsg.workcopy.layout import Layout
from dsg.workcopy.remote import Repository
from dsg.workcopy.writing import write_whole

_TITLE = "# Which repository this working copy is of. kubectl dsg keeps this file.\n"


class Synced(Model):
    """What of a directory is synced, as the Repository said when it was last looked at."""

    data_dirs: list[str]
    """`spec.dataDirs`."""
    ignore: Ignore = Field(default_factory=Ignore)
    """`spec.ignore`."""

    @classmethod
    def of(cls, repository: Repository) -> Synced:
        """Return what a Repository says."""
        return cls(data_dirs=list(repository.data_dirs), ignore=repository.ignore)

    def scope(self) -> Scope:
        """Return what decides about paths."""
        return Scope(self.data_dirs, self.ignore)


class Origin(Model):
    """A working copy's repository."""

    format: Literal["dsg-origin/1"] = "dsg-origin/1"
    """Name and version of the format."""
    context: str = ""
    """Context of the kubeconfig; "" for the current one."""
    namespace: str
    """Namespace of the Repository."""
    repository: str
    """Its name."""
    repository_uid: str = ""
    """Its identity, so that another one of the same name is told from it."""
    synced: Synced
    """What of it is synced, as last seen."""
    name_rules: Literal["portable", "posix"] = "portable"
    """`spec.nameRules`, as last seen."""


def find_root(start: Path) -> Path:
    """Return the working copy that a directory is or lies in. Raises NotAWorkingCopy."""
    start = start.absolute()
    for directory in (start, *start.parents):
        if Layout(directory).origin.is_file():
            return directory
    raise NotAWorkingCopy(start)


def read_origin(layout: Layout) -> Origin:
    """Return the origin of a working copy. Raises NotAWorkingCopy, Damaged."""
    try:
        text = layout.origin.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotAWorkingCopy(layout.root) from None
    try:
        return Origin.model_validate(yaml.safe_load(text))
    except (yaml.YAMLError, ValidationError, UnicodeDecodeError) as error:
        raise Damaged(
            f"{layout.origin} can't be used: {error}. Nothing was changed; correct it, or clone anew and bring your "
            "files there"
        ) from error


def write_origin(layout: Layout, origin: Origin) -> None:
    """Write the origin; `.dsg` is made where it is missing."""
    layout.metadata.mkdir(mode=0o700, exist_ok=True)
    said = origin.model_dump(by_alias=True, mode="json")
    write_whole(layout.origin, (_TITLE + yaml.safe_dump(said, sort_keys=False)).encode())
