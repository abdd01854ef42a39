"""What all tests of the working copy share: nothing here is about power cuts, so nothing waits for the disk.

The repositories are on a directory, or on OpenZFS where DSG_TEST_POOL names a pool.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from dsg.storage.local_trees import LocalTrees
from dsg.workcopy import finishing
from tests.transactions.conftest import zfs_ground, zfs_home
from tests.transactions.ground import XfsGround
from tests.transactions.real import POOL, ZfsGround
from tests.workcopy.server import Server

__all__ = ["zfs_ground", "zfs_home"]


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    monkeypatch.setattr(LocalTrees, "sync", lambda _self, _root: None)
    monkeypatch.setattr(finishing, "sync_filesystem", lambda _descriptor: None)


@pytest.fixture
def make_server(tmp_path: Path, zfs_ground: Callable[..., ZfsGround]) -> Iterator[Callable[[], Server]]:
    """Return what makes repositories of their own."""
    numbers = count(1)

    def make() -> Server:
        directory = tmp_path / f"server{next(numbers)}"
        directory.mkdir()
        return Server(directory, zfs_ground() if POOL else XfsGround(directory / "disk"))

    yield make


@pytest.fixture
def server(make_server: Callable[[], Server]) -> Server:
    """A repository without a version."""
    return make_server()
