"""What a manifest's entries come to: counts, and the names of the roots of their trees (see `nodes`).

The order, the encoding and the shape of the tree being canonical, equal sets of entries have equal digests whatever
order they were found in and whatever their history, and different sets have different ones for as long as BLAKE3 is
collision-resistant. Sums or XORs of entry digests would need no order, but fall to linear algebra (Wagner, generalized
birthday); sound ones (LtHash) need 2 KiB states, and no part of them can be compared by itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from blake3 import blake3

from dsg.manifests.building import Builder
from dsg.manifests.entries import Entry, EntryError, check_digest
from dsg.manifests.lines import Line, encode
from dsg.manifests.nodes import Child
from dsg.manifests.ordering import in_order


@dataclass(frozen=True, slots=True)
class Summary:
    """What a manifest's entries come to. EntryError when a value is not valid."""

    entries: int
    """Number of files and links."""
    size: int
    """Bytes of content of all files. Sparse files can bring it past 64 bits."""
    tree: str
    """Root over what the entries say about the tree, authors and versions left out: the same tree, the same digest,
    whoever made it. A client that asks for a commit knows this one.
    """
    digest: str
    """Root over the whole entries, authors and versions included: the name of the root node."""

    def __post_init__(self) -> None:
        for value, what in ((self.entries, "entry count"), (self.size, "total size")):
            if type(value) is not int or value < 0:
                raise EntryError(f"{what} {value!r} is not a whole number from 0 on")
        check_digest(self.tree, "tree digest")
        check_digest(self.digest, "digest of the entries")


class Digester:
    """Sums up entries that come in order, in bounded memory. Who feeds it sees to the order."""

    def __init__(self) -> None:
        self._builder = Builder(lambda _digest, _raw: None)

    def add(self, line: Line) -> None:
        """Take the next entry."""
        self._builder.add(line)

    def summary(self) -> Summary:
        """Return what the entries come to. No entry can follow."""
        return summary_of(self._builder.finish()[0])


def summary_of(root: Child) -> Summary:
    """Return what a tree comes to."""
    return Summary(root.entries, root.size, root.tree, root.digest)


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
