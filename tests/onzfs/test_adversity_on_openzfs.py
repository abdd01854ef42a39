"""Transactions in adversity on the real thing: full pools, quotas, signals, clocks; inside a guest."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from lab.node import StorageNode
from tests.onzfs.guest import guest, run

pytestmark = [pytest.mark.zfs, pytest.mark.lot]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StorageNode]:
    with guest(tmp_path_factory.mktemp("adversity"), "node-d") as running:
        yield running


def test_in_adversity(node: StorageNode) -> None:
    """The killer for want of memory comes at one of its moments, drawn by chance; with DSG_EVERY_MOMENT at all."""
    file, moments = "tests/transactions/test_adversity.py", list(range(4))
    if not os.environ.get("DSG_EVERY_MOMENT"):
        moments.remove(random.SystemRandom().choice(moments))
        left_out = [f"--deselect={file}::test_the_oom_killer_ends_the_operator[{moment}]" for moment in moments]
    else:
        left_out = []
    assert run(node, "-s", file, "--durations=10", *left_out) == 0
