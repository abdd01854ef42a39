"""What `kubectl dsg support` gathers: of the cluster, as far as the caller may look, and of the working copy."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import yaml

from dsg.api.names import GROUP
from dsg.plugin.checks import Check
from dsg.plugin.commands.version import installed
from dsg.plugin.kubectl import Kubectl, KubectlError
from dsg.plugin.session import Place
from dsg.telemetry.bundle import Bundle
from dsg.telemetry.names import HIDDEN, Names
from dsg.telemetry.redaction import redact
from dsg.workcopy.base import Base
from dsg.workcopy.layout import CONFLICTS, LOCK, ORIGIN, SCAN, UNCHANGED, Layout

REPOSITORIES, TRANSACTIONS, POOLS = f"repositories.{GROUP}", f"synctransactions.{GROUP}", f"storagepools.{GROUP}"
SYSTEM = "dsg-system"
"""Namespace of the operators' Leases, unless told otherwise."""
_TEXTS = frozenset({"message", "note", "reason", "advice", "notLookedAt"})
_OWN_ANNOTATION = f"{GROUP}/"
_DROPPED = frozenset({"managedFields", "selfLink"})

Object = Mapping[str, Any]


def gather(kubectl: Kubectl, system: Kubectl, place: Place | None, checks: Iterable[Check], *, names: bool) -> Bundle:
    """Return the bundle. What may not be looked at is named in it with the reason.

    `system` looks into the namespace of the operators' Leases.
    """
    bundle = Bundle("kubectl dsg support")
    listed = {
        "repositories": _list(kubectl, REPOSITORIES),
        "synctransactions": _list(kubectl, TRANSACTIONS),
        "storagepools": _list(kubectl, POOLS),
        "events": _list(kubectl, "events"),
        "leases": _list(system, "leases.coordination.k8s.io"),
    }
    objects = {kind: found for kind, found in listed.items() if not isinstance(found, KubectlError)}
    paths = _paths(place) if place is not None else []
    hider = None if names else Names(_known(objects, place), [*_named(objects), *_parts(paths)])

    def clean(value: Any) -> Any:
        return redact(value if hider is None else _walk(value, hider.hide))

    bundle.add("versions.yaml", "versions of all parts, and of this machine's system", _yaml(clean(_versions(kubectl))))
    said = [{"name": c.name, "verdict": c.verdict.value, "message": c.message, "advice": c.advice} for c in checks]
    bundle.add("doctor.yaml", "what `kubectl dsg doctor` finds", _yaml(clean(said)))
    for kind, found in listed.items():
        if isinstance(found, KubectlError):
            text = _yaml(clean({"notLookedAt": found.message}))
        else:
            text = "---\n".join(_yaml(clean(_shorn(one, hider))) for one in found if _ours(kind, one))
        bundle.add(f"cluster/{kind}.yaml", f"{kind} as the API server has them", text)
    if place is not None:
        bundle.add("workingcopy.yaml", "state of the working copy: numbers, no contents", _yaml(clean(_state(place))))
        if names:
            bundle.add("paths.txt", "paths of the version that was synced last", "".join(f"{p!r}\n" for p in paths))
    bundle.about = [
        f"Made by {installed()}. No Secret was asked for; what looks like a password, token or key was replaced.",
        "Names of people and of Repositories are in it. "
        + (
            "Names of data files are in it, as asked for with --names."
            if names
            else f"Names of data files and messages of versions were replaced by {HIDDEN}; no content is in it."
        ),
    ]
    return bundle


# ---- the cluster


def _list(kubectl: Kubectl, kind: str) -> list[Object] | KubectlError:
    try:
        return list(kubectl.list(kind))
    except KubectlError as error:
        return error


def _ours(kind: str, obj: Object) -> bool:
    if kind != "events":
        return True
    about = obj.get("involvedObject") or obj.get("regarding") or {}
    return str(about.get("apiVersion", "")).startswith(f"{GROUP}/")


def _shorn(obj: Object, hider: Names | None) -> dict[str, Any]:
    """Return an object without what others wrote into its metadata and, unless wanted, without names of data."""
    found: dict[str, Any] = json.loads(json.dumps(obj))
    metadata = found.get("metadata") or {}
    for name in _DROPPED:
        metadata.pop(name, None)
    annotations = metadata.get("annotations") or {}
    kept = {k: v if k.startswith(_OWN_ANNOTATION) else "[not ours]" for k, v in annotations.items()}
    if kept:
        metadata["annotations"] = kept
    if hider is not None:
        spec, status = found.get("spec") or {}, found.get("status") or {}
        if found.get("kind") == "SyncTransaction" and "message" in spec:
            spec["message"] = f"[{len(str(spec['message']))} characters]"
        if isinstance(head := status.get("head"), dict) and "message" in head:
            head["message"] = f"[{len(str(head['message']))} characters]"
        if isinstance(conflicts := status.get("conflicts"), dict) and "items" in conflicts:
            conflicts["items"] = [{**item, "path": HIDDEN} for item in conflicts["items"]]
        for rule in ("dataDirs", "ignore"):
            if rule in spec:
                spec[rule] = f"[{_count(spec[rule])} entries]"
    return found


