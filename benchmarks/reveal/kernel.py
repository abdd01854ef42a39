"""The system calls about mounts that Python does not have."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

AT_FDCWD = -100
MNT_DETACH = 2
MS_BIND, MS_REC, MS_PRIVATE, MS_SLAVE = 0x1000, 0x4000, 1 << 18, 1 << 19
CLONE_NEWNS = 0x20000
OPEN_TREE_CLONE = 1
MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_BENEATH = 4, 0x200
_OPEN_TREE, _MOVE_MOUNT = 428, 429
"""Their numbers are the same on all architectures but alpha."""

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, path: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)
    return result


def bind(source: str, target: str, *, recursive: bool = False) -> None:
    """mount --bind, or --rbind."""
    flags = MS_BIND | (MS_REC if recursive else 0)
    _checked(_libc.mount(source.encode(), target.encode(), None, ctypes.c_ulong(flags), None), target)


def set_propagation(target: str, flag: int) -> None:
    """Set how mounts and unmounts spread, for a mount and all below."""
    _checked(_libc.mount(None, target.encode(), None, ctypes.c_ulong(flag | MS_REC), None), target)


def unmount(target: str, *, lazily: bool) -> None:
    """Take away the topmost mount at a path: umount2(2), with MNT_DETACH or without."""
    _checked(_libc.umount2(target.encode(), MNT_DETACH if lazily else 0), target)


def attach(source: str, target: str, *, beneath: bool) -> None:
    """Bind a directory to a path with open_tree(2) and move_mount(2), beneath what is mounted there or on top."""
    flags = OPEN_TREE_CLONE | os.O_CLOEXEC
    tree = _checked(_libc.syscall(_OPEN_TREE, AT_FDCWD, source.encode(), ctypes.c_uint(flags)), source)
    try:
        flags = MOVE_MOUNT_F_EMPTY_PATH | (MOVE_MOUNT_BENEATH if beneath else 0)
        _checked(_libc.syscall(_MOVE_MOUNT, tree, b"", AT_FDCWD, target.encode(), ctypes.c_uint(flags)), target)
    finally:
        os.close(tree)


def own_namespace(propagation: int) -> None:
    """Give this process a mount namespace of its own, as a container's, fed or not by the one it leaves."""
    _checked(_libc.unshare(CLONE_NEWNS), "mount namespace")
    set_propagation("/", propagation)


def mounted_at(path: str) -> int:
    """Return how many mounts are stacked at a path."""
    return sum(line.split(" ")[4] == path for line in Path("/proc/self/mountinfo").read_text().splitlines())
