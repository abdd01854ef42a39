"""Where a demonstration keeps its files, and that only one uses them at a time."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from lab.errors import LabError
from lab.paths import cache_root

_MARK = "this is a demonstration of dsg"


class Place(AbstractContextManager["Place"]):
    """The directory of the last demonstration, which the shell goes on with, or a fresh one.

    A mountpoint can't lie below a hidden directory, so it is in the folder for temporary files, and the cache only
    remembers where. The lab's disks are large and go into the cache itself.
    """

    def __init__(self, directory: Path | None, *, lab: bool = False) -> None:
        self._given = directory.absolute() if directory else None
        self._lab = lab
        home = self._given or cache_root()
        home.mkdir(parents=True, exist_ok=True)
        name = "demo-lab" if lab else "demo"
        self._pointer, self._lock_file = home / f"{name}.directory", home / f"{name}.lock"
        self._lock: IO[str] | None = None

    def __enter__(self) -> Self:
        lock = self._lock_file.open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise LabError("another demonstration is running; end it first, or give this one a --directory") from None
        self._lock = lock
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.close()

    def _known(self) -> Path | None:
        try:
            path = Path(self._pointer.read_text().strip())
            ours = (path / ".mark").read_text() == _MARK
        except (FileNotFoundError, NotADirectoryError):
            return None
        return path if ours else None

    def current(self) -> Path:
        """Return the directory of the last demonstration, or a fresh one."""
        return self._known() or self.fresh()

    def fresh(self) -> Path:
        """Return a new directory, after removing the last one."""
        if (old := self._known()) is not None:
            shutil.rmtree(old, ignore_errors=True)
        path = self._new()
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        (path / ".mark").write_text(_MARK)
        self._pointer.write_text(f"{path}\n")
        return path

    def _new(self) -> Path:
        if self._given is not None:
            return self._given / "demo"
        if self._lab:
            return cache_root() / "demo-lab"
        visible = next((f for f in (tempfile.gettempdir(), "/tmp", "/var/tmp") if "/." not in f), None)  # noqa: S108
        return Path(tempfile.mkdtemp(prefix="dsg-demo-", dir=visible)).resolve()
