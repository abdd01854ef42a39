"""Files get names that the repository admits, for as long as the sync that asked for it lasts, or for good."""

from __future__ import annotations

import secrets
from contextlib import suppress

from dsg.manifests.entries import to_bytes
from dsg.workcopy.errors import NameTaken
from dsg.workcopy.journal import Journal, Phase, as_renames
from dsg.workcopy.under_way import UnderWay


def rename(work: UnderWay, wanted: list[tuple[str, str]]) -> None:
    """Give files names that the repository admits; what was written down first is undone should the sync fail."""
    work.renames = tuple(wanted)
    work.write(Journal(identity=secrets.token_hex(8), phase=Phase.RENAMING, renames=as_renames(work.renames)))
    for old, new in wanted:
        try:
            work.files.move(to_bytes(old), to_bytes(new))
        except (FileExistsError, NotADirectoryError):
            raise NameTaken(old, new) from None
        work.files.remove_empty_above(to_bytes(old))


def undo_renames(work: UnderWay) -> None:
    """Give the old names back, unless they belong to what may have committed."""
    if not work.renames:
        return
    if work.journal is not None and work.journal.phase in {Phase.COMMITTING, Phase.APPLYING}:
        # What becomes of them is found out by the next sync.
        return
    for old, new in work.renames:
        with suppress(FileNotFoundError, FileExistsError, NotADirectoryError):
            work.files.move(to_bytes(new), to_bytes(old))
        work.files.remove_empty_above(to_bytes(new))
    work.renames = ()
    if work.journal is None or work.journal.phase is Phase.RENAMING:
        work.drop_journal()
    else:
        work.write(work.journal.model_copy(update={"renames": []}))
