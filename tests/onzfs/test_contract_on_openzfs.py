"""The contract suite, the xfs type and files below a root, on the real thing: inside a storage-node guest."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from lab.node import StorageNode

pytestmark = pytest.mark.zfs

POOL = "contract"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StorageNode]:
    with StorageNode(tmp_path_factory.mktemp("onzfs") / "node", "node-c") as guest:
        guest.create_pool(POOL)
        yield guest


def test_the_contract_holds_on_openzfs(node: StorageNode) -> None:
    print(f"on OpenZFS {node.run('zfs', 'version').stdout.split()[0]}:")
    code = node.run_pytest(
        ["tests/contract"], ["-q", "-x", "--durations=5"], timeout=2400, out=sys.stdout, env={"DSG_TEST_POOL": POOL}
    )
    assert code == 0


def test_the_xfs_type_works_on_xfs(node: StorageNode) -> None:
    disk = node.device(1)
    for argv in (
        ("mkfs.xfs", "-q", "-f", "-m", "reflink=1", disk),
        ("mkdir", "-p", "/xfs"),
        ("modprobe", "xfs"),
        ("mount", "-t", "xfs", disk, "/xfs"),
    ):
        node.run(*argv)
    code = node.run_pytest(
        ["tests/storage/xfs", "tests/storage/test_local_trees.py", "tests/contract", "tests/reconcile"],
        ["-q", "-x", "-k", "xfs or (trees and local)", "--basetemp=/xfs/tests"],
        timeout=600,
        out=sys.stdout,
        beside=["tests/transactions"],
    )
    assert code == 0


def test_readers_never_see_a_reveal_half_done(node: StorageNode) -> None:
    paths, env = ["tests/storage/test_reveal.py", "benchmarks/reveal"], {"DSG_TEST_POOL": POOL}
    assert node.run_pytest(paths, ["-q", "-x"], timeout=900, out=sys.stdout, env=env) == 0
