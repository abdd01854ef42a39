"""A data plane that others control writes into the directory of grants: the operator neither hangs nor follows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dsg.operator.data_plane import GrantFiles
from dsg.reconcile.data_plane import DataPlaneError
from dsg.transfer.grants import SERVER_FILE, read_grant, write_server

URL = "https://node-a.test:8443"


def link(path: Path, secret: Path) -> None:
    path.symlink_to(secret)


def fifo(path: Path, secret: Path) -> None:
    os.mkfifo(path)


def directory(path: Path, secret: Path) -> None:
    path.mkdir()


def huge(path: Path, secret: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def nonsense(path: Path, secret: Path) -> None:
    path.write_bytes(b"\xff\x00{")


def nested(path: Path, secret: Path) -> None:
    path.write_text("[" * 30_000)


PLANTED: list[Callable[[Path, Path], None]] = [link, fifo, directory, huge, nonsense, nested]


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("the operator's own secret")
    return path


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_whatever_stands_for_the_servers_file_is_an_error_soon(
    tmp_path: Path, secret: Path, plant: Callable[[Path, Path], None]
) -> None:
    grants = tmp_path / "grants"
    grants.mkdir()
    plant(grants / SERVER_FILE, secret)
    began = time.monotonic()
    with pytest.raises(DataPlaneError) as caught:
        GrantFiles(grants, URL).endpoint()
    assert time.monotonic() - began < 5
    assert "the operator's own secret" not in str(caught.value)


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_planted_grants_are_withdrawn_without_touching_what_they_lead_to(
    tmp_path: Path, secret: Path, plant: Callable[[Path, Path], None]
) -> None:
    grants = tmp_path / "grants"
    grants.mkdir()
    write_server(grants, "0" * 64)
    plant(grants / "planted.json", secret)
    files = GrantFiles(grants, URL)
    assert files.admitted() == {"planted"}
    if plant is directory:
        with pytest.raises(DataPlaneError):
            files.withdraw("planted")
    else:
        files.withdraw("planted")
        assert files.admitted() == frozenset()
    assert secret.read_text() == "the operator's own secret"
    endpoint = files.endpoint()
    assert endpoint is not None
    assert endpoint.certificate_fingerprint == "0" * 64


@pytest.mark.parametrize("name", ["../secret.json", "a/../../secret.json", ".json", "server.json", "x" * 65 + ".json"])
def test_names_lead_nowhere(tmp_path: Path, secret: Path, name: str) -> None:
    grants = tmp_path / "grants"
    grants.mkdir()
    with pytest.raises(DataPlaneError):
        GrantFiles(grants, URL).withdraw(name.removesuffix(".json"))
    assert secret.exists()
    assert read_grant(grants, "unknown") is None
