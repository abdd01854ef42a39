"""A guest in which tests of transactions run on a pool of their own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.node import PYTHON, StorageNode, pack_tests

POOL = "transactions"
PATHS = ("tests/transactions", "tests/workcopy", "tests/reconcile/specs.py")


@contextmanager
def guest(directory: Path, name: str) -> Iterator[StorageNode]:
    """Run a storage node with the wheel and the tests of this tree."""
    with StorageNode(directory / "node", name) as node:
        node.create_pool(POOL)
        node.install()
        node.shell.unpack(pack_tests(PATHS), "/root/dsg")
        yield node


def run(node: StorageNode, *args: str) -> int:
    """Run pytest in the guest and return its exit code."""
    argv = [PYTHON, "-u", "-m", "pytest", "-p", "no:cacheprovider", "-q", "-x"]
    # The child of a fork makes threads of its own and needs none of its parent's.
    argv += ["-W", "ignore:.*fork:DeprecationWarning"]
    env = {
        "DSG_TEST_POOL": POOL,
        **{name: os.environ[name] for name in ("DSG_EVERY_MOMENT", "DSG_SEED") if name in os.environ},
    }
    return node.shell.stream([*argv, *args], timeout=2400, out=sys.stdout, env=env, cwd="/root/dsg")
