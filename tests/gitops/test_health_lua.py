"""Argo CD's health and actions of our kinds, for every reason there is, and for the objects in testdata."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dsg.api.reasons import POOL, REASONS, REPOSITORY, TRANSACTION
from dsg.reconcile.conditions import build, readiness
from gitops.generate import CONFIG_MAP, CUSTOMIZATIONS, config_map, text
from tests.api.objects import TREE
from tests.gitops.judged import expected, message
from tests.gitops.lua_machine import run
from tests.reconcile.specs import pool, repository
from tests.reconcile.test_transactions import transaction

GROUP = CUSTOMIZATIONS / "dsg.hrdag.org"
KINDS = (REPOSITORY, POOL, TRANSACTION)
BASES: dict[str, dict[str, Any]] = {
    REPOSITORY: repository(),
    POOL: pool(),
    TRANSACTION: transaction("first", "Restore", base="s2", restore="s1"),
}
TOLD = [(kind, reason.name) for reason in REASONS if reason.readiness is not None for kind in reason.kinds]


def judge(obj: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = run(GROUP / obj["kind"] / "health.lua", obj)
    return found


def told(kind: str, reason: str, *, observed: int = 3) -> dict[str, Any]:
    """Return an object whose operator gives a reason of Ready."""
    obj = copy.deepcopy(BASES[kind])
    obj["metadata"]["generation"] = 3
    conditions = build(readiness(reason, f"what {reason} is about"), [], observed, "2026-01-01T00:00:00Z")
    obj["status"] = {
        "observedGeneration": observed,
        "conditions": [c.model_dump(mode="json", by_alias=True) for c in conditions],
    }
    return obj


@pytest.mark.parametrize(("kind", "reason"), TOLD, ids=[f"{kind}-{reason}" for kind, reason in TOLD])
def test_health_follows_from_the_reason(kind: str, reason: str) -> None:
    obj = told(kind, reason)
    assert judge(obj) == {"status": expected(obj).argocd, "message": f"{reason}: what {reason} is about"}
    assert judge(told(kind, reason, observed=2))["status"] == "Progressing", "it speaks of an older spec"
    if kind == REPOSITORY:
        obj["spec"]["suspend"] = True
        assert judge(obj)["status"] == expected(obj).argocd
        assert judge(obj)["status"] in {"Suspended", "Degraded"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [None, {}, {"observedGeneration": -1}, {"observedGeneration": 3}])
def test_what_nobody_has_looked_at_is_progressing(kind: str, status: dict[str, Any] | None) -> None:
    obj = copy.deepcopy(BASES[kind])
    obj["metadata"]["generation"] = 3
    if status is not None:
        obj["status"] = status
    assert judge(obj)["status"] == "Progressing"


def _cases(kind: str) -> list[tuple[Path, dict[str, str]]]:
    listed = yaml.safe_load((GROUP / kind / "health_test.yaml").read_text())["tests"]
    return [(GROUP / kind / test["inputPath"], test["healthStatus"]) for test in listed]


CASES = [(file, wanted) for kind in KINDS for file, wanted in _cases(kind)]


@pytest.mark.parametrize(("file", "wanted"), CASES, ids=[f"{file.parent.parent.name}-{file.stem}" for file, _ in CASES])
def test_exported_objects_are_judged_as_listed(file: Path, wanted: dict[str, str]) -> None:
    obj = yaml.safe_load(file.read_text())
    assert judge(obj) == wanted
    assert wanted == {"status": expected(obj).argocd, "message": message(obj)}


@pytest.mark.parametrize("kind", KINDS)
def test_every_exported_object_is_listed_and_every_health_is_shown(kind: str) -> None:
    cases = _cases(kind)
    assert sorted(file for file, _ in cases) == sorted((GROUP / kind / "testdata").glob("*.yaml"))
    shown = {wanted["status"] for _, wanted in cases}
    assert shown >= {"Healthy", "Progressing", "Degraded"} | ({"Suspended"} if kind == REPOSITORY else set())


def _action(kind: str, name: str, obj: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = run(GROUP / kind / "actions" / name / "action.lua", obj)
    return made


def test_suspend_and_resume_change_that_field_alone() -> None:
    obj = repository()
    wanted = copy.deepcopy(obj)
    wanted["spec"]["suspend"] = True
    assert _action(REPOSITORY, "suspend", obj) == wanted
    resumed = _action(REPOSITORY, "resume", wanted)
    assert resumed["spec"].pop("suspend") is False
    assert resumed == obj


@pytest.mark.parametrize("kind", [REPOSITORY, POOL])
def test_reconcile_gives_the_annotation_a_new_value(kind: str) -> None:
    made = _action(kind, "reconcile", BASES[kind])
    stamp = made["metadata"].pop("annotations")["dsg.hrdag.org/requestedAt"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", stamp)
    assert made == BASES[kind]


def test_an_action_is_offered_where_it_does_something() -> None:
    obj = repository()
    for suspended in (False, True):
        obj["spec"]["suspend"] = suspended
        offered = run(GROUP / REPOSITORY / "actions" / "discovery.lua", obj)
        assert {name: action["disabled"] for name, action in offered.items()} == {
            "reconcile": False,
            "suspend": suspended,
            "resume": not suspended,
        }


def test_the_config_map_is_generated_from_the_scripts() -> None:
    assert CONFIG_MAP.read_text() == text()
    assert yaml.safe_load(CONFIG_MAP.read_text()) == config_map()
    scripts = [path.read_text().strip() for path in CUSTOMIZATIONS.rglob("*.lua")]
    everything = yaml.safe_load(CONFIG_MAP.read_text())["data"]
    held = "\n".join(everything.values())
    for script in scripts:
        first = script.splitlines()[0]
        assert first in held


@pytest.mark.parametrize("kind", [REPOSITORY, POOL])
def test_what_argocd_ignores_are_fields_that_we_have(kind: str) -> None:
    plural = {REPOSITORY: "repositories", POOL: "storagepools"}[kind]
    crd = yaml.safe_load((TREE / "crds" / f"dsg.hrdag.org_{plural}.yaml").read_text())
    told = config_map()["data"][f"resource.customizations.ignoreResourceUpdates.dsg.hrdag.org_{kind}"]
    pointers = yaml.safe_load(told)["jsonPointers"]
    assert pointers
    for pointer in pointers:
        schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        for name in pointer.removeprefix("/").split("/"):
            schema = schema["properties"][name]
        assert pointer.startswith("/status/")
