"""User properties that a commit writes, beside `dsg.storage.zfs.layout.HEAD`.

The programs in `dsg/transactions/programs` name them too; tests hold both to each other.
"""

from __future__ import annotations

from dsg.api.names import PROPERTY_PREFIX

VERSION = f"{PROPERTY_PREFIX}version"
"""On the parent: the version that the head generation carries; absent until the first commit."""
TRANSACTION = f"{PROPERTY_PREFIX}transaction"
"""On the parent: the transaction that moved the head last. On a version's snapshot: the one that made it."""
MANIFEST = f"{PROPERTY_PREFIX}manifest"
"""On a version's snapshot: the digest of its manifest."""
