"""Entries of a manifest: one file or one symbolic link of a version. An entry that exists is valid.

Directories are no entries (docs/manifests.md says why). Names are `str` as `os.fsdecode` makes them on a UTF-8 system:
bytes that are not UTF-8 are lone surrogates (PEP 383), so every name that POSIX allows has exactly one `str`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache

RESERVED = frozenset({".dsg", ".zfs"})
"""Names at a repository's root that nobody may write: manifests lie in .dsg, and ZFS shows snapshots in .zfs."""

MAX_PATH = 4095
"""Bytes of a path or a link's target: PATH_MAX of Linux without its NUL."""
MAX_NAME = 255
"""Bytes of one component: NAME_MAX of Linux file systems."""
MAX_SIZE = 2**63 - 1
"""Bytes of a file: the kernel's loff_t."""
MAX_MTIME = 2**63 - 1
"""Nanoseconds either side of 1970: what 64 bits hold, 1677 to 2262."""
MAX_MODE = 0o777
MAX_AUTHOR = 256
"""Characters of an author, as in the API's PersonName."""

_DIGEST = re.compile("[0-9a-f]{64}")
_VERSION = re.compile("s[1-9][0-9]{0,10}")
_AUTHOR = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,256}")
_NO_NAMES = {b"", b".", b".."}

# HFS+ leaves these out when it compares names, so ".d\u200csg" opens ".dsg" there (git learned it as CVE-2014-9390).
_IGNORED_BY_HFS = dict.fromkeys(
    [*range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF],
)


class EntryError(ValueError):
    """A value that no entry can have; the message says which and why."""


def to_bytes(name: str) -> bytes:
    """Return the bytes of a name. EntryError when it is not the `str` that stands for those bytes."""
    try:
        return name.encode()
    except UnicodeEncodeError:
        pass
    try:
        raw = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise EntryError(f"{name!r} holds surrogates that stand for no byte; take names from os.fsdecode") from None
    if to_name(raw) != name:
        raise EntryError(f"{name!r} spells valid UTF-8 with surrogates; take names from os.fsdecode")
    return raw


def to_name(raw: bytes) -> str:
    """Return the `str` that stands for the bytes of a name."""
    return raw.decode("utf-8", "surrogateescape")


def check_path(path: str) -> bytes:
    """Return the bytes of a path that an entry may have; entries are ordered by them. EntryError says why it can't.

    Paths are POSIX paths relative to the repository's root. Names are otherwise free: what is portable to other systems
    is a repository's policy, not a manifest's.
    """
    raw = to_bytes(path)
    names = raw.split(b"/")
    if not _NO_NAMES.isdisjoint(names):
        raise EntryError(f"path {path!r} must be relative, without empty components, '.' or '..'")
    if b"\0" in raw:
        raise EntryError(f"path {path!r} holds a NUL, which no file name can")
    if len(raw) > MAX_PATH:
        raise EntryError(f"path {path[:80]!r}… has {len(raw)} bytes; Linux opens at most {MAX_PATH}")
    longest = max(map(len, names))
    if longest > MAX_NAME:
        raise EntryError(f"path {path!r} has a component of {longest} bytes; file systems allow {MAX_NAME}")
    if _reserved(path.partition("/")[0]):
        raise EntryError(
            f"path {path!r} begins with a name that belongs to dsg or ZFS, or is taken for it on some system"
        )
    return raw


def _reserved(name: str) -> bool:
    if not name.isascii():
        name = name.translate(_IGNORED_BY_HFS)
    return name.casefold() in RESERVED


def check_target(path: str, target: str) -> None:
    """Raise EntryError when the link at `path` with that text could lead out of the repository, or can't exist.

    Each '..' takes one directory away from those above the link (the link's own name is none of them), and no '..' may
    follow a name: `name/..` is the parent of whatever `name` leads to, so with `name` a link it can be anywhere. The
    leading '..' pass through directories only, because nothing lies below an entry; what follows goes down, through
    other links too, and those obey the same rule. So no chain of valid links leaves the repository, whatever it holds.
    Nor does one reach a reserved name: none may stand anywhere in a target.
    """
    where = f"link {path!r} -> {target!r}"
    raw = to_bytes(target)
    if not raw:
        raise EntryError(f"{where}: the target is empty; POSIX has no such link")
    if len(raw) > MAX_PATH:
        raise EntryError(f"link {path!r} has a target of {len(raw)} bytes; Linux allows {MAX_PATH}")
    if b"\0" in raw:
        raise EntryError(f"{where}: the target holds a NUL, which no path can")
    if raw.startswith(b"/"):
        raise EntryError(f"{where} is absolute and means something else on each machine; make it relative")
    left = path.count("/")
    below = False
    for name in raw.split(b"/"):
        if _reserved(to_name(name)):
            raise EntryError(f"{where} passes through a name that belongs to dsg or ZFS; link to the data itself")
        if name == b"..":
            if below:
                raise EntryError(f"{where} goes up after a name, which may be a link itself; write every '..' first")
            left -= 1
            if left < 0:
                raise EntryError(f"{where} leaves the repository; copy what it points to into the repository")
        elif name not in _NO_NAMES:
            below = True
            if len(name) > MAX_NAME:
                raise EntryError(f"{where} has a component of {len(name)} bytes; file systems allow {MAX_NAME}")


