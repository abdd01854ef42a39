"""An older config as the YAML of a Repository. What nobody has said is marked and refused by the API, never guessed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from dsg.api.documents import check, read_documents
from dsg.api.names import API_VERSION
from dsg.api.repository import Repository
from dsg.migration.provenance import DIRECTORY
from dsg.migration.shapes import OldConfig

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9/._-]*")
_WIDE = 1 << 30
_SUFFIX = re.compile(r"[.][^./]+")


@dataclass(frozen=True, slots=True)
class Ask:
    """A value that nobody has said: stands in the place of it."""

    question: str
    written: str = "null"
    """What is written there: something that the API refuses."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A Repository as far as it is known."""

    text: str
    """YAML, with a comment for each thing that is to be filled in."""
    asked: tuple[tuple[str, str], ...]
    """Fields to be filled in, and what is to be said there."""
    wrong: tuple[str, ...]
    """What the API would refuse beside those."""
    notes: tuple[str, ...]
    """What has no counterpart, or another meaning from now on."""
    repository: Repository | None
    """The object, where the text is one."""

    @property
    def complete(self) -> bool:
        """Whether it can be applied as it is."""
        return self.repository is not None


@dataclass(slots=True)
class _Notes:
    said: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        self.said.append(text)


def _questions(old: OldConfig) -> dict[str, Any]:
    """Return the spec of which nothing is known but the kind of storage."""
    at = f"the old repository lies on host {old.host} at {old.path}/{old.name}"
    storage: dict[str, Any] = {"type": old.type, "node": Ask(f"storage node that is to hold it; {at}")}
    if old.type == "zfs":
        storage |= {
            "pool": Ask("imported ZFS pool on that node; the config does not say which"),
            "dataset": Ask("new dataset, directly below the root of a StoragePool"),
            "mountpoint": Ask("path at which it is to be read on the node; not where the old one lies"),
            "properties": {
                "compression": Ask("such as zstd or lz4"),
                "recordsize": Ask("such as 128Ki, or 1Mi for large files read as a whole"),
                "atime": Ask("true or false"),
                "xattr": Ask('sa, dir or "off"'),
                "quota": Ask("most space for all versions, such as 500Gi, or none"),
                "refquota": Ask("most space for one version, or none"),
                "reservation": Ask("space kept free for it, or none"),
            },
        }
    else:
        storage |= {
            "directory": Ask("new directory that is to hold it, directly below that of a StoragePool"),
            "mountpoint": Ask("path at which it is to be read on the node; not where the old one lies"),
        }
    return {
        "storage": storage,
        "owner": {
            "uid": Ask("numeric user who owns the files on the node"),
            "gid": Ask("numeric group of the team"),
            "mode": Ask('permission of the root, in quotes, such as "2770"'),
        },
    }


def draft(
    old: OldConfig, given: Mapping[str, Any], *, name: str = "", namespace: str = "", provenance: bool = True
) -> Draft:
    """Return a config as a Repository.

    `given` is a fragment of its spec: what the config could not know. It comes before what the config says. With
    `provenance`, dataDirs get the directory that `kubectl dsg migrate repository` needs.
    """
    notes = _Notes()
    kind = given.get("storage", {}).get("type") if isinstance(given.get("storage"), Mapping) else None
    if kind in {"zfs", "xfs"} and kind != old.type:
        notes.add(f"the storage is of type {kind}, as you said, not {old.type}, as the config says")
        old = replace(old, type=kind, pool="")
    spec = _questions(old)
    if old.pool:
        spec["storage"]["pool"] = old.pool
    spec["dataDirs"] = _data_dirs(old, notes, provenance=provenance)
    ignore = _ignore(old, notes)
    if ignore:
        spec["ignore"] = ignore
    spec["access"] = Ask("readers, writers and admins, users or groups; {} leaves it to Kubernetes alone", "TODO")
    _overlay(spec, given, "spec", notes)
    if "access" in spec and spec["access"] == {}:
        del spec["access"]
    notes.said += [f"{key} has no counterpart: {why}" for key, why in old.left.items()]
    if namespace == "":
        notes.add("no namespace is stated; kubectl's -n or kustomize says it")
    metadata: dict[str, Any] = {"name": _name(old, name, notes)}
    if namespace:
        metadata["namespace"] = namespace
    wanted = {"apiVersion": API_VERSION, "kind": "Repository", "metadata": metadata, "spec": spec}
    return _drafted(wanted, _title(old), notes)


