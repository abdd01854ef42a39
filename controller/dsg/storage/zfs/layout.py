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

USER_PROPERTIES = (LAYOUT_PROPERTY, UID, IDENTITY, HEAD, APPLIED, RELEASED)


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


def link_target(mountpoint: str, generation: str) -> str:
    """Return the text of the public link, relative so that it also holds inside containers: `.justice/g1`."""
    return f".{PurePosixPath(mountpoint).name}/{generation}"
