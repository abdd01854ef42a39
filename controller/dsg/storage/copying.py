"""A file's content into another file, with shared blocks where the file system can, and with its holes."""

from __future__ import annotations

import errno
import fcntl
import os

_FICLONE = 0x40049409
"""_IOW(0x94, 9, int) of linux/fs.h, the same on every architecture that uses the generic ioctl numbers."""
_CANNOT = frozenset({errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENOTTY, errno.EAGAIN})
"""What ioctl_ficlone(2) and copy_file_range(2) answer where the way has to be another; OpenZFS says EAGAIN of blocks
that are not on disk yet."""
_CHUNK = 1 << 20
_SECTOR = 512
"""Unit of st_blocks (stat(2))."""


def copy_content(source: int, target: int, *, share: bool) -> None:
    """Copy the content of an open file into an empty one, from the start; without `share` by read(2) and write(2).

    Raises OSError. A source that others change meanwhile gives a mixture, as every copy does.
    """
    size = os.fstat(source).st_size
    if share and (_clone(source, target) or _copy_ranges(source, target, size)):
        return
    _copy_plainly(source, target, size)


def _clone(source: int, target: int) -> bool:
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in _CANNOT:
            return False
        raise
    return True


def _copy_ranges(source: int, target: int, size: int) -> bool:
    """Copy what is no hole by copy_file_range(2), which shares blocks between the datasets of a pool."""
    # Looking for holes in a file that was just written makes OpenZFS wait for the disk.
    whole = os.fstat(source).st_blocks * _SECTOR >= size
    position = 0
    while position < size:
        end = size
        if not whole:
            try:
                position = os.lseek(source, position, os.SEEK_DATA)
                end = min(size, os.lseek(source, position, os.SEEK_HOLE))
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                break
        while position < end:
            try:
                done = os.copy_file_range(source, target, end - position, position, position)
            except OSError as error:
                if error.errno in _CANNOT:
                    return False
                raise
            if not done:
                return True
            position += done
    os.ftruncate(target, size)
    return True


def _copy_plainly(source: int, target: int, size: int) -> None:
    """Read everything and write what is not zero: what a hole is, the reader alone decides."""
    buffer = bytearray(_CHUNK)
    view = memoryview(buffer)
    zeros = bytes(_CHUNK)
    position = 0
    while count := os.preadv(source, [view], position):
        if buffer[:count] != zeros[:count]:
            written = 0
            while written < count:
                written += os.pwrite(target, view[written:count], position + written)
        position += count
    os.ftruncate(target, max(size, position))
