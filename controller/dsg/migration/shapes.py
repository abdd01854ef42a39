"""The config files that DSG has had, and what each says of a repository.

| shape | since | by what it is known |
|---|---|---|
| flat | before May 2025, `.dsg/config.yml` | `repo_name`, `repo_path`, `repo_type`, `host` |
| wrapped | 2025-05-25 | `transport`, and `project` around `data_dirs` and `ignore` |
| named | 2025-06-01 | as wrapped, with a top-level `name` |
| flattened | June 2025 | `transport` without `project` |
| repository | 2025-06-17, DSG 0.4 | `repository` with a type |
| user | `dsg.yml` | who somebody is, and where things are looked for; describes no repository |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import yaml

from dsg.api.documents import read_documents
from dsg.api.repository import REFUSED_TYPES

DATA_DIRS = ("frozen", "input", "output")
"""What DSG took where a config named no data directories."""
NAMES = (".DS_Store", ".RData", ".Rdata", ".Rproj.user", ".rdata", "__pycache__")
SUFFIXES = (".pyc", ".tmp")
"""What DSG ignored where a config did not say."""
_TYPES = ("zfs", "xfs")
_TRANSPORTS = ("ssh", "rclone", "ipfs")
_USER = frozenset({"user_name", "user_id", "default_host", "default_project_path", "local_log", "backup_on_conflict"})


class ShapeError(ValueError):
    """A file that is no config of DSG, or one that DSG itself would refuse; the message says what to do."""


class Shape(StrEnum):
    """Which form a config has."""

    FLAT = "flat"
    WRAPPED = "wrapped"
    NAMED = "named"
    FLATTENED = "flattened"
    REPOSITORY = "repository"
    USER = "user"


@dataclass(frozen=True, slots=True)
class OldConfig:
    """What a config says. Text that it lacks is empty."""

    shape: Shape
    name: str
    type: str = ""
    """zfs or xfs."""
    host: str = ""
    path: str = ""
    """Where the repository's directory lay on the host; the repository itself is NAME below it."""
    pool: str = ""
    data_dirs: tuple[str, ...] = DATA_DIRS
    names: tuple[str, ...] = NAMES
    suffixes: tuple[str, ...] = SUFFIXES
    paths: tuple[str, ...] = ()
    stated: frozenset[str] = frozenset()
    """Which of data_dirs, names, suffixes and paths the file states; the others are DSG's defaults."""
    left: Mapping[str, str] = field(default_factory=dict)
    """Fields that say nothing of a Repository, and why."""
    user: Mapping[str, Any] = field(default_factory=dict)
    """The fields of a user config."""


def read_config(text: str, source: str) -> OldConfig:
    """Return what a config file says; `source` names it in errors. Raises ShapeError."""
    raw = _load(text, source)
    if _USER & set(raw) and not {"name", "repository", "transport", "repo_name", "project"} & set(raw):
        return OldConfig(Shape.USER, "", user=raw)
    if "repo_name" in raw or "repo_path" in raw:
        return _flat(raw, source)
    if "repository" in raw and raw.get("transport") is not None:
        raise ShapeError(f"{source} has both `repository` and `transport`, which DSG refused too: remove one of them")
    if raw.get("repository") is not None:
        return _repository(raw, source)
    if raw.get("transport") is not None or any(isinstance(raw.get(one), dict) for one in _TRANSPORTS):
        return _transport(raw, source)
    raise ShapeError(
        f"{source} is no config that DSG has had: it has neither `repository` nor `transport` nor `repo_name`. "
        "Give .dsgconfig.yml of a project, or .dsg/config.yml of an old one"
    )


def _load(text: str, source: str) -> dict[str, Any]:
    found = read_documents(text, source)
    if len(found) != 1:
        raise ShapeError(f"{source} holds {len(found)} documents; a DSG config is one")
    problems = [str(problem) for problem in found[0].problems]
    if problems:
        raise ShapeError(f"{source}, line {found[0].line('')}: {'; '.join(problems)}")
    # What it says is what DSG read: YAML 1.1 as PyYAML knows it.
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ShapeError(f"{source} is not YAML as DSG read it: {error}") from None
    if not isinstance(raw, dict):
        raise ShapeError(f"{source} is no mapping, as every DSG config is (a .btrsnap.ini says nothing that is needed)")
    return raw


def _flat(raw: dict[str, Any], source: str) -> OldConfig:
    fields = ("repo_name", "repo_path", "host", "repo_type", "data_dirs", "ignored_names", "ignored_suffixes")
    known = {*fields, "ignored_paths"}
    stated = {
        one: raw[key]
        for one, key in (
            ("data_dirs", "data_dirs"),
            ("names", "ignored_names"),
            ("suffixes", "ignored_suffixes"),
            ("paths", "ignored_paths"),
        )
        if raw.get(key) is not None
    }
    return OldConfig(
        Shape.FLAT,
        _text(raw, "repo_name", source),
        _kind(raw.get("repo_type"), "repo_type", source),
        _text(raw, "host", source),
        _text(raw, "repo_path", source),
        left=_unknown(raw, known),
        **_lists(stated, source),
    )


