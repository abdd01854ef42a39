"""Either API server, with this project's CRDs: the embedded one always, a real kube-apiserver where asked for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from demo.embedded.api import EmbeddedApi
from lab.controlplane import ControlPlane
from tests.api.server import DEFINITIONS
from tests.demo.http import Api, Client

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedApi]:
    with EmbeddedApi(tmp_path_factory.mktemp("embedded")) as api:
        yield api


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path_factory.mktemp("real")) as api:
        api.kubectl("admin", "apply", "--server-side", *DEFINITIONS)
        api.kubectl("admin", "wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        yield api


@pytest.fixture(scope="session", params=["embedded", pytest.param("real", marks=pytest.mark.kube)])
def api(request: pytest.FixtureRequest) -> Api:
    found: Api = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def client(api: Api) -> Client:
    return Client(api)


@pytest.fixture
def namespace(client: Client) -> str:
    """A namespace of the test's own."""
    name = f"test-{next(_numbers)}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    assert client.post("/api/v1/namespaces", body).code == 201
    return name


@pytest.fixture
def pool(client: Client) -> str:
    """The name for a StoragePool of the test's own."""
    return f"pool-{next(_numbers)}"
