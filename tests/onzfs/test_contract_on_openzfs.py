"""The contract suite and files below a root, on the real thing: inside a storage-node guest."""

from __future__ import annotations

import os
import random
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
    """A quarter of it, drawn by chance, as a test takes six seconds there; DSG_SHARE=0/1 is all of it (`make soak`)."""
    share = os.environ.get("DSG_SHARE") or f"{random.SystemRandom().randrange(4)}/4"
    print(f"on OpenZFS {node.run('zfs', 'version').stdout.split()[0]}, DSG_SHARE={share}:")
    env = {"DSG_TEST_POOL": POOL, "DSG_SHARE": share}
    code = node.run_pytest(["tests/contract"], ["-q", "-x", "--durations=5"], timeout=2400, out=sys.stdout, env=env)
    assert code == 0


def test_readers_never_see_a_reveal_half_done(node: StorageNode) -> None:
    paths, env = ["tests/storage/test_reveal.py", "benchmarks/reveal"], {"DSG_TEST_POOL": POOL}
    assert node.run_pytest(paths, ["-q", "-x"], timeout=900, out=sys.stdout, env=env) == 0
