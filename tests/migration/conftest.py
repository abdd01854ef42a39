from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.migration.adopting import Place
from tests.transactions.ground import XfsGround
from tests.workcopy.server import Server


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An older repository's directory, and a new Repository."""
    (tmp_path / "server").mkdir()
    return Place(tmp_path / "old", Server(tmp_path / "server", XfsGround(tmp_path / "server" / "disk")))
