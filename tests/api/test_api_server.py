"""The CRDs on a real kube-apiserver, as people and operators meet them."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
import yaml

from dsg.api.crd import KINDS
from dsg.api.load import parse_object
from dsg.api.repository import Repository
from dsg.api.storagepool import StoragePool
from lab.errors import LabError
from tests.api.objects import BASES, EXAMPLES, GONE, TREE, patched
from tests.api.server import DEFINITIONS, Refused, Server

pytestmark = pytest.mark.kube

CONDITION = {
    "type": "Ready",
    "status": "True",
    "observedGeneration": 1,
    "reason": "Reconciled",
    "message": "as declared",
    "lastTransitionTime": "2026-11-25T16:00:00Z",
}


def table(text: str) -> list[list[str]]:
    return [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]


class TestDeclaring:
    @pytest.mark.parametrize("name", sorted(BASES.values()))
    def test_examples_are_accepted_as_users_apply_them(self, server: Server, name: str) -> None:
        argv = ("apply", "--dry-run=server", "--validate=strict", "-f", str(EXAMPLES / name))
        assert "created (server dry run)" in server.plane.kubectl("admin", *argv).stdout

    def test_server_side_apply_and_client_side_apply_change_nothing_the_second_time(self, server: Server) -> None:
        raw = patched("full", {"metadata.name": "applied"})
        for argv in (("apply", "--server-side"), ("apply", "--server-side"), ("apply", "--server-side")):
            server.plane.kubectl("admin", *argv, "--validate=strict", "-f", "-", input=json.dumps(raw))
        assert server.get(raw)["metadata"]["generation"] == 1
        server.delete(raw)
        for _ in range(2):
            answer = server.plane.kubectl("admin", "apply", "-f", "-", input=json.dumps(raw)).stdout
        assert answer.strip().endswith("unchanged")
        server.delete(raw)

    @pytest.mark.parametrize(
        ("old", "new", "says"),
        [
            ("compression: zstd", "compression: off", 'spec.storage.properties.compression: Invalid value: "boolean"'),
            ("dataset: tank/dsg", "datset: tank/dsg", 'unknown field "spec.storage.datset"'),
            (
                "dataset: tank/dsg/justice",
                "dataset: pond/dsg/justice",
                "dataset must lie in pool: write it as POOL/path",
            ),
            ("type: zfs", "type: rclone", "object stores have no atomic commit"),
            ('mode: "2770"', "mode: 2770", "spec.owner.mode"),
            ("quota: 500Gi", "quota: 500G", "a limit is a whole number with a binary suffix"),
            ("    pool: tank\n", "", "type zfs needs field pool"),
        ],
    )
    def test_kubectl_shows_our_words_to_its_user(self, server: Server, old: str, new: str, says: str) -> None:
        text = (EXAMPLES / "repository-minimal.yaml").read_text()
        assert old in text
        result = server.plane.kubectl(
            "admin", "apply", "--validate=strict", "-f", "-", input=text.replace(old, new), check=False
        )
        assert result.returncode == 1
        assert says in result.stderr

    def test_immutability_as_kubectl_tells_it(self, server: Server) -> None:
        raw = patched("zfs", {"metadata.name": "fixed"})
        with server.existing(raw):
            patch = json.dumps({"spec": {"storage": {"node": "node-b"}}})
            argv = ("patch", "drepo", "-n", "research", "fixed", "--type=merge", "-p", patch)
            result = server.plane.kubectl("admin", *argv, check=False)
        assert (
            "spec.storage.node: Forbidden: node can't be changed: data does not move by editing a spec" in result.stderr
        )

    def test_a_default_is_stated_only_where_it_says_something(self, server: Server) -> None:
        created = server.create(patched("zfs", {"metadata.name": "bare"}), dry_run=True)
        spec = created["spec"]
        assert (spec["nameRules"], spec["deletionPolicy"], spec["driftPolicy"]) == ("portable", "Retain", "Correct")
        assert set(spec) == {"storage", "owner", "dataDirs", "nameRules", "deletionPolicy", "driftPolicy"}
        assert set(spec["storage"]) == set(patched("zfs", {})["spec"]["storage"])
        assert server.create(patched("tx", {"spec.intent": GONE}), dry_run=True)["spec"]["intent"] == "Stage"


class TestStatus:
    @pytest.mark.parametrize("base", BASES)
    def test_nobody_has_looked_yet(self, server: Server, base: str) -> None:
        with server.existing(patched(base, {})) as created:
            assert created["status"] == {"observedGeneration": -1}
            parsed = parse_object(created)
        assert parsed.status is not None
        assert parsed.status.observed_generation == -1

    def test_a_status_at_creation_is_not_believed(self, server: Server) -> None:
        raw = patched("zfs", {"status": {"observedGeneration": 1, "conditions": [CONDITION]}})
        with server.existing(raw) as created:
            assert created["status"] == {"observedGeneration": -1}

    def test_spec_and_status_are_written_apart(self, server: Server) -> None:
        raw = patched("zfs", {})
        with server.existing(raw) as created:
            created["spec"]["suspend"] = True
            created["status"] = {"observedGeneration": 1, "conditions": [CONDITION]}
            by_status = server.replace(created, subresource="status")
            assert "suspend" not in by_status["spec"]
            assert by_status["status"]["conditions"][0]["reason"] == "Reconciled"
            by_status["spec"]["suspend"] = True
            by_status["status"] = {"observedGeneration": 9}
            by_spec = server.replace(by_status)
            assert by_spec["metadata"]["generation"] == 2
            assert by_spec["status"]["observedGeneration"] == 1

    def test_a_status_reads_back_as_written_without_additions(self, server: Server) -> None:
        full: dict[str, dict[str, Any]] = {
            "zfs": {
                "observedGeneration": 1,
                "conditions": [CONDITION],
                "storage": {"location": "tank/dsg/justice", "generation": "g1", "used": "1.23Gi", "usedPercent": 3},
                "head": {"version": "s1", "digest": "0" * 64, "author": "alice", "time": "2026-11-25T16:00:00Z"},
                "drift": [{"subject": "tank/dsg/justice", "field": "atime", "wanted": "off", "found": "on"}],
                "plan": ["set atime"],
            },
            "pool": {"observedGeneration": 1, "health": "ONLINE", "errors": {"read": 1}, "scan": {"function": "scrub"}},
            "tx": {"observedGeneration": 1, "phase": "Staging", "timings": [{"step": "clone", "milliseconds": 5}]},
        }
        for base, status in full.items():
            with server.existing(patched(base, {})) as created:
                created["status"] = status
                written = server.replace(created, subresource="status")
                assert written["status"] == status
                assert parse_object(written).status is not None

    def test_two_conditions_of_one_type_are_refused(self, server: Server) -> None:
        with server.existing(patched("zfs", {})) as created:
            created["status"]["conditions"] = [CONDITION, CONDITION]
            with pytest.raises(Refused, match="Duplicate value"):
                server.replace(created, subresource="status")

    def test_two_writers_of_conditions_do_not_disturb_each_other(self, server: Server) -> None:
        raw = patched("zfs", {})
        with server.existing(raw):
            for manager, kind in (("dsg-operator", "Ready"), ("dsg-monitor", "Stalled")):
                body = {
                    "apiVersion": raw["apiVersion"],
                    "kind": raw["kind"],
                    "metadata": {"name": raw["metadata"]["name"]},
                    "status": {"conditions": [{**CONDITION, "type": kind}]},
                }
                path = server.path("Repository", raw["metadata"]["name"], "status") + f"?fieldManager={manager}"
                server.call("PATCH", path, body, "application/apply-patch+yaml")
            assert {c["type"] for c in server.get(raw)["status"]["conditions"]} == {"Ready", "Stalled"}


class TestReading:
    def test_what_a_server_returns_is_parsed_whoever_wrote_it(self, server: Server) -> None:
        raw = patched("full", {"metadata.name": "lived", "metadata.finalizers": ["dsg.hrdag.org/node-a"]})
        server.plane.kubectl("admin", "apply", "-f", "-", input=json.dumps(raw))
        server.plane.kubectl("admin", "-n", "research", "label", "drepo", "lived", "team=data")
        server.plane.kubectl("admin", "-n", "research", "delete", "drepo", "lived", "--wait=false")
        found = server.get(raw)
        assert found["metadata"]["managedFields"]
        parsed = parse_object(found)
        assert isinstance(parsed, Repository)
        assert parsed.metadata.deletion_timestamp
        assert parsed.spec == parse_object(raw).spec
        found["metadata"]["finalizers"] = []
        server.replace(found)

    def test_explain_teaches(self, server: Server) -> None:
        def explain(path: str) -> str:
            return " ".join(server.plane.kubectl("admin", "explain", path).stdout.split())

        assert "Parent dataset of the repository, such as tank/dsg/justice" in explain(
            "repository.spec.storage.dataset"
        )
        assert "Needed for type zfs" in explain("repository.spec.storage.dataset")
        assert "Most space that all versions" in explain("repository.spec.storage.properties.quota")
        assert "ENUM: Correct Report" in explain("repository.spec.driftPolicy")
        assert "dataDirs <[]string> -required-" in explain("repository.spec")
        assert "Warn when this part of the storage is taken" in explain("storagepool.spec.thresholds.capacityPercent")
        assert "Only Stage may become something else" in explain("synctransaction.spec.intent")

    def test_columns_answer_the_first_questions(self, server: Server) -> None:
        with server.existing(patched("zfs", {})) as created:
            created["status"] = {
                "observedGeneration": 1,
                "conditions": [CONDITION],
                "storage": {"location": "tank/dsg/justice", "used": "1.23Gi", "usedPercent": 3},
                "head": {"version": "s7", "digest": "0" * 64, "author": "alice", "time": "2026-11-25T16:00:00Z"},
            }
            server.replace(created, subresource="status")
            head, row = table(server.plane.kubectl("admin", "get", "drepo", "-n", "research").stdout)
            wide = server.plane.kubectl("admin", "get", "drepo", "-n", "research", "-o", "wide").stdout
        assert head == ["NAME", "READY", "REASON", "NODE", "USED", "USE%", "VERSION", "AGE"]
        assert row[:7] == ["justice", "True", "Reconciled", "node-a", "1.23Gi", "3", "s7"]
        assert "/srv/dsg/justice" in wide
        assert "as declared" in wide

    def test_columns_of_pools_and_transactions(self, server: Server) -> None:
        with server.existing(patched("pool", {})) as created, server.existing(patched("tx", {})):
            created["status"] = {"observedGeneration": 1, "health": "ONLINE", "capacityPercent": 42, "free": "1.50Ti"}
            server.replace(created, subresource="status")
            pool_head, pool_row = table(server.plane.kubectl("admin", "get", "dpool").stdout)
            head, row = table(server.plane.kubectl("admin", "get", "dtx", "-n", "research").stdout)
        assert pool_head[3:8] == ["NODE", "POOL", "HEALTH", "CAPACITY%", "FREE"]
        assert pool_row[-6:-1] == ["node-a", "tank", "ONLINE", "42", "1.50Ti"]
        assert head == ["NAME", "REPOSITORY", "OPERATION", "PHASE", "VERSION", "AUTHOR", "AGE"]
        assert row[:3] == ["justice-alice-7f3k", "justice", "Sync"]

    def test_each_node_selects_its_own(self, server: Server) -> None:
        other = patched("xfs", {"metadata.name": "elsewhere"})
        with server.existing(patched("zfs", {})), server.existing(other), server.existing(patched("pool", {})):
            argv = ("get", "drepo", "-A", "-o", "name", "--field-selector", "spec.storage.node=node-b")
            assert server.plane.kubectl("admin", *argv).stdout.split() == ["repository.dsg.hrdag.org/elsewhere"]
            pools = ("get", "dpool", "-o", "name", "--field-selector", "spec.storage.node=node-b")
            assert server.plane.kubectl("admin", *pools).stdout == ""

    def test_transactions_are_selected_by_node_repository_and_intent(self, server: Server) -> None:
        with (
            server.existing(patched("tx", {})),
            server.existing(patched("tx", {"metadata.name": "b", "spec.node": "b"})),
        ):
            for selector, count in (
                ("spec.node=node-a", 1),
                ("spec.repositoryRef.name=justice", 2),
                ("spec.repositoryRef.name=justice,spec.node=b,spec.intent=Stage", 1),
                ("spec.intent=Abort", 0),
            ):
                path = server.path("SyncTransaction") + f"?fieldSelector={selector}"
                assert len(server.call("GET", path)["items"]) == count, selector

    def test_other_fields_select_nothing_silently(self, server: Server) -> None:
        with pytest.raises(LabError, match="field label not supported"):
            server.plane.kubectl("admin", "get", "drepo", "-A", "--field-selector", "spec.storage.pool=tank")

    def test_short_names_and_the_category_are_ours_alone(self, server: Server) -> None:
        listed = server.plane.kubectl("admin", "api-resources", "-o", "wide", "--no-headers").stdout
        shorts = [word for line in listed.splitlines() for word in re.split(r"\s+", line)[1].split(",")]
        for kind in KINDS:
            assert shorts.count(kind.short) == 1
        with server.existing(patched("zfs", {})), server.existing(patched("tx", {})):
            assert len(server.plane.kubectl("admin", "get", "dsg", "-n", "research", "-o", "name").stdout.split()) == 2
            everything = server.plane.kubectl("admin", "get", "all", "-n", "research", "-o", "name").stdout
        assert "dsg.hrdag.org" not in everything


class TestUpgrade:
    def test_applying_the_same_crds_again_changes_nothing(self, server: Server) -> None:
        def generations() -> list[int]:
            found = json.loads(server.plane.kubectl("admin", "get", "crd", "-o", "json").stdout)["items"]
            return [item["metadata"]["generation"] for item in found if item["spec"]["group"] == "dsg.hrdag.org"]

        before = generations()
        server.plane.kubectl("admin", "apply", "--server-side", *DEFINITIONS)
        assert generations() == before == [1, 1, 1]

    def test_a_rule_that_came_later_does_not_lock_an_older_object(self, server: Server) -> None:
        """Validation ratcheting (Kubernetes 1.33): a field that breaks a newer rule may stay while others change."""
        crd = yaml.safe_load((TREE / "crds" / "dsg.hrdag.org_storagepools.yaml").read_text())
        crd["spec"]["names"] = {
            "kind": "OldPool", "listKind": "OldPoolList", "plural": "oldpools", "singular": "oldpool",
        }  # fmt: skip
        crd["metadata"]["name"] = "oldpools.dsg.hrdag.org"
        strict = json.dumps(crd)
        schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        schema["properties"]["spec"]["properties"]["storage"]["properties"]["mountRoot"][
            "x-kubernetes-validations"
        ] = []
        crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        server.call("POST", crds, crd)
        path = "/apis/dsg.hrdag.org/v1alpha1/oldpools"
        raw = {**patched("pool", {"spec.storage.mountRoot": "srv/", "metadata.name": "old"}), "kind": "OldPool"}
        try:
            created = _when_served(server, path, raw)
            current = server.call("GET", f"{crds}/oldpools.dsg.hrdag.org")
            newer = json.loads(strict)
            newer["metadata"]["resourceVersion"] = current["metadata"]["resourceVersion"]
            server.call("PUT", f"{crds}/oldpools.dsg.hrdag.org", newer)
            _until_refused(server, path, {**raw, "metadata": {"name": "new"}})
            created["spec"]["thresholds"]["capacityPercent"] = 70
            assert server.call("PUT", f"{path}/old", created)["spec"]["thresholds"]["capacityPercent"] == 70
        finally:
            server.call("DELETE", f"{crds}/oldpools.dsg.hrdag.org")
        assert isinstance(parse_object(patched("pool", {})), StoragePool)


def _when_served(server: Server, path: str, raw: dict[str, Any]) -> Any:
    """Create an object as soon as its kind is served."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return server.call("POST", path, raw)
        except Refused as error:
            if error.code != 404 or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _until_refused(server: Server, path: str, raw: dict[str, Any]) -> None:
    """Wait until the API server goes by the new schema."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            server.call("POST", f"{path}?dryRun=All", raw)
        except Refused as error:
            assert "a path is absolute" in error.message
            return
        time.sleep(0.05)
    pytest.fail("the new rule is not enforced")
