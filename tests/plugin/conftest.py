from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.plugin.desk import Desk
from tests.plugin.world import World
from tests.transactions.ground import XfsGround
from tests.workcopy.server import Server


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A cluster whose kubectl this process and its children find."""
    home = tmp_path / "cluster"
    found = World(home)
    for name, value in (("KUBECTL", str(found.binary)), ("FAKE_KUBECTL", str(home))):
        monkeypatch.setenv(name, value)
    return found


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)


@pytest.fixture
def server(tmp_path: Path) -> Server:
    directory = tmp_path / "server"
    directory.mkdir()
    return Server(directory, XfsGround(directory / "disk"))


@pytest.fixture
def ana(server: Server, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    (tmp_path / "ana").mkdir()
    desk = Desk(server, "ana", tmp_path / "ana", monkeypatch)
    desk.write("input/a.csv", "one\n")
    desk.write("input/b.csv", "two\n")
    return desk


@pytest.fixture
def bob(ana: Desk, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Bob has cloned what Ana has made."""
    ana("init", "justice", "-n", "research", "-m", "first")
    desk = Desk(server, "bob", tmp_path / "bob", monkeypatch)
    desk("clone", "justice", str(desk.root), where=tmp_path)
    return desk
