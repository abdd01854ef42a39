"""Digests of a manifest's entries.

BLAKE3 over the lines in canonical order. Order and encoding being canonical, equal sets of entries have equal digests
whatever order they were found in (`ordering.sort` takes any), and different sets have different ones for as long as
BLAKE3 is collision-resistant. Sums or XORs of entry digests would need no sorting, but fall to linear algebra (Wagner,
generalized birthday); sound ones (LtHash) need 2 KiB states and a proof that buys nothing where order is there anyway.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from blake3 import blake3

from dsg.manifests.entries import Entry, EntryError, File, check_digest
from dsg.manifests.lines import Line, encode
from dsg.manifests.ordering import in_order

_BATCH = 65536


@dataclass(frozen=True, slots=True)
class Summary:
    """What a manifest's entries come to. EntryError when a value is not valid."""

    entries: int
    """Number of files and links."""
    size: int
    """Bytes of content of all files. Sparse files can bring it past 64 bits."""
    tree: str
    """BLAKE3 of what the entries say about the tree, authors and versions left out: the same tree, the same digest,
    whoever made it. A client that asks for a commit knows this one.
    """
    digest: str
    """BLAKE3 of the entries as a manifest holds them, authors and versions included."""

    def __post_init__(self) -> None:
        for value, what in ((self.entries, "entry count"), (self.size, "total size")):
            if type(value) is not int or value < 0:
                raise EntryError(f"{what} {value!r} is not a whole number from 0 on")
        check_digest(self.tree, "tree digest")
        check_digest(self.digest, "digest of the entries")


class Digester:
    """Sums up entries that come in order. Who feeds it sees to the order."""

    def __init__(self) -> None:
        self._entries = 0
        self._size = 0
        self._tree, self._whole = blake3(), blake3()
        self._tree_batch, self._whole_batch = bytearray(), bytearray()

    def add(self, line: Line) -> None:
        """Take the next entry."""
        self._entries += 1
        if isinstance(line.entry, File):
            self._size += line.entry.size
        self._tree_batch += line.tree
        self._whole_batch += line.whole
        if len(self._whole_batch) > _BATCH:
            self._flush()

    def summary(self) -> Summary:
        """Return what the entries so far come to."""
        self._flush()
        return Summary(self._entries, self._size, self._tree.hexdigest(), self._whole.hexdigest())

    def _flush(self) -> None:
        self._tree.update(self._tree_batch)
        self._whole.update(self._whole_batch)
        self._tree_batch.clear()
        self._whole_batch.clear()


def summarize(entries: Iterable[Entry]) -> Summary:
    """Return what entries in order come to, OrderError when they are not (see `ordering.sort`)."""
    digester = Digester()
    for entry in in_order(entries):
        digester.add(encode(entry))
    return digester.summary()


def chain_digest(header: bytes) -> str:
    """Return the digest of a version and all before it, from its header's line without the field `chain`.

    The header holds the previous version's chain digest and the digest of its own entries, so this covers them.
    """
    return blake3(header).hexdigest()
