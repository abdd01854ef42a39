"""A disk dies in the middle of a commit: the operator is told so in time, and the commit ends well when it is back."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from lab.node import PYTHON, StorageNode, pack_tests
from tests.e2e.cluster import wait

pytestmark = [pytest.mark.zfs, pytest.mark.lot]

POOL = "frail"
ERRORS = ("PoolSuspended", "CommandTimeout", "NotResponding")
PROGRAM = ("tests/onzfs/suspended.py", "tests/onzfs/load.py", "tests/transactions", "tests/reconcile/specs.py")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StorageNode]:
    with StorageNode(tmp_path_factory.mktemp("suspended") / "node", "node-s") as guest:
        guest.create_pool(POOL, "-O", "mountpoint=none", disks=(1,))
        guest.run("zfs", "create", f"{POOL}/dsg")
        guest.install()
        guest.shell.unpack(pack_tests(PROGRAM), "/root/dsg")
        yield guest


def health(node: StorageNode) -> str:
    return node.run("zpool", "list", "-H", "-o", "health", POOL).stdout.strip()


@pytest.mark.lot
@pytest.mark.parametrize("moment", ["before zfs.rename", "before zfs.program", "after zfs.program"])
def test_a_disk_that_dies_in_a_commit(node: StorageNode, moment: str) -> None:
    name = moment.replace(" zfs.", "-")
    program = [PYTHON, "-u", "-m", "tests.onzfs.suspended", f"{POOL}/dsg", name]
    argv = ["env", "-C", "/root/dsg", *program, "act", moment]
    command = [*node.shell.base_argv(), "exec " + " ".join(json.dumps(word) for word in argv)]
    with subprocess.Popen(
        command, cwd=node.directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        watchdog = threading.Timer(300, child.kill)
        watchdog.start()
        try:
            said = child.stdout.readline()
            assert said == "ready\n", said + child.stdout.read()
            node.break_disk(1)
            began = time.monotonic()
            child.stdin.write("go on\n")
            child.stdin.close()
            said = child.stdout.readline()
            print(f"{moment}: {said.strip()} ({time.monotonic() - began:.0f} s)")
            told = any(f"{error}: " in said for error in ERRORS) and "zpool status" in said
            # What the program has done is on the disk; showing it may need nothing but memory.
            assert told or (moment == "after zfs.program" and "Done(version='s2'" in said), said + child.stdout.read()
            node.start_daemon(f"writer-{name}", ["zfs", "set", "org.test:x=1", POOL])
            wait("the pool to be suspended", lambda: health(node) == "SUSPENDED")
        finally:
            node.mend_disk(1)
            node.run("zpool", "clear", POOL)
            child.wait(60)
            watchdog.cancel()
    wait("the pool to go on", lambda: health(node) == "ONLINE")
    done = node.run(*program, "resume", cwd="/root/dsg", timeout=120)
    print(done.stdout)
    assert done.stdout.splitlines()[-1] == "whole"
    if moment == "after zfs.program":
        assert "found committed" in done.stdout