def _transport(raw: dict[str, Any], source: str) -> OldConfig:
    blocks = [one for one in _TRANSPORTS if raw.get(one) is not None]
    kind = raw.get("transport")
    if kind is None or blocks != [kind]:
        raise ShapeError(
            f"{source} says transport {kind!r} and has {' and '.join(f'`{one}`' for one in blocks) or 'no block'} for "
            "it; DSG wanted exactly one block, named like the transport. Correct the file"
        )
    if kind in REFUSED_TYPES:
        raise ShapeError(f"{source}: {REFUSED_TYPES[kind]}")
    block = _mapping(raw, "ssh", source)
    project = _mapping(raw, "project", source) if raw.get("project") is not None else None
    top = _text(raw, "name", source) if raw.get("name") is not None else ""
    own = _text(block, "name", source, "ssh.") if block.get("name") is not None else ""
    if not (top or own):
        raise ShapeError(f"{source} names the repository nowhere: neither `name` nor `ssh.name`. Add `name`")
    shape = (Shape.NAMED if top else Shape.WRAPPED) if project is not None else Shape.FLATTENED
    # DSG let what is in `project` replace what is beside it.
    settings = {**raw, **(project or {})}
    left = _unknown(raw, {"name", "transport", "ssh", "project", "data_dirs", "ignore", "migrated"})
    left |= _unknown(block, {"name", "host", "path", "type"}, "ssh.")
    if project is not None:
        left |= _unknown(project, {"data_dirs", "ignore"}, "project.")
    if top and own and top != own:
        left["ssh.name"] = f"{own!r} differs from `name`, which DSG used"
    return OldConfig(
        shape,
        top or own,
        _kind(block.get("type"), "ssh.type", source),
        _text(block, "host", source, "ssh."),
        _text(block, "path", source, "ssh."),
        left=left | _ignore_left(settings, source),
        **_lists(_settings(settings, source), source),
    )


def _repository(raw: dict[str, Any], source: str) -> OldConfig:
    block = _mapping(raw, "repository", source)
    kind = block.get("type")
    if kind in REFUSED_TYPES:
        raise ShapeError(f"{source}: {REFUSED_TYPES[kind]}")
    project = _mapping(raw, "project", source) if raw.get("project") is not None else {}
    settings = {**raw, **project}
    kind = _kind(kind, "repository.type", source)
    known = {"type", "host", "mountpoint", *(["pool"] if kind == "zfs" else [])}
    left = _unknown(raw, {"name", "repository", "transport", "data_dirs", "ignore", "migrated", "project"})
    left |= _unknown(project, {"data_dirs", "ignore"}, "project.") | _unknown(block, known, "repository.")
    return OldConfig(
        Shape.REPOSITORY,
        _text(raw, "name", source),
        kind,
        _text(block, "host", source, "repository."),
        _text(block, "mountpoint", source, "repository."),
        _text(block, "pool", source, "repository.") if kind == "zfs" else "",
        left=left | _ignore_left(settings, source),
        **_lists(_settings(settings, source), source),
    )


def _settings(raw: dict[str, Any], source: str) -> dict[str, Any]:
    ignore = _mapping(raw, "ignore", source) if raw.get("ignore") is not None else {}
    found = {one: ignore[one] for one in ("names", "suffixes", "paths") if ignore.get(one) is not None}
    if raw.get("data_dirs") is not None:
        found["data_dirs"] = raw["data_dirs"]
    return found


def _ignore_left(raw: dict[str, Any], source: str) -> dict[str, str]:
    if raw.get("ignore") is None:
        return {}
    return _unknown(_mapping(raw, "ignore", source), {"names", "suffixes", "paths"}, "ignore.")


def _lists(stated: Mapping[str, Any], source: str) -> dict[str, Any]:
    found: dict[str, Any] = {"stated": frozenset(stated)}
    for name, value in stated.items():
        # A set, in YAML, is a mapping of names to nothing.
        items = sorted(value) if isinstance(value, set | dict) else value
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise ShapeError(f"{source}: {name} must be a list of texts, not {value!r}; put each in quotes")
        found[name] = tuple(dict.fromkeys(items))
    return found


def _unknown(raw: Mapping[str, Any], known: set[str], prefix: str = "") -> dict[str, str]:
    return {f"{prefix}{key}": "no field of DSG" for key in raw if key not in known}


def _mapping(raw: Mapping[str, Any], name: str, source: str) -> dict[str, Any]:
    value = raw.get(name)
    if not isinstance(value, dict):
        raise ShapeError(f"{source}: `{name}` must be a mapping of names to values, not {value!r}")
    return value


def _kind(value: Any, name: str, source: str) -> str:
    if isinstance(value, str) and value in REFUSED_TYPES:
        raise ShapeError(f"{source}: {REFUSED_TYPES[value]}")
    if value not in _TYPES:
        raise ShapeError(f"{source}: {name} is {value!r}; DSG had zfs and xfs. Correct the file")
    return str(value)


def _text(raw: Mapping[str, Any], name: str, source: str, prefix: str = "") -> str:
    value = raw.get(name)
    if not isinstance(value, str) or not value:
        what = "is missing" if value is None else f"is {value!r}, where text is needed"
        raise ShapeError(f"{source}: {prefix}{name} {what}. DSG needed it too; correct the file")
    return value
