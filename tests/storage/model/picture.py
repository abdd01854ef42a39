"""Everything a power cut may keep or lose, as plain values to compare."""

from __future__ import annotations

from dsg.storage.host import PathKind
from dsg.storage.zfs.interface import DatasetKind
from dsg.storage.zfs.model import ModelNode, ModelZfs
from dsg.storage.zfs.model.tree import Tree

KINDS = (DatasetKind.FILESYSTEM, DatasetKind.SNAPSHOT, DatasetKind.BOOKMARK)
SETTINGS = (
    "guid",
    "origin",
    "createtxg",
    "quota",
    "refquota",
    "reservation",
    "compression",
    "keylocation",
    "dsg:a",
    "dsg:b",
)
FIGURES = ("used", "referenced", "written", "usedbydataset", "usedbysnapshots", "usedbychildren", "available")

Picture = dict[str, object]


def entries(tree: Tree) -> dict[str, object]:
    """Return what a tree holds, without the blocks it lies in."""
    return {
        path: (entry.kind, entry.uid, entry.gid, entry.mode, entry.target, entry.data, entry.mtime)
        for path, entry in tree.entries.items()
    }


def picture(node: ModelNode, *, figures: bool = True) -> Picture:
    """Return every dataset of every imported pool with its properties, files and holds."""
    faults, node.faults = node.faults, None
    hanging, node.hanging = node.hanging, False
    calls = node.calls.copy()
    zfs = ModelZfs(node)
    wanted = (*SETTINGS, *FIGURES) if figures else SETTINGS
    found: Picture = {}
    for name, dataset in zfs.read(list(node.pools), wanted, kinds=KINDS).items():
        values = {key: (value.value, value.source, value.inherited_from) for key, value in dataset.properties.items()}
        if dataset.kind is DatasetKind.SNAPSHOT:
            snapshot = node.snapshot(name)
            found[name] = (values, entries(snapshot.tree), sorted(snapshot.holds))
        elif dataset.kind is DatasetKind.FILESYSTEM:
            found[name] = (values, entries(node.dataset(name).tree))
        else:
            found[name] = values
    node.faults, node.hanging, node.calls = faults, hanging, calls
    return found


def own_files(node: ModelNode) -> dict[str, object]:
    """Return what the node's own file system holds."""
    return entries(node.files.own.tree)


def is_directory(value: object) -> bool:
    """Whether an entry of `own_files` is a directory."""
    return isinstance(value, tuple) and value[0] is PathKind.DIRECTORY
