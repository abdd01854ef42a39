"""The techniques. Each makes `public` show a generation's directory, and then another one, again and again."""

from __future__ import annotations

import errno
import os
from abc import ABC, abstractmethod
from collections import Counter
from contextlib import suppress
from pathlib import Path

from benchmarks.reveal import kernel
from dsg.storage.local_host import LocalHost


class Technique(ABC):
    """One way to switch. `noted` counts what happened on the way."""

    name: str

    def __init__(self, public: str) -> None:
        self.public = public
        self.noted: Counter[str] = Counter()

    @abstractmethod
    def show(self, directory: str) -> None:
        """Make the public path show a directory for the first time."""

    @abstractmethod
    def switch(self, directory: str) -> None:
        """Make it show another one."""

    @abstractmethod
    def remove(self) -> None:
        """Leave nothing at the public path."""

    def left_over(self) -> int:
        """Return the mounts at the public path beyond what one generation needs."""
        return max(0, kernel.mounted_at(self.public) - 1)


class Link(Technique):
    """A relative symbolic link that rename(2) replaces, its directory fsynced: `Host.point_link`."""

    name = "link, fsynced"

    def __init__(self, public: str) -> None:
        super().__init__(public)
        self._host = LocalHost()

    def show(self, directory: str) -> None:
        self._host.point_link(self.public, os.path.relpath(directory, Path(self.public).parent))

    def switch(self, directory: str) -> None:
        self.show(directory)

    def remove(self) -> None:
        self._host.remove_link(self.public)


class BareLink(Link):
    """The same without fsync: what the switch itself costs."""

    name = "link"

    def show(self, directory: str) -> None:
        aside = f"{self.public}.new"
        Path(aside).symlink_to(os.path.relpath(directory, Path(self.public).parent))
        Path(aside).rename(self.public)


class Mounted(Technique):
    """Something is mounted at the public path."""

    def show(self, directory: str) -> None:
        Path(self.public).mkdir()
        kernel.bind(directory, self.public)

    def remove(self) -> None:
        while kernel.mounted_at(self.public):
            kernel.unmount(self.public, lazily=True)
        Path(self.public).rmdir()


class Beneath(Mounted):
    """The new mount goes beneath the old one (MOVE_MOUNT_BENEATH, Linux 6.5), which is then detached."""

    name = "beneath, detached"

    def switch(self, directory: str) -> None:
        kernel.attach(directory, self.public, beneath=True)
        kernel.unmount(self.public, lazily=True)


class BeneathPlain(Mounted):
    """The same with a plain umount(2), which is refused while somebody has a file open; then it is detached."""

    name = "beneath, unmounted"

    def switch(self, directory: str) -> None:
        kernel.attach(directory, self.public, beneath=True)
        try:
            kernel.unmount(self.public, lazily=False)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            self.noted["plain umount refused"] += 1
            kernel.unmount(self.public, lazily=True)


class Stacked(Mounted):
    """The new mount goes over the old one, which stays below for ever.

    Each is made private: the bind mount of a shared mount is its peer, so what is mounted over one appears over the
    other as well, and the number of mounts doubles with each switch.
    """

    name = "stacked"

    def show(self, directory: str) -> None:
        super().show(directory)
        kernel.set_propagation(self.public, kernel.MS_PRIVATE)

    def switch(self, directory: str) -> None:
        kernel.bind(directory, self.public)
        kernel.set_propagation(self.public, kernel.MS_PRIVATE)


class Replaced(Mounted):
    """The old mount is detached, then the new one is made."""

    name = "detach, then bind"

    def switch(self, directory: str) -> None:
        kernel.unmount(self.public, lazily=True)
        kernel.bind(directory, self.public)


TECHNIQUES: tuple[type[Technique], ...] = (Link, Beneath, BeneathPlain, Replaced, BareLink, Stacked)


def unmount_below(public: str, old: str, new: str) -> str:
    """Try to take away the lower of two stacked mounts, by a descriptor of it; return what came of it."""
    Path(public).mkdir()
    kernel.bind(old, public)
    below = os.open(public, os.O_PATH | os.O_CLOEXEC)
    kernel.bind(new, public)
    try:
        told = []
        for lazily in (False, True):
            try:
                kernel.unmount(f"/proc/self/fd/{below}", lazily=lazily)
                said = "done"
            except OSError as error:
                said = errno.errorcode.get(error.errno or 0, str(error.errno))
            left = kernel.mounted_at(public)
            shows = f"generation {Path(public, 'a').read_text()}" if left else "nothing"
            told.append(f"{'MNT_DETACH' if lazily else 'plain'}: {said}, {left} mounts left, shows {shows}")
        return "; ".join(told)
    finally:
        os.close(below)
        with suppress(OSError):
            while kernel.mounted_at(public):
                kernel.unmount(public, lazily=True)
        Path(public).rmdir()
