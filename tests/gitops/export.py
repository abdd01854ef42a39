"""Writes testdata and tests of the scripts for Argo CD, from a real kube-apiserver: `python -m tests.gitops.export`."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from dsg.api.names import RECONCILE_REQUESTED
from dsg.api.reasons import REPOSITORY
from dsg.telemetry.logs import configure
from gitops.generate import CUSTOMIZATIONS
from tests.gitops.judged import expected, message
from tests.gitops.scenes import play
from tests.gitops.site import Site

_HEAD = """\
# From a kube-apiserver {version}, with the operator at work on its model of ZFS (python -m tests.gitops.export).
"""


ANY_TIME = "0001-01-01T00:00:00Z"
"""Stands for the time at which somebody asked."""


def bare(obj: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object without the record of who wrote which field, which no script reads."""
    result = copy.deepcopy(dict(obj))
    result["metadata"].pop("managedFields", None)
    return result


def _write(folder: Path, objects: Mapping[str, Mapping[str, Any]], version: str) -> None:
    (folder / "testdata").mkdir(parents=True, exist_ok=True)
    for old in (folder / "testdata").glob("*.yaml"):
        old.unlink()
    tests = []
    for name, obj in objects.items():
        text = _HEAD.format(version=version) + yaml.safe_dump(bare(obj), sort_keys=False, width=1000)
        (folder / "testdata" / f"{name}.yaml").write_text(text)
        health = {"status": expected(obj).argocd, "message": message(obj)}
        tests.append({"inputPath": f"testdata/{name}.yaml", "healthStatus": health})
    (folder / "health_test.yaml").write_text(yaml.safe_dump({"tests": tests}, sort_keys=False, width=1000))


def _write_actions(folder: Path, well: Mapping[str, Any], version: str) -> None:
    """Write what each action makes of an object, and which are offered."""
    kind = well["kind"].lower()
    initial, reconciled = bare(well), bare(well)
    reconciled["metadata"]["annotations"] = {RECONCILE_REQUESTED: ANY_TIME}
    results = {"initial": initial, "reconciled": reconciled}
    calls = [("reconcile", "initial", "reconciled")]
    if well["kind"] == REPOSITORY:
        for name, value in (("suspended", True), ("resumed", False)):
            results[name] = copy.deepcopy(initial)
            results[name]["spec"]["suspend"] = value
        calls += [("suspend", "initial", "suspended"), ("resume", "suspended", "resumed")]
    (folder / "testdata").mkdir(parents=True, exist_ok=True)
    for name, obj in results.items():
        text = _HEAD.format(version=version) + yaml.safe_dump(obj, sort_keys=False, width=1000)
        (folder / "testdata" / f"{name}_{kind}.yaml").write_text(text)

    def offered(name: str) -> list[dict[str, Any]]:
        off = {"reconcile": False, "suspend": name == "suspended", "resume": name != "suspended"}
        return [{"name": action, "disabled": off[action]} for action, *_ in calls]

    discovery = [
        {"inputPath": f"testdata/{name}_{kind}.yaml", "result": offered(name)}
        for name in results
        if name != "reconciled"
    ]
    actions = [
        {
            "action": action,
            "inputPath": f"testdata/{before}_{kind}.yaml",
            "expectedOutputPath": f"testdata/{after}_{kind}.yaml",
        }
        for action, before, after in calls
    ]
    told = {"discoveryTests": discovery, "actionTests": actions}
    (folder / "action_test.yaml").write_text(yaml.safe_dump(told, sort_keys=False, width=1000))


def main() -> None:
    """Play all scenes and write what was seen."""
    configure("error", "json", "node-a")
    by_kind: dict[str, dict[str, Mapping[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as directory, Site(Path(directory) / "api") as site:
        version = yaml.safe_load(site.api.kubectl("admin", "version", "-o", "yaml").stdout)["serverVersion"][
            "gitVersion"
        ]
        for name, obj in play(site):
            by_kind.setdefault(obj["kind"], {})[name] = obj
            print(f"{obj['kind']} {name}", flush=True)
    for kind, objects in by_kind.items():
        folder = CUSTOMIZATIONS / "dsg.hrdag.org" / kind
        _write(folder, objects, version)
        if (folder / "actions").is_dir():
            _write_actions(folder / "actions", objects["well"], version)


if __name__ == "__main__":
    main()
