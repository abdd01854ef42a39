"""What is the embedded API's own: its life, its memory of changes, its limits, and what it says about them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.embedded.ages import age, human
from demo.embedded.api import EmbeddedApi
from demo.embedded.failures import ApiFailure
from demo.embedded.jsonpath import compiled
from demo.embedded.patches import merged
from lab.errors import LabError
from tests.demo.http import GROUP, Client
from tests.demo.objects import repository

REPOSITORIES = f"{GROUP}/namespaces/default/repositories"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[EmbeddedApi]:
    with EmbeddedApi(tmp_path / "own", remembered=5) as api:
        yield api


def test_state_and_address_survive_a_restart(own: EmbeddedApi) -> None:
    made = Client(own).post(REPOSITORIES, repository("a", "default"))
    address = own.url
    own.restart()
    assert own.url == address
    client = Client(own)
    assert client.get(f"{REPOSITORIES}/a").body == made.body
    assert client.get(REPOSITORIES).version == made.version
    later = client.patch(f"{REPOSITORIES}/a", {"spec": {"suspend": True}})
    assert int(later.version) > int(made.version)
    with client.watch(REPOSITORIES, resourceVersion=str(int(made.version) - 1)) as events:
        type_, status = next(events)
    assert (type_, status["code"]) == ("ERROR", 410), "what was before the restart is not remembered"
    with client.watch(REPOSITORIES, resourceVersion=made.version) as events:
        assert next(events)[0] == "MODIFIED"


def test_another_server_goes_on_with_the_directory(tmp_path: Path) -> None:
    with EmbeddedApi(tmp_path) as api:
        made = Client(api).post(REPOSITORIES, repository("a", "default")).body
        token = api.credentials.token("admin")
    with EmbeddedApi(tmp_path) as api:
        assert api.credentials.token("admin") == token
        assert Client(api).get(f"{REPOSITORIES}/a").body == made


def test_stopping_ends_watches_and_keeps_what_was_there(own: EmbeddedApi) -> None:
    client = Client(own)
    seen: list[str] = []
    began = threading.Event()

    def follow() -> None:
        with client.watch(REPOSITORIES, resourceVersion="0", timeoutSeconds="30") as events:
            for type_, _ in events:
                seen.append(type_)
                began.set()

    client.post(REPOSITORIES, repository("a", "default"))
    thread = threading.Thread(target=_quietly(follow))
    thread.start()
    assert began.wait(5)
    own.stop()
    thread.join(5)
    assert not thread.is_alive()
    assert seen == ["ADDED"]
    own.start()
    assert client.get(f"{REPOSITORIES}/a").code == 200


def _quietly(act: Any) -> Any:
    def run() -> None:
        try:
            act()
        except Exception:  # a connection that is cut may end in several ways
            return

    return run


def test_a_port_that_is_taken_is_named(own: EmbeddedApi, tmp_path: Path) -> None:
    other = EmbeddedApi(tmp_path / "other")
    other.directory.mkdir()
    (other.directory / "port").write_text(f"{own.port}\n")
    with pytest.raises(LabError, match=f"could not start at https://127.0.0.1:{own.port}"):
        other.start()


def test_requests_can_be_made_to_fail(own: EmbeddedApi) -> None:
    client = Client(own)
    client.post(REPOSITORIES, repository("a", "default"))
    own.refuse = lambda person, target: (
        ApiFailure(HTTPStatus.SERVICE_UNAVAILABLE, "ServiceUnavailable", "not now") if target.verb == "patch" else None
    )
    assert client.patch(f"{REPOSITORIES}/a", {"spec": {"suspend": True}}).code == 503
    assert client.get(f"{REPOSITORIES}/a").code == 200
    own.refuse = lambda person, target: None
    assert client.patch(f"{REPOSITORIES}/a", {"spec": {"suspend": True}}).code == 200


def test_a_watch_can_go_back_as_far_as_is_remembered(own: EmbeddedApi) -> None:
    client = Client(own)
    first = client.post(REPOSITORIES, repository("a", "default")).version
    versions = [client.patch(f"{REPOSITORIES}/a", {"spec": {"dataDirs": [f"d{n}"]}}).version for n in range(5)]
    with client.watch(REPOSITORIES, resourceVersion=first) as events:
        assert [next(events)[1]["metadata"]["resourceVersion"] for _ in versions] == versions
    client.patch(f"{REPOSITORIES}/a", {"spec": {"dataDirs": ["more"]}})
    with client.watch(REPOSITORIES, resourceVersion=first) as events:
        assert next(events)[1]["code"] == 410
    with client.watch(REPOSITORIES, resourceVersion="99999") as events:
        assert "Too large resource version" in next(events)[1]["message"]


def test_a_watch_list_says_where_its_beginning_ends(own: EmbeddedApi) -> None:
    client = Client(own)
    made = client.post(REPOSITORIES, repository("a", "default"))
    options = {"sendInitialEvents": "true", "allowWatchBookmarks": "true"}
    with client.watch(REPOSITORIES, resourceVersionMatch="NotOlderThan", **options) as events:
        assert next(events) == ("ADDED", made.body)
        type_, mark = next(events)
        assert (type_, mark["metadata"]["annotations"]) == ("BOOKMARK", {"k8s.io/initial-events-end": "true"})
        assert mark["metadata"]["resourceVersion"] == made.version
    assert client.get(REPOSITORIES, watch="true", sendInitialEvents="true").code == 422


def test_the_rest_of_a_list_that_is_not_known(own: EmbeddedApi) -> None:
    answer = Client(own).get(REPOSITORIES, limit="1", **{"continue": "unknown"})
    assert (answer.code, answer.body["reason"]) == (410, "Expired")


def test_a_deleted_namespace_is_emptied_and_goes_last(own: EmbeddedApi) -> None:
    client = Client(own)
    client.post("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}})
    where = f"{GROUP}/namespaces/x/repositories"
    kept = repository("kept", "x")
    kept["metadata"]["finalizers"] = ["x.org/y"]
    client.post(where, kept)
    client.post(where, repository("gone", "x"))
    answer = client.delete("/api/v1/namespaces/x")
    assert answer.body["status"] == {"phase": "Terminating"}
    assert client.get(f"{where}/gone").code == 404
    assert client.get(f"{where}/kept").body["metadata"]["deletionTimestamp"]
    refused = client.post(where, repository("new", "x"))
    assert (refused.code, "being terminated" in refused.body["message"]) == (403, True)
    client.patch(f"{where}/kept", {"metadata": {"finalizers": None}})
    assert client.get("/api/v1/namespaces/x").code == 404


def test_what_is_not_served_says_what_to_do_instead(own: EmbeddedApi) -> None:
    client = Client(own)
    client.post(REPOSITORIES, repository("a", "default"))
    applied = client.patch(f"{REPOSITORIES}/a", {}, "application/apply-patch+yaml")
    assert (applied.code, "without --server-side" in applied.body["message"]) == (415, True)
    packed = client.send("POST", "/api/v1/namespaces", b"k8s\0", content_type="application/vnd.kubernetes.protobuf")
    assert (packed.code, "apply a YAML file instead" in packed.body["message"]) == (415, True)
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    (_, pools, _) = client.get(path).body["items"]
    assert pools["metadata"]["name"] == "storagepools.dsg.hrdag.org"
    assert client.delete(f"{path}/storagepools.dsg.hrdag.org").code == 405


def test_kubectl_follows_changes(own: EmbeddedApi) -> None:
    client = Client(own)
    made = client.post(REPOSITORIES, repository("a", "default"))
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    fields = {"watch": "true", "resourceVersion": made.version, "timeoutSeconds": "1", "includeObject": "Object"}
    client.patch(f"{REPOSITORIES}/a", {"spec": {"suspend": True}})
    response = client._pool.request(
        "GET", f"{own.url}{REPOSITORIES}", fields=fields, headers=client._headers({"Accept": accept})
    )
    event = response.json()
    assert (event["type"], event["object"]["kind"]) == ("MODIFIED", "Table")
    assert event["object"]["rows"][0]["object"]["spec"]["suspend"] is True


def test_it_listens_to_nobody_but_this_machine_and_keeps_its_files_private(own: EmbeddedApi) -> None:
    assert own.url.startswith("https://127.0.0.1:")
    assert own.directory.stat().st_mode & 0o777 == 0o700
    assert own.kubeconfig("alice").stat().st_mode & 0o777 == 0o600


# --- parts

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=10,
)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return value


@given(target=JSON, patch=JSON)
def test_a_merge_patch_applied_twice_is_applied_once(target: Any, patch: Any) -> None:
    once = merged(target, patch)
    assert merged(once, patch) == once


@given(target=JSON)
def test_a_merge_patch_onto_nothing_is_what_it_adds(target: Any) -> None:
    assert merged(None, target) == _without_nulls(target)
    assert merged(target, {}) == (target if isinstance(target, dict) else {})


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patches_of_the_rfc(target: Any, patch: Any, result: Any) -> None:
    assert merged(target, patch) == result


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (303, "5m3s"),
        (600, "10m"),
        (3 * 3600 - 1, "179m"),
        (3 * 3600 + 60, "3h1m"),
        (8 * 3600, "8h"),
        (47 * 3600, "47h"),
        (50 * 3600, "2d2h"),
        (8 * 86400, "8d"),
        (3 * 365 * 86400, "3y"),
    ],
)
def test_ages_as_kubectl_writes_them(seconds: int, text: str) -> None:
    assert human(seconds) == text
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert age((now - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ"), now) == text


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".a.b", [1]),
        (".list[0].type", ["Ready"]),
        (".list[*].type", ["Ready", "Stalled"]),
        ('.list[?(@.type=="Stalled")].status', ["False"]),
        (".list[?(@.type=='Nope')].status", []),
        (r".x\.y/z", [2]),
        ("['x.y/z']", [2]),
        (".list[9].type", []),
        (".a.b.c", []),
    ],
)
def test_json_paths(path: str, found: list[Any]) -> None:
    conditions = [{"type": "Ready", "status": "True"}, {"type": "Stalled", "status": "False"}]
    assert list(compiled(path)({"a": {"b": 1}, "x.y/z": 2, "list": conditions})) == found


def test_a_json_path_that_is_not_understood_is_named() -> None:
    with pytest.raises(ValueError, match=r"\[\?\(@\.a > 1\)\]"):
        compiled(".list[?(@.a > 1)]")
