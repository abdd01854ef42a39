"""Discovery: which groups, versions and resources there are (the unaggregated documents, and the aggregated one)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from demo.embedded.kinds import Kind

VERSION = {
    "major": "1",
    "minor": "36",
    "gitVersion": "v1.36.0+dsg-embedded",
    "gitCommit": "",
    "gitTreeState": "",
    "buildDate": "",
    "goVersion": "",
    "compiler": "python",
    "platform": "python/any",
}
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_STATUS_VERBS = ["get", "patch", "update"]


def _group_versions(kinds: Iterable[Kind]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for kind in kinds:
        versions = found.setdefault(kind.group, [])
        if kind.version not in versions:
            versions.append(kind.version)
    return found


def api_versions() -> dict[str, Any]:
    """Return the document at /api."""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def group(name: str, versions: Iterable[str]) -> dict[str, Any]:
    """Return the document at /apis/GROUP."""
    listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": listed, "preferredVersion": listed[0]}


def groups(kinds: Iterable[Kind]) -> dict[str, dict[str, Any]]:
    """Return the document of each group but the core one, by name."""
    return {name: group(name, versions) for name, versions in _group_versions(kinds).items() if name}


def group_list(kinds: Iterable[Kind]) -> dict[str, Any]:
    """Return the document at /apis."""
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": list(groups(kinds).values())}


def resources(kinds: Iterable[Kind], group: str, version: str) -> dict[str, Any]:
    """Return the document at /apis/GROUP/VERSION or /api/v1."""
    listed: list[dict[str, Any]] = []
    for kind in kinds:
        if (kind.group, kind.version) != (group, version):
            continue
        shared = {"namespaced": kind.namespaced, "kind": kind.kind}
        entry = {"name": kind.plural, "singularName": kind.singular, **shared, "verbs": list(kind.verbs)}
        if kind.short_names:
            entry["shortNames"] = list(kind.short_names)
        if kind.categories:
            entry["categories"] = list(kind.categories)
        listed.append(entry)
        if kind.has_status:
            listed.append({"name": f"{kind.plural}/status", "singularName": "", **shared, "verbs": _STATUS_VERBS})
    name = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": listed}


def _entry(kind: Kind) -> dict[str, Any]:
    response = {"group": kind.group, "version": kind.version, "kind": kind.kind}
    entry: dict[str, Any] = {
        "resource": kind.plural,
        "responseKind": response,
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular,
        "verbs": list(kind.verbs),
    }
    if kind.short_names:
        entry["shortNames"] = list(kind.short_names)
    if kind.categories:
        entry["categories"] = list(kind.categories)
    if kind.has_status:
        entry["subresources"] = [{"subresource": "status", "responseKind": response, "verbs": _STATUS_VERBS}]
    return entry


def aggregated(kinds: Iterable[Kind], *, core: bool) -> dict[str, Any]:
    """Return the aggregated document at /api (`core`) or /apis."""
    kinds = list(kinds)
    items = []
    for name, versions in _group_versions(kinds).items():
        if (name == "") is not core:
            continue
        listed = [
            {
                "version": version,
                "resources": [_entry(kind) for kind in kinds if (kind.group, kind.version) == (name, version)],
                "freshness": "Current",
            }
            for version in versions
        ]
        items.append({"metadata": {"name": name} if name else {}, "versions": listed})
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}
