"""A whole generation's tree once more, for file systems that can't clone a dataset."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress

from dsg.storage import confined
from dsg.storage.confined import told
from dsg.storage.copying import copy_content
from dsg.storage.file_paths import require_absolute
from dsg.storage.looking import entries
from dsg.storage.tree_paths import parts
from dsg.storage.trees import OWN_DIRECTORY, Facts, FileKind, Owning

_SNAPSHOTS = ".zfs"
_TEMPORARY = f"{OWN_DIRECTORY}/{confined.TEMPORARY}"


def clone(source_root: str, root: str, *, owning: Owning) -> None:
    """Copy everything below a root to another, which is made where it is missing, in a directory that is there.

    Contents share their blocks where the file system can; files and links keep mode and time and get `owning`, as
    directories do. `.dsg` is copied too, `.zfs` and devices, sockets and fifos are not. Every file takes its place
    whole. Interrupted, it can be repeated over what is there; what the source lacks is not removed. Nothing is
    durable before `Trees.sync`. Raises NotFound, AlreadyExists (a directory where the source has none, or the other
    way round), OutOfSpace, QuotaExceeded.
    """
    require_absolute(root)
    above, name = os.path.split(root.rstrip("/"))
    with (
        told(f"copy {source_root} to", root, ""),
        confined.opened_root(source_root) as source,
        confined.opened_root(above or "/") as holder,
        confined.directory(holder, [name], owning=owning) as top,
        confined.temporaries(top, owning) as aside,
    ):
        waiting = [""]
        while waiting:
            path = waiting.pop()
            with (
                confined.directory(source, parts(path)) as here,
                confined.listable(here) as listing,
                confined.directory(top, parts(path), owning=owning) as target,
            ):
                for entry, found in entries(listing):
                    inner = f"{path}/{entry}" if path else entry
                    if inner in {_SNAPSHOTS, _TEMPORARY}:
                        continue
                    if found.kind is FileKind.DIRECTORY:
                        waiting.append(inner)
                    elif found.kind is not FileKind.OTHER:
                        _copy_entry(here, target, aside, entry, found, owning)


def _copy_entry(here: int, target: int, aside: int, name: str, found: Facts, owning: Owning) -> None:
    temporary = secrets.token_hex(8)
    try:
        if found.kind is FileKind.LINK:
            os.symlink(found.target, temporary, dir_fd=aside)
            os.chown(temporary, owning.uid, owning.gid, dir_fd=aside, follow_symlinks=False)
            os.utime(temporary, ns=(found.mtime, found.mtime), dir_fd=aside, follow_symlinks=False)
        else:
            _copy_file(here, aside, name, temporary, owning)
        os.rename(temporary, name, src_dir_fd=aside, dst_dir_fd=target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=aside)
        raise


def _copy_file(here: int, aside: int, name: str, temporary: str, owning: Owning) -> None:
    original = confined.open_quietly(name, 0, here)
    try:
        made = confined.create(aside, temporary)
        try:
            found = os.fstat(original)
            copy_content(original, made, share=True)
            confined.own(made, os.fstat(made), owning)
            os.fchmod(made, stat.S_IMODE(found.st_mode))
            os.utime(made, ns=(found.st_atime_ns, found.st_mtime_ns))
        finally:
            os.close(made)
    finally:
        os.close(original)
