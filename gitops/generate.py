"""Writes argocd-cm.yaml, and the table of reasons in docs/gitops.md: `python -m gitops.generate`; `--check` only looks.

The folder `argocd/resource_customizations` has the layout of Argo CD's own repository. A cluster whose Argo CD does not
bring these files takes them from its ConfigMap argocd-cm (operator manual: resource health, resource actions).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from dsg.api.reasons import POOL, REASONS, REPOSITORY, TRANSACTION, Readiness

HERE = Path(__file__).resolve().parent
CUSTOMIZATIONS = HERE / "argocd" / "resource_customizations"
CONFIG_MAP = HERE / "argocd" / "argocd-cm.yaml"
GUIDE = HERE.parent / "docs" / "gitops.md"
_BEGIN, _END = "<!-- reasons: written by `make generate` -->\n", "<!-- end of reasons -->"

_HEAD = """\
# Written by `make generate` from resource_customizations/; change it there.
# Health and actions of our kinds for Argo CD. Merge it into what is there:
#   kubectl patch configmap argocd-cm -n argocd --patch-file argocd-cm.yaml
"""

IGNORED_UPDATES = """\
jsonPointers:
  - /status/storage/used
  - /status/storage/available
  - /status/storage/usedPercent
  - /status/retention
  - /status/openTransactions
  - /status/head
"""
"""Fields of a Repository's status that move with the data: a change of these alone need not refresh an Application."""

IGNORED_POOL_UPDATES = """\
jsonPointers:
  - /status/free
  - /status/capacityPercent
  - /status/fragmentationPercent
  - /status/scan
  - /status/repositories
"""
"""The same of a StoragePool."""


class _Block(str):
    __slots__ = ()


def _represent(dumper: yaml.SafeDumper, text: _Block) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|")


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(_Block, _represent)


def _actions(folder: Path) -> str:
    definitions = [
        {"name": file.parent.name, "action.lua": _Block(file.read_text())}
        for file in sorted(folder.glob("*/action.lua"))
    ]
    told = {"discovery.lua": _Block((folder / "discovery.lua").read_text()), "definitions": definitions}
    return yaml.dump(told, Dumper=_Dumper, sort_keys=False, width=1000)


def _entries() -> Iterator[tuple[str, str]]:
    for folder in sorted(CUSTOMIZATIONS.glob("*/*")):
        kind = f"{folder.parent.name}_{folder.name}"
        yield f"resource.customizations.health.{kind}", (folder / "health.lua").read_text()
        if (folder / "actions").is_dir():
            yield f"resource.customizations.actions.{kind}", _actions(folder / "actions")
    yield "resource.customizations.ignoreResourceUpdates.dsg.hrdag.org_Repository", IGNORED_UPDATES
    yield "resource.customizations.ignoreResourceUpdates.dsg.hrdag.org_StoragePool", IGNORED_POOL_UPDATES


def config_map() -> dict[str, Any]:
    """Return the ConfigMap as an object."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "argocd-cm",
            "namespace": "argocd",
            "labels": {"app.kubernetes.io/name": "argocd-cm", "app.kubernetes.io/part-of": "argocd"},
        },
        "data": dict(_entries()),
    }


def text() -> str:
    """Return the file's content."""
    obj = config_map()
    obj["data"] = {key: _Block(value) for key, value in obj["data"].items()}
    return _HEAD + yaml.dump(obj, Dumper=_Dumper, sort_keys=False, width=1000)


def guide() -> str:
    """Return docs/gitops.md with the table of reasons as it should be."""
    before, mark, rest = GUIDE.read_text().partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (mark and end):
        raise ValueError(f"{GUIDE.relative_to(HERE.parent)} has lost the comments around its table of reasons")
    rows = ["| | Progressing | Degraded | Healthy |", "|---|---|---|---|"]
    for kind in (REPOSITORY, POOL, TRANSACTION):
        cells = [
            ", ".join(
                f"`{reason.name}`" for reason in REASONS if kind in reason.kinds and reason.readiness is readiness
            )
            for readiness in (Readiness.WORKING, Readiness.STALLED, Readiness.READY)
        ]
        rows.append(f"| {kind} | {' | '.join(cells)} |")
    return "\n".join((f"{before}{mark}", *rows, f"{end}{after}"))


def main() -> None:
    """Write the files, or check them."""
    for file, wanted in ((CONFIG_MAP, text()), (GUIDE, guide())):
        if "--check" not in sys.argv[1:]:
            file.write_text(wanted)
        elif not file.exists() or file.read_text() != wanted:
            sys.exit(f"{file.relative_to(HERE.parent)} is not up to date; run `make generate`")


if __name__ == "__main__":
    main()
