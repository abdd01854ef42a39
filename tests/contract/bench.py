"""What a contract test works on: the two interfaces, a dataset and a directory of its own, and a user of the node."""

from __future__ import annotations

import errno
import os
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from dsg.storage.errors import PermissionDenied, QuotaExceeded
from dsg.storage.host import Host
from dsg.storage.trees import Owning, Trees
from dsg.storage.zfs.interface import Dataset, DatasetKind, ProgramValue, Property, Zfs

if TYPE_CHECKING:
    from dsg.storage.zfs.model import ModelNode

FILESYSTEM, SNAPSHOT = DatasetKind.FILESYSTEM, DatasetKind.SNAPSHOT


class Bench(ABC):
    """`root` is a dataset with mountpoint=legacy and compression=off; `scratch` an empty directory."""

    def __init__(self, zfs: Zfs, host: Host, trees: Trees, root: str, scratch: str) -> None:
        self.zfs = zfs
        self.host = host
        self.trees = trees
        self.root = root
        self.pool = root.partition("/")[0]
        self.scratch = scratch

    # ---- shorthands

    def create(self, name: str, **properties: str) -> str:
        """Create a filesystem below the root and return its whole name."""
        full = f"{self.root}/{name}"
        self.zfs.create(full, properties)
        return full

    def properties(self, name: str, *wanted: str) -> Mapping[str, Property]:
        """Return properties of one dataset or snapshot, which must exist."""
        kind = SNAPSHOT if "@" in name else FILESYSTEM
        return self.zfs.read([name], wanted, kinds=[kind], depth=0)[name].properties

    def value(self, name: str, wanted: str) -> str:
        """Return the value of one property."""
        return self.properties(name, wanted)[wanted].value

    def exists(self, name: str) -> bool:
        """Whether a dataset or snapshot exists."""
        kind = SNAPSHOT if "@" in name else FILESYSTEM
        return name in self.zfs.read([name], ["guid"], kinds=[kind], depth=0)

    def snapshots(self, dataset: str, *wanted: str) -> Mapping[str, Dataset]:
        """Return the snapshots of one dataset by whole name."""
        return self.zfs.read([dataset], wanted or ("guid",), kinds=[SNAPSHOT], depth=1)

    def mounted(self, dataset: str, name: str = "mnt", *, read_only: bool = False) -> str:
        """Mount a dataset at a fresh directory in the scratch directory and return that."""
        directory = f"{self.scratch}/{name}"
        self.host.make_directory(directory, mode=0o755)
        self.host.mount(dataset, directory, read_only=read_only)
        return directory

    def run(self, source: str, *arguments: str, sync: bool = True) -> ProgramValue:
        """Run a channel program in the pool."""
        return self.zfs.program(self.pool, source, arguments, sync=sync)

    # ---- the node's users

    @abstractmethod
    def write_file(self, path: str, data: bytes, *, sync: bool = False) -> None:
        """Write a file. Raises QuotaExceeded, PermissionDenied (read-only)."""

    @abstractmethod
    def read_file(self, path: str) -> bytes:
        """Return a file's content, following links."""

    @abstractmethod
    def in_use(self, path: str, *, writing: bool = False) -> AbstractContextManager[None]:
        """Keep an existing file of a mount open."""

    @abstractmethod
    def sync(self) -> None:
        """Let the pool's open transaction group reach the disk."""

    @abstractmethod
    def key_file(self, name: str, content: bytes | None) -> str:
        """Write a key file, or remove it, and return its keylocation."""

    @abstractmethod
    def clean(self) -> None:
        """Remove everything that the test made."""


