"""Transactions killed at the moments of each kind of work, on the real thing, inside a guest."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab.node import StorageNode
from tests.onzfs.guest import guest, run

pytestmark = pytest.mark.zfs

KINDS = ("Rebase", "Restore", "Init", "Sync", "Prune")
"""Kinds of work that are killed, the longest first. A conflict is found before anything is written to the head, so the
model and the xfs type do for it."""
SIDE_BY_SIDE = 2
"""How many at a time: one alone leaves the guest waiting for its disk half of the time."""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StorageNode]:
    with guest(tmp_path_factory.mktemp("kills"), "node-k") as running:
        yield running


def test_killed_at_the_moments_of_openzfs(node: StorageNode) -> None:
    began = time.monotonic()
    with ThreadPoolExecutor(SIDE_BY_SIDE) as threads:
        codes = threads.map(lambda kind: run(node, "tests/transactions/test_killed.py", "-k", kind), KINDS)
        assert dict(zip(KINDS, codes, strict=True)) == dict.fromkeys(KINDS, 0)
    print(f"killed at all of them in {time.monotonic() - began:.0f} s")
