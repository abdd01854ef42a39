"""Repositories on real OpenZFS, where DSG_TEST_POOL names a pool for them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.transactions.real import POOL, ZfsGround

_numbers = count(1)


@pytest.fixture(scope="session")
def zfs_home() -> Iterator[str]:
    """The dataset above those of all tests of this run; empty where there is no pool."""
    if not POOL:
        yield ""
        return
    name = f"{POOL}/transactions-{os.getpid()}"
    subprocess.run(["zfs", "create", "-o", "mountpoint=none", name], check=True, timeout=60)
    yield name
    subprocess.run(["zfs", "destroy", name], check=True, timeout=60)


@pytest.fixture
def zfs_ground(zfs_home: str, tmp_path: Path) -> Iterator[Callable[..., ZfsGround]]:
    """Return what makes repositories on OpenZFS; all of them are removed after the test."""
    made: list[ZfsGround] = []

    def make(**spec: Any) -> ZfsGround:
        made.append(ZfsGround(zfs_home, tmp_path, f"r{next(_numbers)}", **spec))
        return made[-1]

    yield make
    for ground in made:
        ground.restart()
        ground.destroy()
