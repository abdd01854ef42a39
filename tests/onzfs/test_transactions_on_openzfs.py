"""Transactions and working copies on the real thing, from end to end, inside a guest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.node import StorageNode
from tests.onzfs.guest import guest, run

pytestmark = pytest.mark.zfs


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StorageNode]:
    with guest(tmp_path_factory.mktemp("transactions"), "node-t") as running:
        yield running


@pytest.mark.lot
def test_from_end_to_end(node: StorageNode) -> None:
    assert run(node, "tests/transactions/test_transactor.py", "--durations=3") == 0


def test_each_state_of_a_working_copy(node: StorageNode) -> None:
    assert run(node, "tests/workcopy/test_states_together.py", "--durations=3") == 0
