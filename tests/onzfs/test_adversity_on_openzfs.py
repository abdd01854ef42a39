"""Transactions in adversity on the real thing: full pools, quotas, signals, clocks; inside a guest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.node import StorageNode
from tests.onzfs.guest import guest, run

pytestmark = pytest.mark.zfs


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StorageNode]:
    with guest(tmp_path_factory.mktemp("adversity"), "node-d") as running:
        yield running


def test_in_adversity(node: StorageNode) -> None:
    assert run(node, "-s", "tests/transactions/test_adversity.py", "--durations=10") == 0