def _drafted(wanted: Mapping[str, Any], title: Iterable[str], notes: _Notes) -> Draft:
    asked = tuple(_asked(wanted, ""))
    text = "".join(f"# {_shown(line)}\n" for line in title) + "".join(f"{line}\n" for line in _lines(wanted, ""))
    (found,) = check(read_documents(text, "the Repository"))
    places = {path for path, _ in asked}
    wrong = tuple(str(problem) for problem in found.problems if problem.path not in places)
    repository = found.resource if isinstance(found.resource, Repository) else None
    return Draft(text, asked, wrong, tuple(notes.said), repository)


def _title(old: OldConfig) -> Iterator[str]:
    yield f"Made from a DSG config of the {old.shape} shape."
    yield f"The old repository {old.name!r} is of type {old.type}, on host {old.host!r}, in directory {old.path!r}."


def _name(old: OldConfig, name: str, notes: _Notes) -> Any:
    wanted = name or old.name
    if re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*", wanted) is None:
        if name:
            # The validation says what is wrong with it.
            return name
        return Ask(f"Kubernetes has no such name as {old.name!r}: lower-case letters, digits and '-'", "TODO")
    if wanted != old.name:
        notes.add(f"the repository {old.name!r} is called {wanted!r} from now on")
    return wanted


def _data_dirs(old: OldConfig, notes: _Notes, *, provenance: bool) -> list[str]:
    found = list(old.data_dirs)
    if "data_dirs" not in old.stated:
        notes.add(f"data_dirs is not stated; DSG took {', '.join(old.data_dirs)}")
    if "*" in found:
        if len(found) > 1:
            notes.add("data_dirs holds '*' and more; '*' alone says the same")
        return ["*"]
    if provenance and DIRECTORY not in found:
        notes.add(
            f"dataDirs also has {DIRECTORY}, where `kubectl dsg migrate repository` puts the old manifests; "
            "--no-provenance leaves it out"
        )
        found.append(DIRECTORY)
    return found


def _ignore(old: OldConfig, notes: _Notes) -> dict[str, list[str]]:
    missing = [one for one in ("names", "suffixes") if one not in old.stated]
    if missing:
        notes.add(f"{' and '.join(missing)} to ignore are not stated; DSG's own are taken")
    names = [one for one in old.names if "/" not in one and one not in {"", ".", ".."}]
    suffixes = [one for one in old.suffixes if _SUFFIX.fullmatch(one)]
    paths = [one.rstrip("/") for one in old.paths]
    good = [one for one in paths if one and not {"", ".", ".."} & set(one.split("/"))]
    for what, before, after in (("name", old.names, names), ("suffix", old.suffixes, suffixes), ("path", paths, good)):
        for one in before:
            if one not in after:
                notes.add(f"the {what} {one!r} to ignore has no counterpart: it never matched anything in DSG")
    if names:
        notes.add("a name to ignore now leaves out a directory of that name with all in it; in DSG, files alone")
    if good:
        notes.add("a path to ignore now leaves out all that lies below it; in DSG, that path alone")
    found = {"names": names, "suffixes": suffixes, "paths": list(dict.fromkeys(good))}
    return {key: value for key, value in found.items() if value}


def _overlay(spec: dict[str, Any], given: Mapping[str, Any], path: str, notes: _Notes) -> None:
    """Put what somebody said in the place of what the config said or left open."""
    for key, value in given.items():
        where = f"{path}.{key}"
        before = spec.get(key)
        if isinstance(before, dict) and isinstance(value, Mapping):
            _overlay(before, value, where, notes)
            continue
        if key in spec and not isinstance(before, Ask | dict) and before != value:
            notes.add(f"{where} is {value!r}, as you said, not {before!r}, as the config says")
        spec[key] = value


def _asked(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Ask):
        yield path, value.question
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _asked(item, f"{path}.{key}" if path else str(key))


def _lines(value: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, item in value.items():
        name = f"{indent}{_scalar(str(key))}:"
        if isinstance(item, Ask):
            yield f"{name} {item.written}  # TODO: {_shown(item.question)}"
        elif isinstance(item, Mapping) and item:
            yield name
            yield from _lines(item, indent + "  ")
        elif isinstance(item, list) and item and all(isinstance(one, str) for one in item):
            yield name
            yield from (f"{indent}  - {_scalar(one)}" for one in item)
        else:
            yield f"{name} {_scalar(item)}"


def _scalar(value: Any) -> str:
    """Return a value in one line, so that kubectl, PyYAML and any other reader take it for the same."""
    if isinstance(value, str):
        word = _PLAIN.fullmatch(value) is not None and read_documents(value, "")[:1]
        same = word and word[0].raw == value and yaml.safe_load(value) == value
        return value if same else yaml.safe_dump(value, default_style='"', width=_WIDE, allow_unicode=True).rstrip("\n")
    return json.dumps(value)


def _shown(text: str) -> str:
    """Return text for a comment: whatever an old file holds stays in its line."""
    return "".join(character if character.isprintable() else "?" for character in text)