def _count(rule: Any) -> int:
    if isinstance(rule, Mapping):
        return sum(_count(value) for value in rule.values())
    return len(rule) if isinstance(rule, list) else 1


def _named(objects: Mapping[str, list[Object]]) -> Iterator[str]:
    """Yield names of data that objects state in fields of their own; messages may repeat them."""
    for obj in objects.get("synctransactions", []):
        for item in ((obj.get("status") or {}).get("conflicts") or {}).get("items") or []:
            yield str(item.get("path", ""))
        if message := (obj.get("spec") or {}).get("message"):
            yield str(message)


def _known(objects: Mapping[str, list[Object]], place: Place | None) -> Iterator[str]:
    """Yield what has a slash and names no data."""
    for found in objects.values():
        for obj in found:
            metadata = obj.get("metadata") or {}
            yield f"{metadata.get('namespace')}/{metadata.get('name')}"
    for kind in ("repositories", "storagepools"):
        for obj in objects.get(kind, []):
            storage = (obj.get("spec") or {}).get("storage") or {}
            status = (obj.get("status") or {}).get("storage") or {}
            for name in ("dataset", "mountpoint", "directory", "root", "mountRoot"):
                if storage.get(name):
                    yield str(storage[name])
            if status.get("mountedAt"):
                yield str(status["mountedAt"])
    if place is not None:
        yield place.title()
        yield str(place.root)


# ---- the working copy


def _paths(place: Place) -> list[str]:
    """Return the paths of the version that was synced last; none where its record can't be read."""
    with suppress(Exception):
        base = Base(Layout(place.root).base)
        state = base.state()
        if state is not None:
            return [entry.path for entry in base.entries(state.tree)]
    return []


def _parts(paths: Iterable[str]) -> set[str]:
    """Return the names that paths are made of, but for such short ones that they stand in any text."""
    found = set()
    for path in paths:
        found.add(path)
        found.update(part for part in path.split("/") if "." in part or len(part) > 8)  # noqa: PLR2004
    return found


def _state(place: Place) -> dict[str, Any]:
    layout, origin = Layout(place.root), place.origin
    said: dict[str, Any] = {
        "repository": place.title(),
        "repositoryUid": origin.repository_uid,
        "context": origin.context,
        "syncUnderWay": layout.journal.exists(),
        "conflictsToDecide": layout.conflicts.exists(),
        "metadata": {},
    }
    try:
        state = Base(layout.base).state()
        said["synced"] = None
        if state is not None:
            header = state.header
            said["synced"] = {"version": header.version, "digest": header.chain, "entries": state.covered}
    except Exception as error:  # whatever is wrong with it is what the bundle is for
        said["synced"] = f"can't be read: {type(error).__name__}: {error}"
    for name in (ORIGIN, LOCK, SCAN, UNCHANGED, CONFLICTS, "base", "store", "sync", "undo", "kept"):
        path = layout.metadata / name
        if path.is_dir() and not path.is_symlink():
            files = [one for one in path.rglob("*") if one.is_file() and not one.is_symlink()]
            said["metadata"][name] = {"files": len(files), "bytes": sum(one.stat().st_size for one in files)}
        elif path.exists():
            said["metadata"][name] = {"bytes": path.stat().st_size}
    return said


# ---- small things


def _versions(kubectl: Kubectl) -> dict[str, Any]:
    said: dict[str, Any] = {
        "kubectl-dsg": installed(),
        "python": sys.version.split()[0],
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
    try:
        said["kubectl"], said["apiServer"] = kubectl.versions()
    except KubectlError as error:
        said["kubectl"] = f"not known: {error.message}"
    return said


def _walk(value: Any, hide: Callable[[str], str]) -> Any:
    """Return a value with names hidden in texts for people; other fields are checked by their keys elsewhere."""
    if isinstance(value, Mapping):
        return {
            key: hide(item) if isinstance(item, str) and key in _TEXTS else _walk(item, hide)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_walk(item, hide) for item in value]
    return value


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=True, allow_unicode=True, width=1_000_000)
