"""How a repository lies in a pool: dataset names, user properties, and where generations are mounted.

A parent dataset holds policy and identity and no files; `g1`, `g2`, … below it are its generations;
`org.hrdag.dsg:head` on the parent names the one that readers see. Versions are snapshots `s1`, `s2`, … User properties
are inherited, so each is read where it is local.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from dsg.api.names import PROPERTY_PREFIX

LAYOUT = "1"
"""The layout that this version writes and understands."""

LAYOUT_PROPERTY = f"{PROPERTY_PREFIX}layout"
UID = f"{PROPERTY_PREFIX}uid"
"""metadata.uid of the Repository object that owns the dataset."""
IDENTITY = f"{PROPERTY_PREFIX}repository"
"""`namespace/name` of the Repository: what an adoption must match."""
HEAD = f"{PROPERTY_PREFIX}head"
"""The current generation."""
APPLIED = f"{PROPERTY_PREFIX}applied"
"""Policy as it was last applied, as JSON: what tells a change of the spec from a change by hand."""
RELEASED = f"{PROPERTY_PREFIX}released"
"""When the Repository object was deleted and the data kept (RFC 3339)."""

VERSION = f"{PROPERTY_PREFIX}version"
"""On the parent: the version that the head generation carries; absent until the first commit."""
TRANSACTION = f"{PROPERTY_PREFIX}transaction"
"""On the parent: the transaction that moved the head last. On a generation and on a version's snapshot: the one that
made it.
"""
MANIFEST = f"{PROPERTY_PREFIX}manifest"
"""On a version's snapshot: the digest of its manifest."""

ACCEPTED = f"{PROPERTY_PREFIX}accepted"
"""On the parent: `VERSION:BYTES`, how much `written` the head has of which is known that it is no content. On a former
head that is about to be destroyed: the same of it, under the version that came after.
"""

KEY = f"{PROPERTY_PREFIX}key"
"""On the parent: fingerprint of the wrapping key that it is known to have (`WrappingKey.fingerprint`)."""

USER_PROPERTIES = (LAYOUT_PROPERTY, UID, IDENTITY, HEAD, VERSION, TRANSACTION, ACCEPTED, APPLIED, RELEASED, KEY)


def unfinished(dataset: str, uid: str) -> str:
    """Return the name under which a repository's parent dataset is made, before it gets its own by a rename.

    `zfs create` sets properties after it has created: a power cut can leave a dataset that does not say whose it is.
    Under this name it can be told by the name.
    """
    return f"{dataset.rpartition('/')[0]}/dsg-new-{uid}"


def holder(mountpoint: str) -> str:
    """Return the directory beside the mountpoint in which generations are mounted: `/srv/dsg/.justice`."""
    path = PurePosixPath(mountpoint)
    return str(path.with_name(f".{path.name}"))


def generation_directory(mountpoint: str, generation: str) -> str:
    """Return where a generation is mounted: `/srv/dsg/.justice/g1`."""
    return f"{holder(mountpoint)}/{generation}"


def workshop(mountpoint: str) -> str:
    """Return the directory in which transactions' parts are mounted, closed to everybody but the operator."""
    return f"{holder(mountpoint)}/.open"


def part_directory(mountpoint: str, name: str) -> str:
    """Return where a transaction's part is mounted: `/srv/dsg/.justice/.open/stage-UID`."""
    return f"{workshop(mountpoint)}/{name}"


def link_target(mountpoint: str, generation: str) -> str:
    """Return the text of the public link, relative so that it also holds inside containers: `.justice/g1`."""
    return f".{PurePosixPath(mountpoint).name}/{generation}"
