"""What both API servers do: the embedded one is a model of the real one as far as this suite goes."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import yaml

from dsg.plugin.kubectl import Connection, Kubectl
from lab.binaries import kubectl
from tests.demo.http import GROUP, JSON_PATCH, TABLE, Api, Client
from tests.demo.objects import CONDITION, repository, storage_pool


def repositories(namespace: str) -> str:
    return f"{GROUP}/namespaces/{namespace}/repositories"


POOLS = f"{GROUP}/storagepools"


def changed(obj: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {**obj, **fields, "metadata": {**obj["metadata"], **fields.get("metadata", {})}}


# --- creating and reading


def test_creation_sets_what_the_server_owns(client: Client, namespace: str) -> None:
    sent = changed(repository("a", namespace), status={"openTransactions": 4})
    sent["metadata"] |= {"generation": 7, "uid": "mine", "creationTimestamp": "2001-01-01T00:00:00Z"}
    answer = client.post(repositories(namespace), sent)
    assert answer.code == 201
    metadata = answer.body["metadata"]
    assert metadata["generation"] == 1
    assert metadata["uid"] != "mine"
    assert metadata["creationTimestamp"] > "2026"
    assert answer.body["status"]["observedGeneration"] == -1, "nobody has looked at it yet"
    assert answer.body["status"].get("openTransactions", 0) == 0, "status is not written with the object"
    read = client.get(f"{repositories(namespace)}/a")
    assert read.code == 200
    assert read.body == answer.body


def test_defaults_come_from_the_schema(client: Client, namespace: str) -> None:
    spec = client.post(repositories(namespace), repository("a", namespace)).body["spec"]
    assert (spec["deletionPolicy"], spec["driftPolicy"], spec["nameRules"]) == ("Retain", "Correct", "portable")


def test_what_exists_is_not_created_again(client: Client, namespace: str) -> None:
    client.post(repositories(namespace), repository("a", namespace))
    answer = client.post(repositories(namespace), repository("a", namespace))
    assert (answer.code, answer.body["reason"]) == (409, "AlreadyExists")
    assert answer.body["message"] == 'repositories.dsg.hrdag.org "a" already exists'
    assert answer.body["details"] == {"name": "a", "group": "dsg.hrdag.org", "kind": "repositories"}


def test_what_is_missing_is_named(client: Client, namespace: str) -> None:
    answer = client.get(f"{repositories(namespace)}/nope")
    assert (answer.code, answer.body["reason"]) == (404, "NotFound")
    assert answer.body["message"] == 'repositories.dsg.hrdag.org "nope" not found'
    body = repository("a", "no-such-namespace")
    answer = client.post(repositories("no-such-namespace"), body)
    assert (answer.code, answer.body["message"]) == (404, 'namespaces "no-such-namespace" not found')


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"apiVersion": "dsg.hrdag.org/v2"}, "does not match the expected API version (dsg.hrdag.org/v1alpha1)"),
        ({"kind": "Repo"}, 'Repo.dsg.hrdag.org "a" is invalid: kind: Invalid value: "Repo": must be Repository'),
        ({"metadata": {"namespace": "other"}}, "does not match the namespace sent on the request"),
        ({"metadata": {"name": "A_"}}, "a lowercase RFC 1123 subdomain must consist of"),
        ({"metadata": {"labels": {"a": "_"}}}, "a valid label must be an empty string or consist of"),
        ({"metadata": {"resourceVersion": "1"}}, "resourceVersion should not be set on objects to be created"),
    ],
)
def test_an_object_must_be_what_it_is_sent_as(
    client: Client, namespace: str, change: dict[str, Any], message: str
) -> None:
    answer = client.post(repositories(namespace), changed(repository("a", namespace), **change))
    assert answer.code >= 400
    assert message in answer.body["message"]
    assert client.get(repositories(namespace)).body["items"] == []


def test_generated_names(client: Client, namespace: str) -> None:
    body = changed(repository("a", namespace))
    del body["metadata"]["name"]
    body["metadata"]["generateName"] = "made-"
    name = client.post(repositories(namespace), body).body["metadata"]["name"]
    assert name.startswith("made-")
    assert len(name) == len("made-") + 5


def test_a_dry_run_checks_and_changes_nothing(client: Client, namespace: str) -> None:
    assert client.post(repositories(namespace), repository("a", namespace), "?dryRun=All").code == 201
    assert client.get(f"{repositories(namespace)}/a").code == 404
    broken = repository("a", namespace, driftPolicy="Ignore")
    assert client.post(repositories(namespace), broken, "?dryRun=All").code == 422


# --- what is refused


def test_unknown_and_doubled_fields(client: Client, namespace: str) -> None:
    body = changed(repository("a", namespace), metadata={"labelz": {}})
    body["spec"] |= {"suspendd": True}
    text = json.dumps(body).replace('"dataDirs": ["input"]', '"dataDirs": ["input"], "dataDirs": ["output"]').encode()
    strict = client.send("POST", f"{repositories(namespace)}?fieldValidation=Strict", text)
    assert (strict.code, strict.body["reason"]) == (400, "BadRequest")
    assert strict.body["message"].startswith(
        'Repository in version "v1alpha1" cannot be handled as a Repository: strict decoding error: '
    )
    said = {'unknown field "metadata.labelz"', 'unknown field "spec.suspendd"', 'duplicate field "spec.dataDirs"'}
    assert set(strict.body["message"].partition("strict decoding error: ")[2].split(", ")) == said

    warned = client.send("POST", f"{repositories(namespace)}?fieldValidation=Warn", text)
    assert warned.code == 201
    assert {warning.replace("\\", "") for warning in warned.warnings} == said
    assert "suspendd" not in warned.body["spec"], "unknown fields are dropped"
    assert warned.body["spec"]["dataDirs"] == ["output"]
    ignored = client.patch(f"{repositories(namespace)}/a", {"spec": {"x": 1}}, query="?fieldValidation=Ignore")
    assert (ignored.code, ignored.warnings) == (200, ())


def test_a_body_that_is_no_object(client: Client, namespace: str) -> None:
    for body in (b"{nope", b"[]", b"{}"):
        answer = client.send("POST", repositories(namespace), body)
        assert (answer.code, answer.body["reason"]) == (400, "BadRequest"), body
    answer = client.send("POST", repositories(namespace), b"x", content_type="text/plain")
    assert (answer.code, answer.body["reason"]) == (415, "UnsupportedMediaType")


# --- changing


def test_a_write_based_on_something_old_is_a_conflict(client: Client, namespace: str) -> None:
    path = f"{repositories(namespace)}/a"
    first = client.post(repositories(namespace), repository("a", namespace)).body
    second = client.put(path, changed(first, metadata={"labels": {"a": "b"}}))
    assert second.code == 200
    stale = client.put(path, changed(first, metadata={"labels": {"c": "d"}}))
    assert (stale.code, stale.body["reason"]) == (409, "Conflict")
    assert stale.body["message"] == (
        'Operation cannot be fulfilled on repositories.dsg.hrdag.org "a": the object has been modified; please apply '
        "your changes to the latest version and try again"
    )
    version = {"metadata": {"resourceVersion": first["metadata"]["resourceVersion"]}}
    assert client.patch(path, version | {"spec": {"suspend": True}}).code == 409
    assert client.patch(path, {"spec": {"suspend": True}}).code == 200, "a patch without a version is for the newest"
    blind = client.put(path, repository("a", namespace))
    assert (blind.code, blind.causes) == (
        422,
        {("metadata.resourceVersion", "Invalid value: 0: must be specified for an update")},
    )


def test_generation_counts_changes_of_the_spec(client: Client, namespace: str) -> None:
    path = f"{repositories(namespace)}/a"
    client.post(repositories(namespace), repository("a", namespace))
    assert client.patch(path, {"metadata": {"labels": {"x": "y"}}}).body["metadata"]["generation"] == 1
    assert client.patch(path, {"spec": {"suspend": True}}).body["metadata"]["generation"] == 2
    assert client.patch(path, {"metadata": {"generation": 9}}).body["metadata"]["generation"] == 2


def test_a_write_that_changes_nothing_makes_no_version(client: Client, namespace: str) -> None:
    path = f"{repositories(namespace)}/a"
    client.post(repositories(namespace), repository("a", namespace))
    # The real server takes note of who writes which field, so the first write of somebody is a change.
    client.patch(path, {"spec": {"driftPolicy": "Correct"}})
    before = client.get(path)
    before = client.put(f"{path}/status", before.body)
    assert client.patch(path, {"spec": {"driftPolicy": "Correct"}}).version == before.version
    assert client.put(path, before.body).version == before.version
    assert client.put(f"{path}/status", before.body).version == before.version


def test_status_and_spec_are_written_apart(client: Client, namespace: str) -> None:
    path = f"{repositories(namespace)}/a"
    made = client.post(repositories(namespace), repository("a", namespace)).body
    told = changed(made, status={"observedGeneration": 1, "conditions": [CONDITION]}, metadata={"labels": {"x": "y"}})
    told["spec"] = {**made["spec"], "suspend": True}
    answer = client.put(f"{path}/status", told)
    assert answer.code == 200
    assert answer.body["status"]["conditions"] == [CONDITION]
    assert answer.body["spec"] == made["spec"]
    assert "labels" not in answer.body["metadata"]
    assert answer.body["metadata"]["generation"] == 1
    changed_spec = client.patch(path, {"spec": {"suspend": True}, "status": {"conditions": []}})
    assert changed_spec.body["status"]["conditions"] == [CONDITION]
    assert client.put(f"{path}/status", told).code == 409
    assert client.get(f"{path}/status").body == changed_spec.body
    wrong = client.patch(f"{path}/status", {"status": {"openTransactions": "many"}})
    assert (wrong.code, wrong.body["reason"]) == (422, "Invalid")


def test_patches(client: Client, namespace: str) -> None:
    path = f"{repositories(namespace)}/a"
    client.post(repositories(namespace), repository("a", namespace))
    merged = client.patch(path, {"metadata": {"labels": {"a": "1", "b": "2"}, "finalizers": ["x.org/y"]}})
    assert merged.body["metadata"]["labels"] == {"a": "1", "b": "2"}
    removed = client.patch(path, {"metadata": {"labels": {"a": None}, "finalizers": None}})
    assert removed.body["metadata"]["labels"] == {"b": "2"}
    assert "finalizers" not in removed.body["metadata"]
    emptied = client.patch(path, {"metadata": {"labels": {"b": None}}})
    assert "labels" not in emptied.body["metadata"]
    operations = [{"op": "test", "path": "/spec/driftPolicy", "value": "Correct"}]
    operations += [{"op": "replace", "path": "/spec/driftPolicy", "value": "Report"}]
    assert client.patch(path, operations, JSON_PATCH).body["spec"]["driftPolicy"] == "Report"
    assert client.patch(path, operations, JSON_PATCH).code == 422, "the test fails now"
    strategic = client.patch(path, {}, "application/strategic-merge-patch+json")
    assert (strategic.code, strategic.body["reason"]) == (415, "UnsupportedMediaType")
    renamed = client.patch(path, {"metadata": {"name": "b"}})
    assert renamed.body["message"] == "the name of the object (b) does not match the name on the URL (a)"
    assert client.patch(path, {"metadata": {"uid": "other"}}).code == 422
    assert client.patch(f"{repositories(namespace)}/nope", {"spec": {}}).code == 404


# --- deleting


def test_deletion_without_finalizers_is_the_end(client: Client, namespace: str) -> None:
    path = f"{repositories(namespace)}/a"
    uid = client.post(repositories(namespace), repository("a", namespace)).body["metadata"]["uid"]
    wrong = client.delete(path, {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": "other"}})
    assert (wrong.code, wrong.body["reason"]) == (409, "Conflict")
    answer = client.delete(path, {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid}})
    assert (answer.code, answer.body["kind"], answer.body["status"]) == (200, "Status", "Success")
    assert answer.body["details"] == {"name": "a", "group": "dsg.hrdag.org", "kind": "repositories", "uid": uid}
    assert client.get(path).code == 404
    again = client.post(repositories(namespace), repository("a", namespace)).body["metadata"]
    assert again["uid"] != uid


def test_finalizers_keep_an_object_until_they_are_gone(client: Client, namespace: str) -> None:
    path = f"{repositories(namespace)}/a"
    client.post(repositories(namespace), changed(repository("a", namespace), metadata={"finalizers": ["x.org/y"]}))
    marked = client.delete(path)
    assert (marked.code, marked.body["kind"]) == (200, "Repository")
    metadata = marked.body["metadata"]
    assert metadata["deletionTimestamp"] > "2026"
    assert metadata["deletionGracePeriodSeconds"] == 0
    assert metadata["generation"] == 2
    assert client.delete(path).version == marked.version, "a second deletion changes nothing"
    more = client.patch(path, {"metadata": {"finalizers": ["x.org/y", "x.org/z"]}})
    assert more.code == 422
    assert "no new finalizers can be added if the object is being deleted" in more.body["message"]
    undone = client.patch(path, {"metadata": {"deletionTimestamp": None}})
    assert undone.body["metadata"]["deletionTimestamp"] == metadata["deletionTimestamp"]
    assert client.patch(path, {"metadata": {"finalizers": None}}).code == 200
    assert client.get(path).code == 404


def test_a_collection_is_deleted_by_selector(client: Client, namespace: str) -> None:
    for name in "abc":
        body = changed(repository(name, namespace), metadata={"labels": {"name": name}})
        client.post(repositories(namespace), body)
    assert client.send("DELETE", f"{repositories(namespace)}?labelSelector=name%20in%20(a,b)").code == 200
    assert [item["metadata"]["name"] for item in client.get(repositories(namespace)).body["items"]] == ["c"]


# --- lists, selectors, watches


def test_lists_are_whole_and_in_order(client: Client, namespace: str) -> None:
    for name in "cab":
        client.post(repositories(namespace), repository(name, namespace))
    found = client.get(repositories(namespace)).body
    assert (found["kind"], found["apiVersion"]) == ("RepositoryList", "dsg.hrdag.org/v1alpha1")
    assert [item["metadata"]["name"] for item in found["items"]] == ["a", "b", "c"]
    assert all(item["kind"] == "Repository" for item in found["items"])
    newest = max(int(item["metadata"]["resourceVersion"]) for item in found["items"])
    assert int(found["metadata"]["resourceVersion"]) >= newest
    everywhere = client.get(f"{GROUP}/repositories").body["items"]
    assert {item["metadata"]["namespace"] for item in everywhere} >= {namespace}


def test_pages_are_one_moment(client: Client, namespace: str) -> None:
    for name in "abcde":
        client.post(repositories(namespace), repository(name, namespace))
    first = client.get(repositories(namespace), limit="2").body
    assert first["metadata"]["remainingItemCount"] == 3
    client.delete(f"{repositories(namespace)}/d")
    names = [item["metadata"]["name"] for item in first["items"]]
    token = first["metadata"]["continue"]
    while token:
        page = client.get(repositories(namespace), limit="2", **{"continue": token}).body
        names += [item["metadata"]["name"] for item in page["items"]]
        token = page["metadata"].get("continue")
    assert names == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("team=x", "ab"),
        ("team==x,name!=a", "b"),
        ("team", "abc"),
        ("!team", "d"),
        ("name in (a, c)", "ac"),
        ("team notin (x)", "cd"),
        ("team!=x", "cd"),
    ],
)
def test_label_selectors(client: Client, namespace: str, selector: str, names: str) -> None:
    for name, team in (("a", "x"), ("b", "x"), ("c", "y"), ("d", None)):
        labels = {"name": name} | ({"team": team} if team else {})
        client.post(repositories(namespace), changed(repository(name, namespace), metadata={"labels": labels}))
    found = client.get(repositories(namespace), labelSelector=selector).body["items"]
    assert "".join(item["metadata"]["name"] for item in found) == names


def test_field_selectors(client: Client, namespace: str) -> None:
    for name in "ab":
        body = repository(name, namespace, storage={"node": f"node-{name}"})
        assert client.post(repositories(namespace), body).code == 201

    def names(selector: str) -> str:
        found = client.get(repositories(namespace), fieldSelector=selector).body["items"]
        return "".join(item["metadata"]["name"] for item in found)

    assert names("spec.storage.node=node-b") == "b"
    assert names("spec.storage.node!=node-b,metadata.name=a") == "a"
    assert names(f"metadata.namespace={namespace}") == "ab"
    refused = client.get(repositories(namespace), fieldSelector="spec.suspend=true")
    assert (refused.code, refused.body["message"]) == (400, "field label not supported: spec.suspend")
    assert client.get(repositories(namespace), labelSelector="a,,").code == 400


def test_a_watch_goes_on_from_a_list(client: Client, namespace: str) -> None:
    path = f"{repositories(namespace)}/a"
    client.post(repositories(namespace), repository("old", namespace))
    version = client.get(repositories(namespace)).version
    client.post(repositories(namespace), repository("a", namespace))
    with client.watch(repositories(namespace), resourceVersion=version) as events:
        type_, obj = next(events)
        assert (type_, obj["metadata"]["name"], obj["kind"]) == ("ADDED", "a", "Repository")
        told = client.patch(path, {"metadata": {"finalizers": ["x.org/y"]}})
        assert next(events) == ("MODIFIED", told.body)
        client.delete(path)
        type_, obj = next(events)
        assert (type_, "deletionTimestamp" in obj["metadata"]) == ("MODIFIED", True)
        client.patch(path, {"metadata": {"finalizers": None}})
        type_, last = next(events)
        assert (type_, last["metadata"]["name"]) == ("DELETED", "a")
        assert int(last["metadata"]["resourceVersion"]) > int(obj["metadata"]["resourceVersion"])


def test_a_watch_sees_what_its_selector_selects(client: Client, namespace: str) -> None:
    path = f"{repositories(namespace)}/a"
    version = client.get(repositories(namespace)).version
    client.post(repositories(namespace), repository("a", namespace))
    client.post(repositories(namespace), repository("b", namespace, storage={"node": "node-b"}))
    client.patch(path, {"metadata": {"labels": {"x": "y"}}})
    client.patch(path, {"metadata": {"labels": {"x": "z"}}})
    with client.watch(repositories(namespace), resourceVersion=version, labelSelector="x=y") as events:
        assert [(next(events)[0]) for _ in range(2)] == ["ADDED", "DELETED"], "it came, and it went"
    with client.watch(
        repositories(namespace), resourceVersion=version, fieldSelector="spec.storage.node=node-b"
    ) as events:
        type_, obj = next(events)
        assert (type_, obj["metadata"]["name"]) == ("ADDED", "b")


def test_a_watch_ends_at_its_time(client: Client, namespace: str) -> None:
    version = client.get(repositories(namespace)).version
    begin = time.monotonic()
    with client.watch(repositories(namespace), resourceVersion=version, timeoutSeconds="1") as events:
        assert list(events) == []
    assert 0.5 < time.monotonic() - begin < 4


def test_a_watch_from_too_long_ago_is_told_so(client: Client, namespace: str) -> None:
    with client.watch(repositories(namespace), resourceVersion="1") as events:
        type_, status = next(events)
        assert (type_, status["code"], status["reason"]) == ("ERROR", 410, "Expired")
        assert list(events) == []


def test_a_watch_without_a_version_begins_with_what_is_there(client: Client, namespace: str) -> None:
    client.post(repositories(namespace), repository("a", namespace))
    with client.watch(repositories(namespace), resourceVersion="0") as events:
        type_, obj = next(events)
        assert (type_, obj["metadata"]["name"]) == ("ADDED", "a")


# --- Kubernetes' own kinds


def test_events_are_found_by_what_they_are_about(client: Client, namespace: str) -> None:
    made = client.post(repositories(namespace), repository("a", namespace)).body
    about = {"apiVersion": made["apiVersion"], "kind": "Repository", "name": "a", "namespace": namespace}
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "a.1", "namespace": namespace},
        "involvedObject": {**about, "uid": made["metadata"]["uid"]},
        "type": "Warning",
        "reason": "DriftCorrected",
        "message": "mode: 0777 → 2770",
        "action": "DriftCorrected",
        "reportingComponent": "dsg.hrdag.org/operator",
        "reportingInstance": "node-a",
        "firstTimestamp": "2026-01-02T03:04:05Z",
        "lastTimestamp": "2026-01-02T03:04:05Z",
        "eventTime": "2026-01-02T03:04:05.000006Z",
        "count": 1,
    }
    path = f"/api/v1/namespaces/{namespace}/events"
    assert client.post(path, event).code == 201
    selector = f"involvedObject.name=a,involvedObject.kind=Repository,involvedObject.uid={made['metadata']['uid']}"
    assert [found["message"] for found in client.get(path, fieldSelector=selector).body["items"]] == [event["message"]]
    assert client.get(path, fieldSelector="involvedObject.name=b").body["items"] == []
    assert client.get(path, fieldSelector="reason=DriftCorrected,type=Warning").body["items"] != []
    incomplete = {key: value for key, value in event.items() if key not in {"action", "reportingInstance"}}
    refused = client.post(path, changed(incomplete, metadata={"name": "a.2"}))
    assert refused.causes == {("reportingInstance", "Required value"), ("action", "Required value")}
    long = client.post(path, changed(event, metadata={"name": "a.3"}, message="x" * 1025))
    assert (long.code, "can have at most 1024 characters" in long.body["message"]) == (422, True)


def test_leases(client: Client, namespace: str) -> None:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    spec = {"holderIdentity": "me", "leaseDurationSeconds": 40, "renewTime": "2026-01-02T03:04:05.000006Z"}
    metadata = {"name": "dsg-operator-node-a", "labels": {"x": "y"}}
    body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
    assert client.patch(f"{path}/dsg-operator-node-a", {"spec": spec}).code == 404
    made = client.post(path, body)
    assert (made.code, made.body["spec"]) == (201, spec)
    later = {"spec": {"renewTime": "2026-01-02T03:04:15.000006Z"}}
    assert client.patch(f"{path}/dsg-operator-node-a", later).body["spec"] == spec | later["spec"]
    assert len(client.get(path, labelSelector="x=y").body["items"]) == 1
    assert client.patch(f"{path}/dsg-operator-node-a", {"spec": {"leaseDurationSeconds": 0}}).code == 422


def test_namespaces_know_their_own_name(client: Client, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}"
    body = client.get(path).body
    assert body["metadata"]["labels"] == {"kubernetes.io/metadata.name": namespace}
    assert body["status"] == {"phase": "Active"}
    assert client.patch(path, {"metadata": {"labels": {"team": "data"}}}).body["metadata"]["labels"] == {
        "kubernetes.io/metadata.name": namespace,
        "team": "data",
    }
    strategic = "application/strategic-merge-patch+json"
    assert client.patch(path, {"metadata": {"labels": {"team": None}}}, strategic).code == 200
    assert "team" not in client.get(path).body["metadata"]["labels"]


# --- discovery, Tables and kubectl


def test_nobody_is_served_without_a_token(api: Api) -> None:
    client = Client(api)
    client._token = "wrong"
    answer = client.get("/api/v1/namespaces")
    assert (answer.code, answer.body["reason"]) == (401, "Unauthorized")


def test_what_is_not_served_is_not_found(client: Client, namespace: str) -> None:
    for path in (f"{GROUP}/nopes", "/apis/no.such.group/v1/things", f"{repositories(namespace)}/a/scale"):
        response = client._pool.request("GET", client._url + path, headers=client._headers({}))
        assert response.status == 404, path


def test_discovery_names_the_custom_resources(client: Client) -> None:
    listed = {entry["name"]: entry for entry in client.get(GROUP).body["resources"]}
    assert set(listed) >= {"repositories", "repositories/status", "storagepools", "synctransactions"}
    assert (listed["repositories"]["kind"], listed["repositories"]["namespaced"]) == ("Repository", True)
    assert listed["storagepools"]["namespaced"] is False
    assert set(listed["repositories"]["verbs"]) >= {"create", "delete", "get", "list", "patch", "update", "watch"}
    groups = {group["name"] for group in client.get("/apis").body["groups"]}
    assert groups >= {"dsg.hrdag.org", "coordination.k8s.io", "apiextensions.k8s.io"}


def test_tables_have_the_printer_columns(client: Client, namespace: str) -> None:
    made = client.post(repositories(namespace), repository("a", namespace)).body
    client.put(f"{repositories(namespace)}/a/status", changed(made, status={"conditions": [CONDITION]}))
    table = client.get(repositories(namespace), accept=TABLE).body
    assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    columns = [column["name"] for column in table["columnDefinitions"]]
    declared = yaml.safe_load(
        client.api.kubectl("admin", "get", "crd", "repositories.dsg.hrdag.org", "-o", "yaml").stdout
    )
    wanted = [column["name"] for column in declared["spec"]["versions"][0]["additionalPrinterColumns"]]
    assert columns == ["Name", *wanted]
    (row,) = table["rows"]
    cells = dict(zip(columns, row["cells"], strict=True))
    assert (cells["Name"], cells["Ready"], cells["Node"]) == ("a", "True", "node-a")
    assert cells["Age"].endswith("s")
    assert row["object"]["metadata"]["name"] == "a"


def test_kubectl_applies_twice_without_a_change(api: Api, client: Client, namespace: str) -> None:
    text = yaml.safe_dump(repository("a", namespace))
    assert "created" in api.kubectl("admin", "apply", "-f", "-", input=text).stdout
    assert "unchanged" in api.kubectl("admin", "apply", "-f", "-", input=text).stdout
    text = yaml.safe_dump(repository("a", namespace, driftPolicy="Report"))
    assert "configured" in api.kubectl("admin", "apply", "-f", "-", input=text).stdout
    assert client.get(f"{repositories(namespace)}/a").body["spec"]["driftPolicy"] == "Report"
    text = yaml.safe_dump(repository("a", namespace))
    api.kubectl("admin", "apply", "-f", "-", input=text)
    assert client.get(f"{repositories(namespace)}/a").body["spec"]["driftPolicy"] == "Correct", "the default is back"


def test_kubectl_refuses_a_misspelt_field(api: Api, namespace: str) -> None:
    body = repository("a", namespace, suspendd=True)
    answer = api.kubectl("admin", "apply", "-f", "-", input=yaml.safe_dump(body), check=False)
    assert answer.returncode == 1
    assert 'strict decoding error: unknown field "spec.suspendd"' in answer.stderr


def test_kubectl_waits_deletes_and_describes(api: Api, client: Client, namespace: str) -> None:
    made = client.post(repositories(namespace), repository("a", namespace)).body
    client.put(f"{repositories(namespace)}/a/status", changed(made, status={"conditions": [CONDITION]}))
    where = ("-n", namespace)
    assert "condition met" in api.kubectl("admin", "wait", "repository/a", "--for=condition=Ready", *where).stdout
    assert "Reconciled" in api.kubectl("admin", "describe", "repository", "a", *where).stdout
    assert api.kubectl("admin", "get", "repositories", *where).stdout.split()[0] == "NAME"
    assert "deleted" in api.kubectl("admin", "delete", "repository", "a", *where).stdout
    assert client.get(f"{repositories(namespace)}/a").code == 404


def test_kubectl_explains_every_field(api: Api) -> None:
    text = api.kubectl("admin", "explain", "repository.spec.storage.mountpoint").stdout
    assert "FIELD: mountpoint <string>" in text
    assert "Path at which the head can be read" in text
    assert "GROUP:      dsg.hrdag.org" in api.kubectl("admin", "explain", "storagepool").stdout


def test_a_user_can_ask_who_they_are(api: Api) -> None:
    assert "researchers" in api.kubectl("alice", "auth", "whoami").stdout


def test_kubectl_tells_the_servers_clock(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECTL", str(kubectl()))
    kubeconfig = str(api.kubeconfig("alice"))
    theirs, mine = Kubectl(Connection(kubeconfig=kubeconfig)).server_time()
    assert abs(theirs - mine) < 2


def test_requests_are_counted_by_user(api: Api, pool: str) -> None:
    mark = api.audit_mark()
    Client(api).post(POOLS, storage_pool(pool))
    Client(api).get(f"{POOLS}/{pool}")
    Client(api, "monitor").get("/version")
    seen = [(request.verb, request.resource, request.name, request.code) for request in api.requests("admin", mark)]
    assert seen == [("create", "storagepools", pool, 201), ("get", "storagepools", pool, 200)]
    assert [request.verb for request in api.requests(since=mark) if request.write] == ["create"]
