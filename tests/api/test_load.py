"""Objects as API servers return them, and the words in which invalid ones are refused."""

from __future__ import annotations

import copy
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsg.api.load import InvalidObject, parse_object
from dsg.api.repository import Repository, RepositorySpec, XfsStorage
from tests.api.objects import BASES, patched

SERVER_METADATA = {
    "uid": "0b9c4d0e-4a3e-4a0e-8a0e-0123456789ab",
    "generation": 3,
    "resourceVersion": "4711",
    "creationTimestamp": "2026-11-25T16:00:00Z",
    "deletionTimestamp": "2026-11-25T17:00:00Z",
    "deletionGracePeriodSeconds": 0,
    "finalizers": ["dsg.hrdag.org/node-a"],
    "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"},
    "labels": {"team": "data"},
    "generateName": "justice-",
    "selfLink": "/apis/dsg.hrdag.org/v1alpha1/namespaces/research/repositories/justice",
    "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "b", "controller": True}],
    "managedFields": [{"manager": "kubectl", "operation": "Apply", "fieldsV1": {"f:spec": {}}, "time": "2026"}],
}


def problems(raw: dict[str, Any]) -> list[str]:
    with pytest.raises(InvalidObject) as caught:
        parse_object(raw)
    return caught.value.problems


@pytest.mark.parametrize("base", BASES)
def test_what_a_server_adds_to_metadata_is_no_problem(base: str) -> None:
    raw = patched(base, {f"metadata.{key}": value for key, value in SERVER_METADATA.items()})
    raw["metadata"]["sharding"] = {"of": "a newer Kubernetes"}
    assert parse_object(raw).metadata.resource_version == "4711"


def test_unknown_metadata_in_a_file_is_a_misspelling() -> None:
    assert problems(patched("zfs", {"metadata.anotations": {}})) == [
        "metadata.anotations: unknown field; did you mean annotations?"
    ]


def test_status_of_a_newer_operator_is_read_as_far_as_known() -> None:
    status = {
        "observedGeneration": 3,
        "tides": "high",
        "storage": {"location": "tank/dsg/justice", "moon": 1},
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "Reconciled",
                "message": "",
                "lastTransitionTime": "2026-11-25T16:00:00Z",
                "severity": "none",
            }
        ],
    }
    parsed = parse_object(patched("zfs", {"status": status}))
    assert isinstance(parsed, Repository)
    assert parsed.status is not None
    assert parsed.status.observed_generation == 3
    assert parsed.status.conditions[0].reason == "Reconciled"


def test_a_status_that_says_something_else_is_not_guessed_at() -> None:
    """Whether a repository existed is read from its status: half a status must not pass for none."""
    assert problems(patched("zfs", {"status": {"storage": {"generation": 7}}})) == [
        "status.storage.generation: must be text, not a number: put it in quotes"
    ]


def test_python_names_are_no_field_names() -> None:
    raw = patched("zfs", {})
    raw["spec"]["data_dirs"] = raw["spec"].pop("dataDirs")
    assert any(text.startswith("spec.data_dirs: unknown field; did you mean dataDirs?") for text in problems(raw))


def test_the_tag_of_a_union_is_not_in_the_path() -> None:
    assert all(".zfs" not in text for text in problems(patched("zfs", {"spec.storage.properties": {}})))


def test_every_problem_is_told_at_once_and_in_the_order_of_the_fields() -> None:
    found = problems(
        patched("zfs", {"spec.storage.node": "A", "spec.owner.uid": -1, "spec.suspend": "no", "spec.x": 1})
    )
    assert [text.partition(":")[0] for text in found] == [
        "spec.storage.node",
        "spec.owner.uid",
        "spec.suspend",
        "spec.x",
    ]


def test_several_rules_of_one_object_are_several_problems() -> None:
    place = "spec.storage.properties"
    found = problems(patched("zfs", {f"{place}.refquota": "1Pi", f"{place}.reservation": "1Pi"}))
    assert [text.partition(":")[0] for text in found] == [f"{place}.reservation", f"{place}.refquota"]


def test_parsing_changes_nothing_of_what_it_reads() -> None:
    raw = patched("zfs", {"spec.suspend": None, "metadata.uid": "u", "metadata.newer": 1})
    before = copy.deepcopy(raw)
    parse_object(raw)
    assert raw == before


@pytest.mark.parametrize("base", BASES)
def test_a_dump_parses_to_the_same_object(base: str) -> None:
    once = parse_object(patched(base, {}))
    assert parse_object(once.model_dump(mode="json", by_alias=True, exclude_none=True)) == once


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(sorted(BASES)), st.data())
def test_whatever_stands_in_a_field_ends_in_an_object_or_in_problems(base: str, data: st.DataObject) -> None:
    raw = patched(base, {})
    place = raw
    while True:
        key = data.draw(st.sampled_from(sorted(place)))
        if not isinstance(place[key], dict) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(json_values)
    try:
        parse_object(raw)
    except InvalidObject as error:
        assert error.problems
        assert all(text and "Input should" not in text for text in error.problems)


@pytest.mark.parametrize("raw", [{}, {"kind": 3}, {"kind": ["Repository"]}, {"kind": None}, {"kind": ""}])
def test_an_object_without_a_kind_is_refused(raw: dict[str, Any]) -> None:
    assert problems(raw)[0].startswith("kind: ")


def test_models_are_built_by_python_names_in_code() -> None:
    storage = XfsStorage(type="xfs", node="a", directory="/data/a", mountpoint="/srv/a")
    assert storage.adopt is False
    assert RepositorySpec.model_fields["data_dirs"].alias == "dataDirs"


def test_the_researchers_side_imports_little() -> None:
    heavy = ["kopf", "kubernetes", "opentelemetry", "structlog", "aiohttp", "lupa", "prometheus_client", "typer"]
    code = "import sys, dsg.api.documents, dsg.api.generate; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {name.partition(".")[0] for name in loaded} & set(heavy)
