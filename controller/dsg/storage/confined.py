"""Directories below a root, by descriptor: no path that is given can lead out of it.

Every component is opened in the one before (openat(2)) without following a link, so that whatever others swap in
meanwhile is either a directory inside the root or an error. `openat2(2)` with RESOLVE_BENEATH would do it in one call
instead of one per component; Python does not offer it, and the difference is a microsecond per component.

Functions raise OSError; `told` makes them the storage layer's errors.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from dsg.storage.errors import AlreadyExists, InvalidValue, NotFound
from dsg.storage.file_paths import require_absolute, typed
from dsg.storage.tree_paths import inner
from dsg.storage.trees import OWN_DIRECTORY, Owning

_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_UNFINISHED = 0o1700
"""Mode of a directory that was made and has neither owner nor mode yet. mkdir(2) can set it, nobody else would."""
TEMPORARY = "tmp"
"""The directory in `.dsg` where things are made before they take their place."""
_ATTEMPTS = 16
"""How often a directory is made again that others remove in the same moment, because it is empty."""


@contextmanager
def told(does: str, root: str, path: str) -> Iterator[None]:
    """Raise the storage layer's errors in place of the operating system's."""
    try:
        yield
    except OSError as error:
        where = f"{root}/{path}" if path else root
        if error.errno in {errno.ENOTDIR, errno.ELOOP}:
            text = f"cannot {does} {where}: something on the way is no directory"
            raise NotFound(text, subject=where) from error
        raise typed(error, does, where) from error


@contextmanager
def opened_root(root: str) -> Iterator[int]:
    """Open a root directory, which must be no link itself."""
    require_absolute(root)
    descriptor = os.open(root, _STEP)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def directory(top: int, names: list[str], *, owning: Owning | None = None) -> Iterator[int]:
    """Open a directory below an open one (O_PATH); with `owning`, missing ones are made."""
    here = os.dup(top)
    try:
        for name in names:
            below = _step(here, name, owning)
            os.close(here)
            here = below
        yield here
    finally:
        os.close(here)


def _step(above: int, name: str, owning: Owning | None) -> int:
    if owning is None:
        return os.open(name, _STEP, dir_fd=above)
    for _ in range(_ATTEMPTS):
        try:
            below = os.open(name, _STEP, dir_fd=above)
        except FileNotFoundError:
            with suppress(FileExistsError):
                os.mkdir(name, _UNFINISHED, dir_fd=above)
            continue
        try:
            _finish(below, owning)
        except BaseException:
            os.close(below)
            raise
        return below
    return os.open(name, _STEP, dir_fd=above)


def _finish(made: int, owning: Owning) -> None:
    """Give a directory that was just made, or in an interrupted call, its owner and mode."""
    found = os.fstat(made)
    if found.st_mode & 0o1777 != _UNFINISHED or found.st_uid != os.geteuid():
        return
    with listable(made) as descriptor:
        own(descriptor, found, owning)
        os.fchmod(descriptor, owning.directory_mode)


def own(descriptor: int, found: os.stat_result, owning: Owning) -> bool:
    """Give an open file its owner and group where they differ; return whether they did."""
    differs = (found.st_uid, found.st_gid) != (owning.uid, owning.gid)
    if differs:
        os.fchown(descriptor, owning.uid, owning.gid)
    return differs


@contextmanager
def listable(descriptor: int) -> Iterator[int]:
    """Open a directory again, for reading."""
    listing = open_quietly(".", os.O_DIRECTORY, descriptor)
    try:
        yield listing
    finally:
        os.close(listing)


def open_quietly(name: str, flags: int, above: int) -> int:
    """Open for reading without touching the access time, which would count as a change of the dataset."""
    flags |= os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    try:
        return os.open(name, flags | os.O_NOATIME, dir_fd=above)
    except PermissionError:
        # Only the owner and root may ask for that (open(2)).
        return os.open(name, flags, dir_fd=above)


@contextmanager
def regular_file(top: int, path: str) -> Iterator[int]:
    """Open a regular file for reading. Raises InvalidValue where it is none, before it is opened: a device may act."""
    above, name = inner(path)
    with directory(top, above) as parent:
        _require_regular(os.stat(name, dir_fd=parent, follow_symlinks=False), path)
        try:
            descriptor = open_quietly(name, 0, parent)
        except OSError as error:
            if error.errno in {errno.ELOOP, errno.ENXIO}:
                raise InvalidValue(f"{path} is no regular file", subject=path) from error
            raise
    try:
        _require_regular(os.fstat(descriptor), path)
        yield descriptor
    finally:
        os.close(descriptor)


def _require_regular(found: os.stat_result, path: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise InvalidValue(f"{path} is no regular file", subject=path)


def refuse_directory(top: int, path: str) -> None:
    """Raise AlreadyExists where a directory stands: something else is to be placed there."""
    above, name = inner(path)
    with suppress(FileNotFoundError), directory(top, above) as parent:
        if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            raise AlreadyExists(f"{path} is a directory; it is left as it is", subject=path)


@contextmanager
def placing(top: int, path: str, owning: Owning) -> Iterator[tuple[int, str]]:
    """Yield a directory and the name of what is to be made there; it then takes its place in one rename(2)."""
    refuse_directory(top, path)
    with temporaries(top, owning) as aside:
        temporary = secrets.token_hex(8)
        try:
            yield aside, temporary
            rename(aside, temporary, top, path, owning)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=aside)
            raise


def rename(source: int, old: str, top: int, path: str, owning: Owning) -> None:
    """Move something to a path below an open root, where missing directories are made."""
    above, name = inner(path)
    for attempt in range(_ATTEMPTS):
        try:
            with directory(top, above, owning=owning) as parent:
                os.rename(old, name, src_dir_fd=source, dst_dir_fd=parent)
        except FileNotFoundError:
            # Another thread may have removed the directory meanwhile, because it was empty.
            if attempt == _ATTEMPTS - 1:
                raise
            os.stat(old, dir_fd=source, follow_symlinks=False)
        else:
            return


@contextmanager
def temporaries(top: int, owning: Owning) -> Iterator[int]:
    """Open the directory in which things are made before they take their place.

    Everybody who makes something there holds a shared lock on it; whoever gets it alone removes what interrupted
    calls have left. A lock ends with its process (flock(2)).
    """
    private = Owning(os.geteuid(), os.getegid(), 0o700)
    with (
        directory(top, [OWN_DIRECTORY], owning=owning) as above,
        directory(above, [TEMPORARY], owning=private) as aside,
        listable(aside) as listing,
    ):
        try:
            fcntl.flock(listing, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            for name in os.listdir(listing):  # noqa: PTH208  (a descriptor)
                with suppress(FileNotFoundError, IsADirectoryError):
                    os.unlink(name, dir_fd=listing)
        fcntl.flock(listing, fcntl.LOCK_SH)
        yield listing


def create(above: int, name: str) -> int:
    """Make an empty file that nobody else can read yet, and open it for reading and writing."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, 0o600, dir_fd=above)
