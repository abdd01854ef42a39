"""The control plane on real etcd and kube-apiserver."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lab.controlplane import ControlPlane
from lab.errors import LabError

pytestmark = pytest.mark.kube


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path_factory.mktemp("api")) as plane:
        yield plane


def test_each_user_is_who_the_token_says(api: ControlPlane) -> None:
    def groups(user: str) -> set[str]:
        answer = api.kubectl(user, "auth", "whoami", "-o", "yaml").stdout
        return set(yaml.safe_load(answer)["status"]["userInfo"]["groups"])

    assert "researchers" in groups("alice")
    assert groups("operator") >= {"system:serviceaccounts:dsg-system", "system:authenticated"}


def test_rbac_is_enforced(api: ControlPlane) -> None:
    assert "default" in api.kubectl("admin", "get", "namespaces").stdout
    with pytest.raises(LabError, match="cannot list resource"):
        api.kubectl("outsider", "get", "namespaces")


def test_requests_are_counted_by_user(api: ControlPlane) -> None:
    mark = api.audit_mark()
    api.kubectl("bob", "get", "configmaps", check=False)
    api.kubectl("admin", "create", "configmap", "counted")
    lists = [r for r in api.requests("bob", mark) if r.resource == "configmaps"]
    assert [(r.verb, r.code) for r in lists] == [("list", 403)]
    assert [r.verb for r in api.requests(since=mark) if r.write] == ["create"]


def test_data_and_address_survive_kill_minus_nine(api: ControlPlane) -> None:
    api.kubectl("admin", "create", "configmap", "kept")
    before = api.url
    api.restart()
    assert api.url == before
    assert api.kubectl("admin", "get", "configmap", "kept", "-o", "name").stdout == "configmap/kept\n"


def test_kubeconfigs_are_private_and_guests_have_their_own_address(api: ControlPlane) -> None:
    here, guest = api.kubeconfig("alice"), api.kubeconfig("alice", for_guest=True)
    for path in (here, guest):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert yaml.safe_load(guest.read_text())["clusters"][0]["cluster"]["server"] == f"https://10.0.2.2:{api.port}"


def test_the_directory_can_be_used_again(tmp_path: Path) -> None:
    with ControlPlane(tmp_path) as plane:
        plane.kubectl("admin", "create", "configmap", "kept")
    assert not plane.running
    with ControlPlane(tmp_path) as plane:
        plane.kubectl("admin", "get", "configmap", "kept")


def test_an_unknown_user_is_named(api: ControlPlane) -> None:
    with pytest.raises(LabError, match="no user 'carol'"):
        api.kubeconfig("carol")
