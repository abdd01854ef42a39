"""What stands at a name in an open directory. Functions raise OSError."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress

from dsg.storage.trees import Facts, FileKind

_KINDS = {stat.S_IFREG: FileKind.FILE, stat.S_IFLNK: FileKind.LINK, stat.S_IFDIR: FileKind.DIRECTORY}


def facts_of(found: os.stat_result, target: str = "") -> Facts:
    """Return what stat(2) told."""
    kind = _KINDS.get(stat.S_IFMT(found.st_mode), FileKind.OTHER)
    return Facts(
        kind=kind,
        size=0 if kind is FileKind.DIRECTORY else found.st_size,
        mtime=found.st_mtime_ns,
        mode=stat.S_IMODE(found.st_mode),
        target=target,
        uid=found.st_uid,
        gid=found.st_gid,
    )


def facts_at(parent: int, name: str) -> Facts:
    """Look at a name in an open directory."""
    found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if not stat.S_ISLNK(found.st_mode):
        return facts_of(found)
    # By descriptor, so that the text is that of the link that was looked at.
    descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        found = os.fstat(descriptor)
        target = os.readlink("", dir_fd=descriptor) if stat.S_ISLNK(found.st_mode) else ""
        return facts_of(found, target)
    finally:
        os.close(descriptor)


def entries(listing: int) -> Iterator[tuple[str, Facts]]:
    """Yield every name in a directory that is open for reading; what goes away meanwhile is left out."""
    with os.scandir(listing) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                yield entry.name, facts_at(listing, entry.name)