class ModelBench(Bench):
    """On the model: a node of its own for each test."""

    def __init__(self) -> None:
        from dsg.storage.zfs.model import ModelHost, ModelNode, ModelTrees, ModelZfs

        self.node: ModelNode = ModelNode()
        self.node.add_pool("tank")
        self.node.add_pool("other")
        zfs, host, trees = ModelZfs(self.node), ModelHost(self.node), ModelTrees(self.node)
        super().__init__(zfs, host, trees, "tank/contract/test", "/scratch")
        self.zfs.create("tank/contract", {})
        self.host.make_directory(self.scratch, mode=0o755)

    def write_file(self, path: str, data: bytes, *, sync: bool = False) -> None:
        self.node.write_file(path, data, sync=sync)

    def read_file(self, path: str) -> bytes:
        return self.node.read_file(path)

    def in_use(self, path: str, *, writing: bool = False) -> AbstractContextManager[None]:
        return self.node.use(path, writing=writing)

    def sync(self) -> None:
        self.node.sync()

    def key_file(self, name: str, content: bytes | None) -> str:
        path = f"/keys/{name}"
        self.node.key_files.pop(path, None)
        if content is not None:
            self.node.key_files[path] = content
        return f"file://{path}"

    def clean(self) -> None:
        pass


class RealBench(Bench):
    """On OpenZFS: everything lies below one dataset of the pool and one temporary directory."""

    def __init__(self, zfs: Zfs, host: Host, trees: Trees, root: str, scratch: str) -> None:
        super().__init__(zfs, host, trees, root, scratch)
        self._keys = Path(f"{scratch}.keys")
        self._keys.mkdir(mode=0o700)

    def write_file(self, path: str, data: bytes, *, sync: bool = False) -> None:
        try:
            with Path(path).open("wb") as file:
                file.write(data)
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
        except OSError as error:
            if error.errno == errno.EDQUOT:
                raise QuotaExceeded(str(error), subject=path) from error
            if error.errno == errno.EROFS:
                raise PermissionDenied(str(error), subject=path) from error
            raise

    def read_file(self, path: str) -> bytes:
        return Path(path).read_bytes()

    def in_use(self, path: str, *, writing: bool = False) -> AbstractContextManager[None]:
        return opened(path, writing=writing)

    def sync(self) -> None:
        subprocess.run(["zpool", "sync", self.pool], check=True, timeout=60)

    def key_file(self, name: str, content: bytes | None) -> str:
        path = self._keys / name
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        return f"file://{path}"

    def clean(self) -> None:
        for mount in reversed(self.host.mounts()):
            if mount.dataset == self.root or mount.dataset.startswith(f"{self.root}/"):
                self.host.unmount(mount.directory)
        if self._destroy() != 0:
            for snapshot, tag in self._holds():
                subprocess.run(["zfs", "release", tag, snapshot], check=True, timeout=60)
            if self._destroy() != 0:
                raise AssertionError(f"{self.root} could not be destroyed after the test")

    def _destroy(self) -> int:
        command = ["zfs", "destroy", "-R", self.root]
        done = subprocess.run(command, check=False, timeout=60, capture_output=True, text=True)
        return 0 if "does not exist" in done.stderr else done.returncode

    def _holds(self) -> list[tuple[str, str]]:
        command = ["zfs", "list", "-H", "-r", "-t", "snapshot", "-o", "name", self.root]
        listed = subprocess.run(command, check=True, timeout=60, capture_output=True, text=True).stdout.split("\n")
        return [(hold.snapshot, hold.tag) for hold in self.zfs.holds([name for name in listed if name])]


class Ground:
    """What a test of `Trees` works on: two roots, in two file systems where there is a pool.

    `bench` is None where the roots are directories of this machine.
    """

    def __init__(self, trees: Trees, root: str, other: str, bench: Bench | None = None) -> None:
        self.trees = trees
        self.root = root
        self.other = other
        self.real = not isinstance(bench, ModelBench)
        self._bench = bench
        self._numbers = count(1)

    def fresh(self) -> str:
        """Return a root of its own, an empty directory."""
        name = f"fresh{next(self._numbers)}"
        self.trees.make_directory(self.root, name, owning=OWNING)
        return f"{self.root}/{name}"

    def in_use(self, path: str, *, writing: bool = False) -> AbstractContextManager[None]:
        """Keep an existing file open."""
        return self._bench.in_use(path, writing=writing) if self._bench else opened(path, writing=writing)


OWNING = Owning(1234, 4321, 0o2770) if os.geteuid() == 0 else Owning(os.geteuid(), os.getegid(), 0o2770)
"""An owner that the test may give files to."""


@contextmanager
def opened(path: str, *, writing: bool) -> Iterator[None]:
    """Keep a file of this machine open."""
    with Path(path).open("ab" if writing else "rb"):
        yield
