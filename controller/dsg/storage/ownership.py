"""Owner and mode of a tree's root as one value, for comparison, for records and for people: `2000:2000 2770`."""

from __future__ import annotations

from dsg.storage.repository_type import Target


def owner_text(uid: int, gid: int, mode: int) -> str:
    """Return owner and permission bits as one value."""
    return f"{uid}:{gid} {mode:04o}"


def wanted_owner(target: Target) -> str:
    """Return the owner and mode that the spec asks for."""
    owner = target.spec.owner
    return owner_text(owner.uid, owner.gid, int(owner.mode, 8))
