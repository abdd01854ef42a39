"""OpenZFS's native properties: who may set them, whether they are inherited, and how values are read and printed.

The table follows zfs_prop.c of OpenZFS 2.3. Where several words mean one stored value, `zfs get` prints the first of
them whatever was set: gzip-6 reads back as gzip, zstd-fast-1 as zstd-fast, xattr=sa as on, acltype=posixacl as posix.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum, Flag, auto


class Rule(Enum):
    """Who sets a property and where its value comes from when nobody does."""

    INHERIT = "inherit"
    DEFAULT = "default"
    """Settable, never inherited: a dataset has its own value or the default."""
    ONCE = "once"
    """Settable only while the dataset is created."""
    READ_ONLY = "read-only"


class On(Flag):
    """Which kinds of dataset have a property."""

    FILESYSTEM = auto()
    SNAPSHOT = auto()
    VOLUME = auto()
    BOOKMARK = auto()


@dataclass(frozen=True, slots=True)
class Native:
    """One native property. `parse` turns what a person writes into what `zfs get -p` prints; raises ValueError."""

    name: str
    rule: Rule
    on: On
    default: str
    parse: Callable[[str], str]


UNLIMITED = str(2**64 - 1)
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40, "P": 50, "E": 60}


def number(text: str) -> int:
    """Return a number of zfs(8), with its optional unit (1.5G, 100K, 10MiB); raises ValueError."""
    found = re.fullmatch(r"(\d+)(\.\d+)?([KMGTPE]?)(i?B|)", text, re.IGNORECASE)
    if found is None:
        raise ValueError(f"bad numeric value '{text}'")
    whole, fraction, unit, _ = found.groups()
    shift = _UNITS[unit.upper()]
    value = int(whole) << shift
    if fraction is not None:
        value = int(float(whole + fraction) * (1 << shift))
    if value >= 2**64:
        raise ValueError(f"numeric value is too large: '{text}'")
    return value


def _words(*words: str, **same: str) -> Callable[[str], str]:
    printed = {word: word for word in words} | {word.replace("_", "-"): first for word, first in same.items()}

    def parse(text: str) -> str:
        if text not in printed:
            raise ValueError(f"must be one of '{' | '.join(words)}'")
        return printed[text]

    return parse


def _size(text: str) -> str:
    return "0" if text == "none" else str(number(text))


def _quota(text: str) -> str:
    value = _size(text)
    if value == "0" and text != "none":
        raise ValueError("must not be 0: use 'none' to disable quota/refquota")
    return value


def _count(text: str) -> str:
    value = UNLIMITED if text == "none" else str(number(text))
    return "none" if value == UNLIMITED else value


def _power(low: int, high: int, *, zero: bool = False) -> Callable[[str], str]:
    def parse(text: str) -> str:
        value = number(text)
        if not (zero and value == 0) and (not low <= value <= high or value & (value - 1)):
            raise ValueError(f"must be power of 2 from {low}B to {high >> 20}M")
        return str(value)

    return parse


def _mountpoint(text: str) -> str:
    if text in {"legacy", "none"}:
        return text
    if not text.startswith("/"):
        raise ValueError("must be an absolute path, 'none', or 'legacy'")
    return text.rstrip("/") or "/"


def _keylocation(text: str) -> str:
    if text in {"none", "prompt"} or re.match(r"file:///|https?://", text):
        return text
    raise ValueError("invalid keylocation")


def _any(text: str) -> str:
    return text


def _never(text: str) -> str:
    raise ValueError("is readonly")


_BOOLEAN = _words("off", "on")
_CHECKSUMS = ("on", "off", "fletcher2", "fletcher4", "sha256", "sha512", "skein", "edonr", "blake3")
_FAST = (*range(2, 11), *range(20, 101, 10), 500, 1000)
_COMPRESSION = _words(
    "on",
    "off",
    "lzjb",
    "gzip",
    *(f"gzip-{level}" for level in range(1, 10) if level != 6),  # noqa: PLR2004
    "zle",
    "lz4",
    "zstd",
    "zstd-fast",
    *(f"zstd-{level}" for level in range(1, 20)),
    *(f"zstd-fast-{level}" for level in _FAST),
    gzip_6="gzip",
    zstd_fast_1="zstd-fast",
)
_DEDUP = ("off", "on", "verify", *(f"{c}{v}" for c in ("sha256", "sha512", "skein", "blake3") for v in ("", ",verify")))

FS = On.FILESYSTEM
FS_SNAP = On.FILESYSTEM | On.SNAPSHOT
FS_VOL = On.FILESYSTEM | On.VOLUME
DATASET = On.FILESYSTEM | On.VOLUME | On.SNAPSHOT
EVERY = DATASET | On.BOOKMARK


def _inherited() -> Iterable[Native]:
    cache = _words("all", "none", "metadata")
    rows: list[tuple[str, On, str, Callable[[str], str]]] = [
        ("aclinherit", FS, "restricted", _words("discard", "noallow", "restricted", "passthrough", "passthrough-x")),
        ("aclmode", FS, "discard", _words("discard", "groupmask", "passthrough", "restricted")),
        ("acltype", FS_SNAP, "off", _words("off", "nfsv4", "posix", posixacl="posix", noacl="off", disabled="off")),
        ("atime", FS, "on", _BOOLEAN),
        ("checksum", FS_VOL, "on", _words(*_CHECKSUMS)),
        ("compression", FS_VOL, "on", _COMPRESSION),
        ("copies", FS_VOL, "1", _words("1", "2", "3")),
        ("dedup", FS_VOL, "off", _words(*_DEDUP, "edonr,verify")),
        ("devices", FS_SNAP, "on", _BOOLEAN),
        ("direct", FS, "standard", _words("disabled", "standard", "always")),
        ("dnodesize", FS, "legacy", _words("legacy", "auto", "1k", "2k", "4k", "8k", "16k")),
        ("exec", FS_SNAP, "on", _BOOLEAN),
        ("logbias", FS_VOL, "latency", _words("latency", "throughput")),
        ("longname", FS, "off", _BOOLEAN),
        ("mlslabel", DATASET, "none", _any),
        ("mountpoint", FS, "/", _mountpoint),
        ("nbmand", FS_SNAP, "off", _BOOLEAN),
        ("overlay", FS, "on", _BOOLEAN),
        ("prefetch", DATASET, "all", cache),
        ("primarycache", DATASET, "all", cache),
        ("readonly", FS_VOL, "off", _BOOLEAN),
        ("recordsize", FS, "131072", _power(512, 16 << 20)),
        ("redundant_metadata", FS_VOL, "all", _words("all", "most", "some", "none")),
        ("relatime", FS, "on", _BOOLEAN),
        ("secondarycache", DATASET, "all", cache),
        ("setuid", FS_SNAP, "on", _BOOLEAN),
        ("sharenfs", FS, "off", _any),
        ("sharesmb", FS, "off", _any),
        ("snapdev", FS_VOL, "hidden", _words("hidden", "visible")),
        ("snapdir", FS, "hidden", _words("disabled", "hidden", "visible")),
        ("special_small_blocks", FS, "0", _power(512, 16 << 20, zero=True)),
        ("sync", FS_VOL, "standard", _words("standard", "always", "disabled")),
        ("volmode", FS_VOL, "default", _words("default", "full", "geom", "dev", "none")),
        ("vscan", FS, "off", _BOOLEAN),
        ("xattr", FS_SNAP, "on", _words("on", "off", "dir", sa="on")),
        ("zoned", FS, "off", _BOOLEAN),
    ]
    return (Native(name, Rule.INHERIT, on, default, parse) for name, on, default, parse in rows)


def _own() -> Iterable[Native]:
    rows: list[tuple[str, On, str, Callable[[str], str]]] = [
        ("canmount", FS, "on", _words("on", "off", "noauto")),
        ("context", DATASET, "none", _any),
        ("defcontext", DATASET, "none", _any),
        ("filesystem_limit", FS, "none", _count),
        ("fscontext", DATASET, "none", _any),
        ("keylocation", FS_VOL, "none", _keylocation),
        ("quota", FS, "0", _quota),
        ("refquota", FS, "0", _quota),
        ("refreservation", FS_VOL, "0", _size),
        ("reservation", FS_VOL, "0", _size),
        ("rootcontext", DATASET, "none", _any),
        ("snapshot_limit", FS_VOL, "none", _count),
        ("volsize", On.VOLUME | On.SNAPSHOT, "0", _size),
    ]
    return (Native(name, Rule.DEFAULT, on, default, parse) for name, on, default, parse in rows)


def _once() -> Iterable[Native]:
    encryption = _words("on", "off", *(f"aes-{bits}-{mode}" for mode in ("ccm", "gcm") for bits in (128, 192, 256)))
    rows: list[tuple[str, On, str, Callable[[str], str]]] = [
        ("casesensitivity", FS_SNAP, "sensitive", _words("sensitive", "insensitive", "mixed")),
        ("encryption", DATASET, "off", encryption),
        ("keyformat", FS_VOL, "none", _words("none", "raw", "hex", "passphrase")),
        ("normalization", FS_SNAP, "none", _words("none", "formC", "formD", "formKC", "formKD")),
        ("pbkdf2iters", FS_VOL, "0", _size),
        ("utf8only", FS_SNAP, "off", _BOOLEAN),
    ]
    return (Native(name, Rule.ONCE, on, default, parse) for name, on, default, parse in rows)


_READ_ONLY: tuple[tuple[On, tuple[str, ...]], ...] = (
    (EVERY, ("compressratio", "createtxg", "creation", "guid", "logicalreferenced", "name", "referenced", "type")),
    (DATASET, ("encryptionroot", "keystatus", "objsetid", "refcompressratio", "used", "written")),
    (
        FS_VOL,
        (
            "available",
            "logicalused",
            "origin",
            "receive_resume_token",
            "snapshots_changed",
            "usedbychildren",
            "usedbydataset",
            "usedbyrefreservation",
            "usedbysnapshots",
        ),
    ),
    (FS, ("filesystem_count", "mounted", "snapshot_count")),
    (FS_SNAP, ("version",)),
    (On.SNAPSHOT, ("clones", "defer_destroy", "userrefs")),
)

NATIVE: dict[str, Native] = {
    native.name: native
    for native in (
        *_inherited(),
        *_own(),
        *_once(),
        *(Native(name, Rule.READ_ONLY, on, "", _never) for on, names in _READ_ONLY for name in names),
    )
}
"""Every native property that the model knows, by name."""

SPACE_LIMITS = ("quota", "refquota", "reservation", "refreservation")
"""Properties that the kernel checks against the space in use, each in a transaction group of its own."""
