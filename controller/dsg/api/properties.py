"""The ZFS policy of a repository: properties that the spec states and the operator keeps.

The field names are OpenZFS's property names (zfsprops(7)), in camel case where they hold an underscore.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Literal

from pydantic import Field

from dsg.api.base import Model
from dsg.api.rules import Rule, matching
from dsg.api.sizes import Limit, to_bytes, whole

Compression = Annotated[
    str,
    Field(max_length=16),
    matching(
        "off|lz4|lzjb|zle|gzip(-[1-9])?|zstd(-([1-9]|1[0-9]))?|zstd-fast(-([1-9]|[1-9]0|100|500|1000))?",
        'compression is one of "off" (quoted: YAML reads a bare off as false), lz4, lzjb, zle, gzip, gzip-1 to gzip-9, '
        "zstd, zstd-1 to zstd-19, zstd-fast, zstd-fast-N; 'on' means different things on different systems",
    ),
]
RecordSize = Literal[
    "4Ki", "8Ki", "16Ki", "32Ki", "64Ki", "128Ki", "256Ki", "512Ki", "1Mi", "2Mi", "4Mi", "8Mi", "16Mi"
]


def _ordered(smaller: str | None, larger: str) -> bool:
    return larger == "none" or smaller in {None, "none"} or to_bytes(str(smaller)) <= to_bytes(larger)


def _ordered_rule(smaller: str, larger: str, message: str, *, optional: bool = False) -> Rule:
    a, b = f"self.{smaller}", f"self.{larger}"
    guard = f"!has({a}) || " if optional else ""
    return Rule(
        f"{guard}{a} == 'none' || {b} == 'none' || !isQuantity({a}) || !isQuantity({b}) || "
        f"quantity({a}).compareTo(quantity({b})) <= 0",
        message,
        lambda v: _ordered(getattr(v, smaller), getattr(v, larger)),
        field=smaller,
    )


class ZfsProperties(Model):
    """ZFS properties of the repository's parent dataset. The first seven are stated in every spec; an optional property
    that is left out is inherited from the dataset above, and a value set by hand counts as drift.
    """

    compression: Compression
    """Compression of new blocks: lz4 is cheap, zstd smaller. Data written before a change keeps its own."""
    recordsize: RecordSize
    """Largest block of a file: 128Ki for mixed data, 1Mi for large files read as a whole."""
    atime: bool
    """Whether reading a file updates its access time. False for research data: an access-time update is a write."""
    xattr: Literal["sa", "dir", "off"]
    """Where extended attributes live: sa (in the inode, fast), dir (hidden directory), or "off"."""
    quota: Limit
    """Most space that all versions and open transactions may take together. A size such as 500Gi, or none."""
    refquota: Limit
    """Most space one version may refer to: what a researcher's tree may grow to. A size, or none."""
    reservation: Limit
    """Space kept free in the pool for this repository alone. A size, or none."""

    refreservation: Limit | None = None
    """Space kept free for overwriting the head's own data. A size, or none."""
    acltype: Literal["posix", "off"] | None = None
    """Kind of access control lists: posix, or "off" for none."""
    relatime: bool | None = None
    """With atime true: update the access time at most once a day."""
    dnodesize: Literal["legacy", "auto", "1k", "2k", "4k", "8k", "16k"] | None = None
    """Size of inodes: auto suits xattr=sa."""
    checksum: Literal["on", "fletcher4", "sha256", "sha512", "skein", "edonr", "blake3"] | None = None
    """Checksum of blocks on disk; the default, on, is fletcher4. It can't be off here."""
    copies: Annotated[int, Field(ge=1, le=3)] | None = None
    """Copies of each block, beyond the pool's own redundancy."""
    logbias: Literal["latency", "throughput"] | None = None
    """How synchronous writes use the log device."""
    sync: Literal["standard", "always"] | None = None
    """When writes reach the disk. There is no 'disabled' here: it loses acknowledged data at a power cut."""
    primarycache: Literal["all", "metadata", "none"] | None = None
    """What the memory cache (ARC) keeps."""
    secondarycache: Literal["all", "metadata", "none"] | None = None
    """What the cache device (L2ARC) keeps."""
    redundant_metadata: Literal["all", "most", "some", "none"] | None = None
    """How much metadata is stored twice."""
    snapdir: Literal["hidden", "visible"] | None = None
    """Whether `.zfs` is listed in the tree's root."""

    rules = (
        _ordered_rule("reservation", "quota", "reservation can't be larger than quota"),
        _ordered_rule(
            "refquota", "quota", "refquota can't be larger than quota: a version can't outgrow its repository"
        ),
        _ordered_rule(
            "refreservation", "quota", "refreservation can't be larger than quota: OpenZFS refuses it", optional=True
        ),
        _ordered_rule(
            "refreservation",
            "refquota",
            "refreservation can't be larger than refquota: OpenZFS refuses it",
            optional=True,
        ),
    )


class Place(Enum):
    """Which dataset of a repository carries a property."""

    PARENT = "parent"
    """The parent dataset, from which the generations inherit it or within which they are limited."""
    GENERATION = "generation"
    """Every generation: ZFS does not inherit it, and it is about one version's own data."""


@dataclass(frozen=True, slots=True)
class PropertyRule:
    """How one field of `ZfsProperties` is kept on disk."""

    field: str
    zfs: str
    place: Place


PROPERTY_RULES: tuple[PropertyRule, ...] = tuple(
    PropertyRule(name, name, Place.GENERATION if name in {"refquota", "refreservation"} else Place.PARENT)
    for name in ZfsProperties.model_fields
)
"""Every policy property, in the order of the spec."""

_SIZES = {"quota", "refquota", "reservation", "refreservation", "recordsize"}


def native(field: str, value: object) -> str:
    """Return a spec's value as `zfs get -p` prints it: on/off, bytes, 0 for none."""
    if isinstance(value, bool):
        return "on" if value else "off"
    text = str(value)
    return str(to_bytes(text)) if field in _SIZES else text


def readable(zfs_property: str, value: str) -> str:
    """Return a value of `zfs get -p` as a person writes it in a spec: 1099511627776 becomes 1Ti."""
    if zfs_property in _SIZES and value.isdigit():
        return whole(int(value))
    return value


def wanted(properties: ZfsProperties, place: Place) -> dict[str, str | None]:
    """Return the ZFS value of each policy property that belongs to a place; None where the spec leaves it out."""
    result: dict[str, str | None] = {}
    for rule in PROPERTY_RULES:
        if rule.place is place:
            value = getattr(properties, rule.field)
            result[rule.zfs] = None if value is None else native(rule.field, value)
    return result
