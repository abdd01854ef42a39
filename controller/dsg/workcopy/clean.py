"""Removing what a working copy need not keep."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dsg.workcopy.base import Base
from dsg.workcopy.errors import WorkcopyError
from dsg.workcopy.files import Files
from dsg.workcopy.journal import read_journal
from dsg.workcopy.layout import KEPT, METADATA, STORE, Layout
from dsg.workcopy.lock import locked
from dsg.workcopy.origin import read_origin
from dsg.workcopy.results import Cleaned

_TIME = "%Y-%m-%dT%H-%M-%SZ"


class Interrupted(WorkcopyError):
    """A sync has to be finished first."""


def clean(layout: Layout, *, kept_for: timedelta | None = None, dry_run: bool = False) -> Cleaned:
    """Remove fetched contents and nodes that nothing needs, and kept copies that are older than `kept_for`.

    Without `kept_for` no kept copy is removed: it may be all that is left of an edit. Raises Busy, Interrupted.
    """
    read_origin(layout)
    with locked(layout), Files(layout.root) as files:
        if read_journal(layout) is not None:
            raise Interrupted("a sync was interrupted and needs what lies in .dsg; nothing was removed. Sync first")
        base = Base(layout.base)
        base.prepare()
        state = base.state()
        trees = {state.tree, state.header.summary} if state is not None else set()
        store = list(files.files(f"{METADATA}/{STORE}".encode()))
        size = sum(_size(layout.store / os.fsdecode(name)) for name in store)
        old = [name for name in _kept(layout) if kept_for is not None and _is_old(name, kept_for)]
        for name in old:
            below = f"{METADATA}/{KEPT}/{name}".encode()
            size += sum(_size(layout.kept / name / os.fsdecode(one)) for one in files.files(below))
        nodes = base.superfluous(trees)
        if not dry_run:
            files.remove_tree(f"{METADATA}/{STORE}".encode())
            for name in old:
                files.remove_tree(f"{METADATA}/{KEPT}/{name}".encode())
            base.sweep(trees)
        return Cleaned(len(store), len(nodes), tuple(old), size)


def _kept(layout: Layout) -> list[str]:
    return sorted(path.name for path in layout.kept.iterdir()) if layout.kept.is_dir() else []


def _is_old(name: str, kept_for: timedelta) -> bool:
    try:
        made = datetime.strptime(name.partition("Z")[0] + "Z", _TIME).replace(tzinfo=UTC)
    except ValueError:
        # Not ours.
        return False
    return datetime.now(UTC) - made >= kept_for


def _size(path: Path) -> int:
    return path.lstat().st_size
