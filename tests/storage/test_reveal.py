"""A thousand reveals under readers: each sees the old version or the new, never nothing, never a mix.

On two directories here; on two read-only mounts where DSG_TEST_POOL names a pool (tests/onzfs).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks.reveal.readers import READERS, Reader, furnish
from dsg.storage.local_host import LocalHost
from dsg.storage.zfs.command_line import CommandLineZfs

SWITCHES = 1000
POOL = os.environ.get("DSG_TEST_POOL", "")


@pytest.fixture
def generations(tmp_path: Path) -> Iterator[list[str]]:
    """Two generations, `.justice/g1` and `.justice/g2`, where they are mounted."""
    directories = [str(tmp_path / ".justice" / name) for name in ("g1", "g2")]
    with ExitStack() as afterwards:
        zfs, host = CommandLineZfs(), LocalHost()
        parent = f"{POOL}/reveal-{os.getpid()}"
        if POOL:
            zfs.create(parent, {"mountpoint": "legacy"})
            afterwards.callback(zfs.destroy, parent)
        for number, directory in enumerate(directories, 1):
            host.make_directory(directory, mode=0o755)
            if POOL:
                zfs.create(f"{parent}/g{number}", {})
                afterwards.callback(zfs.destroy, f"{parent}/g{number}")
                host.mount(f"{parent}/g{number}", directory, read_only=False)
                afterwards.callback(host.unmount, directory)
            furnish(directory, str(number))
            if POOL:
                host.remount(directory, read_only=True)
        yield directories


def test_readers_see_one_version_or_the_other(generations: list[str], tmp_path: Path) -> None:
    public, host = str(tmp_path / "justice"), LocalHost()
    targets = [os.path.relpath(directory, tmp_path) for directory in generations]
    host.point_link(public, targets[0])
    readers = [Reader(name, public, loop()) for name, loop in READERS.items()]
    for reader in readers:
        reader.begin()
    try:
        for number in range(1, SWITCHES + 1):
            host.point_link(public, targets[number % 2])
    finally:
        counted = {reader.name: reader.end() for reader in readers}
    for name, seen in counted.items():
        # Files opened one after the other by their full paths may straddle a switch; nothing else may.
        allowed = {"loops", "generation 1", "generation 2", "open file read"} | (
            {"straddled"} if name == "full paths" else set()
        )
        assert seen.keys() <= allowed, (name, seen)
        assert seen["loops"] > 0
    assert {"generation 1", "generation 2"} <= counted["root descriptor"].keys()
    assert sorted(os.listdir(tmp_path)) == [".justice", "justice"]
