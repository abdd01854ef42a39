"""A repository on real OpenZFS: below a dataset of the test's own, mounted below a directory of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dsg.storage.local_host import LocalHost
from dsg.storage.local_trees import LocalTrees
from dsg.storage.process import Runner
from dsg.storage.zfs.command_line import CommandLineZfs, Timeouts
from dsg.storage.zfs.repository import ZfsRepositories
from dsg.transactions.on_zfs import ZfsTransactions
from tests.reconcile.specs import repository
from tests.transactions.ground import Ground, make_target
from tests.transactions.strikes import Strikes, Watched

POOL = os.environ.get("DSG_TEST_POOL", "")
"""The pool that tests may make datasets in; empty where there is none."""


class ZfsGround(Ground):
    """On OpenZFS. Made anew for the same names, it is the repository that is there, as after a restart."""

    def __init__(
        self,
        home: str,
        directory: Path,
        name: str = "justice",
        *,
        runner: Callable[[], Runner] = Runner,
        timeouts: Timeouts | None = None,
        storage: dict[str, Any] | None = None,
        **spec: Any,
    ) -> None:
        """`home` is a dataset with mountpoint=none, `directory` one of the root file system."""
        super().__init__()
        # Snapshots get the real time, and a version from the future is never pruned.
        self.now = datetime.now(UTC)
        self.home, self.name, self.directory = home, name, directory
        self.mountpoint = f"{directory}/{name}"
        self._runner, self._timeouts = runner, timeouts
        place = {"pool": home.partition("/")[0], "dataset": f"{home}/{name}", "mountpoint": self.mountpoint}
        raw = repository(name, **{**place, **(storage or {})})
        self.target = make_target(raw, name, **spec)
        self.restart()
        self.converge()

    @property
    def dataset(self) -> str:
        return f"{self.home}/{self.name}"

    def restart(self, strikes: Strikes | None = None) -> None:
        runner = self._runner()
        zfs: Any = CommandLineZfs(runner, self._timeouts)
        host: Any = LocalHost(runner)
        trees: Any = LocalTrees()
        self.zfs, self.host = zfs, host
        if strikes is not None:
            zfs, host, trees = (
                Watched(inner, area, strikes) for inner, area in ((zfs, "zfs"), (host, "host"), (trees, "trees"))
            )
        self.wire(ZfsTransactions(zfs, host), ZfsRepositories(zfs, host), trees, ordered=True)

    def public(self) -> str:
        return str(Path(self.mountpoint).resolve(strict=True))

    def datasets(self) -> set[str]:
        """Return the names below the repository's dataset."""
        found = self.zfs.read([self.dataset], ["guid"], depth=1)
        return {name.rpartition("/")[2] for name in found} - {self.name}

    def leftovers(self) -> None:
        public = self.public()
        head = public.rpartition("/")[2]
        assert self.datasets() == {head}, self.datasets()
        assert self.mounts() == {public: f"{self.dataset}/{head}"}
        holder = self.directory / f".{self.name}"
        assert {path.name for path in holder.iterdir()} <= {head, ".open"}
        if (holder / ".open").exists():
            assert list((holder / ".open").iterdir()) == []

    def mounts(self) -> dict[str, str]:
        """Return what is mounted of the repository: the dataset by directory."""
        return {m.directory: m.dataset for m in self.host.mounts() if m.dataset.startswith(f"{self.dataset}/")}

    def destroy(self) -> None:
        """Remove everything of the repository."""
        for directory in reversed(self.mounts()):
            self.host.unmount(directory)
        subprocess.run(["zfs", "destroy", "-R", self.dataset], check=True, timeout=120)