def check_digest(value: str, what: str) -> None:
    """Raise EntryError unless the value is a BLAKE3 digest as hexadecimal; `what` names it in the message."""
    if not _DIGEST.fullmatch(value):
        raise EntryError(f"{what} {value!r} is not 64 lower-case hexadecimal digits")


@lru_cache(1024)
def check_author(author: str) -> None:
    """Raise EntryError unless the value can be a user's name in Kubernetes."""
    if not _AUTHOR.fullmatch(author):
        raise EntryError(f"author {author!r} is not 1 to {MAX_AUTHOR} characters without control characters")


@lru_cache(1024)
def version_number(version: str) -> int:
    """Return n of version sn, EntryError when it is not written so."""
    if not _VERSION.fullmatch(version):
        raise EntryError(f"version {version!r} is not written s1, s2, s3 and so on")
    return int(version[1:])


def _check_int(value: int, low: int, high: int, what: str, path: str) -> None:
    # A bool is an int to isinstance.
    if type(value) is not int or not low <= value <= high:
        raise EntryError(f"{what} {value!r} of {path!r} is not a whole number from {low} to {high}")


@dataclass(frozen=True, slots=True)
class File:
    """A regular file. EntryError when a value is not valid."""

    path: str
    """Where it lies, relative to the repository's root."""
    size: int
    """Bytes of content."""
    mtime: int
    """Last modification in nanoseconds since 1970 UTC (st_mtime_ns)."""
    mode: int
    """Permission bits for user, group and others. Set-id and sticky bits are never carried: they would let a writer
    leave a program that runs as the repository's owner.
    """
    digest: str
    """BLAKE3 of the content, 64 hexadecimal digits."""
    author: str
    """Who last changed its content or mode."""
    version: str
    """The version in which that was."""
    key: bytes = field(init=False, repr=False, compare=False)
    """The path's bytes; entries are ordered by them."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", _check_file(self))
        check_author(self.author)
        version_number(self.version)


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link. EntryError when a value is not valid.

    It has no mode (Linux has none for links) and no mtime: links are replaced, not written, and not every file system
    lets their time be set.
    """

    path: str
    """Where it lies, relative to the repository's root."""
    target: str
    """Text of the link, verbatim; it need not exist, and can't lead out of the repository."""
    author: str
    """Who last changed it."""
    version: str
    """The version in which that was."""
    key: bytes = field(init=False, repr=False, compare=False)
    """The path's bytes; entries are ordered by them."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", check_path(self.path))
        check_target(self.path, self.target)
        check_author(self.author)
        version_number(self.version)


Entry = File | Link


@dataclass(frozen=True, slots=True)
class FileState:
    """What a file is, not who made it so; fields as in `File`. EntryError when a value is not valid."""

    path: str
    size: int
    mtime: int
    mode: int
    digest: str
    key: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", _check_file(self))

    def signed(self, author: str, version: str) -> File:
        """Return the entry with who made it so, and in which version."""
        return File(self.path, self.size, self.mtime, self.mode, self.digest, author, version)


@dataclass(frozen=True, slots=True)
class LinkState:
    """What a link is, not who made it so; fields as in `Link`. EntryError when a value is not valid."""

    path: str
    target: str
    key: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", check_path(self.path))
        check_target(self.path, self.target)

    def signed(self, author: str, version: str) -> Link:
        """Return the entry with who made it so, and in which version."""
        return Link(self.path, self.target, author, version)


State = FileState | LinkState


def _check_file(state: File | FileState) -> bytes:
    key = check_path(state.path)
    _check_int(state.size, 0, MAX_SIZE, "size", state.path)
    _check_int(state.mtime, -MAX_MTIME, MAX_MTIME, "mtime", state.path)
    _check_int(state.mode, 0, MAX_MODE, "mode", state.path)
    check_digest(state.digest, "digest")
    return key
