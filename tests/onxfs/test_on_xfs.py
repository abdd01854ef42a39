"""The xfs type on a real XFS with reflinks, made in a file and mounted by this machine's own kernel."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.paths import TREE
from lab.system import ensure_tools

pytestmark = pytest.mark.lab

SIZE = 4 << 30
"""Bytes of the disk, which is sparse."""


@pytest.fixture(scope="module")
def xfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Mount an XFS; needs root, and a kernel that knows XFS."""
    ensure_tools({"mkfs.xfs": "xfsprogs"})
    home = tmp_path_factory.mktemp("xfs")
    disk, place = home / "disk", home / "mounted"
    place.mkdir()
    disk.touch()
    os.truncate(disk, SIZE)
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", disk], check=True, timeout=60)
    subprocess.run(["mount", "-t", "xfs", "-o", "loop", disk, place], check=True, timeout=60)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True, timeout=60)


def run(xfs: Path, *arguments: str) -> None:
    argv = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"--basetemp={xfs / 'tests'}"]
    # The child of a fork makes threads of its own and needs none of its parent's.
    argv += ["-W", "ignore:.*fork:DeprecationWarning"]
    done = subprocess.run([*argv, *arguments], cwd=TREE, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    print(done.stdout.splitlines()[-1])


def test_it_is_an_xfs_with_reflinks(xfs: Path) -> None:
    (xfs / "one").write_bytes(b"one")
    subprocess.run(["cp", "--reflink=always", xfs / "one", xfs / "other"], check=True, timeout=60)


def test_the_storage_layer(xfs: Path) -> None:
    tests = ("tests/storage/xfs", "tests/storage/test_local_trees.py", "tests/contract", "tests/reconcile")
    run(xfs, *tests, "-k", "xfs or (trees and local)")


def test_transactions_from_end_to_end_and_killed_at_every_moment(xfs: Path) -> None:
    run(xfs, "tests/transactions/test_transactor.py", "tests/transactions/test_killed.py", "-k", "xfs")


def test_each_state_of_a_working_copy(xfs: Path) -> None:
    names = ("test_states", "test_states_at_the_start", "test_states_together")
    run(xfs, *(f"tests/workcopy/{name}.py" for name in names))
