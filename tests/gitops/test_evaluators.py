"""Health as Argo CD and Flux compute it: Argo CD's settings, Lua machine and health engine, kstatus, Flux's CEL.

They judge what a real kube-apiserver gives while the operator works; the files in testdata come from the same scenes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dsg.api.names import RECONCILE_REQUESTED
from gitops.generate import CONFIG_MAP, CUSTOMIZATIONS
from lab import verdicts
from tests.gitops.export import ANY_TIME, bare
from tests.gitops.judged import condition, expected, message
from tests.gitops.scenes import Scene, play
from tests.gitops.site import Site

pytestmark = pytest.mark.kube

GROUP = CUSTOMIZATIONS / "dsg.hrdag.org"
EXPRESSIONS = CONFIG_MAP.parent.parent / "flux" / "health-check-exprs.yaml"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Scene]]:
    with Site(tmp_path_factory.mktemp("site") / "api") as site:
        yield list(play(site))


def _argocd(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return verdicts.argocd(yaml.safe_load(CONFIG_MAP.read_text()), objects)


def _flux(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return verdicts.flux(yaml.safe_load(EXPRESSIONS.read_text()), objects)


def test_argocd_sees_every_state_as_it_should(scenes: list[Scene]) -> None:
    judged = _argocd([obj for _, obj in scenes])
    for (name, obj), found in zip(scenes, judged, strict=True):
        if obj["metadata"].get("deletionTimestamp"):
            # What is being deleted, Argo CD judges by itself.
            assert found["health"] == {"status": "Progressing", "message": "Pending deletion"}, name
        else:
            assert found["health"] == {"status": expected(obj).argocd, "message": message(obj)}, name
    assert {found["health"]["status"] for found in judged} == {"Healthy", "Progressing", "Degraded", "Suspended"}


def test_flux_sees_every_state_as_it_should(scenes: list[Scene]) -> None:
    judged = _flux([obj for _, obj in scenes])
    for (name, obj), found in zip(scenes, judged, strict=True):
        wanted = expected(obj)
        terminating = bool(obj["metadata"].get("deletionTimestamp"))
        assert found["kstatus"] == ("Terminating" if terminating else wanted.kstatus), (name, found)
        assert found["expressions"] == wanted.expressions, (name, found)
    assert {found["kstatus"] for found in judged} == {"Current", "InProgress", "Failed", "Terminating"}


def test_the_exported_files_are_what_these_scenes_give(scenes: list[Scene]) -> None:
    for name, obj in scenes:
        exported = yaml.safe_load((GROUP / obj["kind"] / "testdata" / f"{name}.yaml").read_text())
        assert expected(exported) == expected(obj), name
        for told in obj["status"].get("conditions", []):
            then = condition(exported, told["type"])
            assert (then["status"], then["reason"]) == (told["status"], told["reason"]), (name, told["type"])
    assert len(scenes) == len(list(GROUP.glob("*/testdata/*.yaml")))


ACTION_TESTS = sorted(GROUP.glob("*/actions/action_test.yaml"))


def _without_time(obj: dict[str, Any]) -> dict[str, Any]:
    annotations = obj["metadata"].get("annotations", {})
    if RECONCILE_REQUESTED in annotations:
        annotations[RECONCILE_REQUESTED] = ANY_TIME
    return obj


def _load(file: Path) -> dict[str, Any]:
    obj: dict[str, Any] = yaml.safe_load(file.read_text())
    return obj


@pytest.mark.parametrize("file", ACTION_TESTS, ids=[file.parent.parent.name for file in ACTION_TESTS])
def test_argocd_runs_the_actions(file: Path) -> None:
    listed = _load(file)
    for test in listed["discoveryTests"]:
        (found,) = _argocd([_load(file.parent / test["inputPath"])])
        offered = [{"name": a["name"], "disabled": a.get("disabled", False)} for a in found["actions"]]
        assert sorted(offered, key=lambda a: a["name"]) == sorted(test["result"], key=lambda a: a["name"])
    for test in listed["actionTests"]:
        (found,) = _argocd([_load(file.parent / test["inputPath"])])
        assert _without_time(found["results"][test["action"]]) == _load(file.parent / test["expectedOutputPath"])


def test_an_action_changes_nothing_else_of_a_live_object(scenes: list[Scene]) -> None:
    """Lua can't tell an empty list from an empty map; Argo CD puts back what it can."""
    objects = [bare(obj) for _, obj in scenes if obj["kind"] != "SyncTransaction"]
    for obj, found in zip(objects, _argocd(objects), strict=True):
        for name, made in found["results"].items():
            wanted = copy.deepcopy(obj)
            if name == "reconcile":
                wanted["metadata"].setdefault("annotations", {})[RECONCILE_REQUESTED] = ANY_TIME
            else:
                wanted["spec"]["suspend"] = name == "suspend"
            assert _without_time(made)["spec"] == wanted["spec"], (obj["metadata"]["name"], name)
            assert made["metadata"] == wanted["metadata"], (obj["metadata"]["name"], name)
