"""The resolution file of a working copy: written when a sync is blocked, read when its decisions are to be used."""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import islice

from dsg.sync import resolution
from dsg.sync.plan import Blocked, Plan
from dsg.sync.resolution import OutdatedError, Problem, ResolutionError, Resolutions
from dsg.workcopy.layout import Layout
from dsg.workcopy.results import Undecided
from dsg.workcopy.writing import write_whole

_NAMED = 50


class Decisions:
    """`.dsg/conflicts.txt`."""

    def __init__(self, layout: Layout) -> None:
        self._file = layout.conflicts

    def decide(self, blocked: Blocked, author: str, *, use: bool) -> Plan | Undecided:
        """Return the plan that the decisions make; without decisions, or with outdated ones, write a new file.

        Decisions about conflicts that are the same as before are carried over. Raises ResolutionError where the file
        can't be used as it is and has to be corrected: nothing is written then.
        """
        text = self._read()
        outdated = ""
        if use:
            if text is None:
                problem = Problem("there are none: no sync has written this file since the last one that ended")
                raise ResolutionError([problem], f"Sync without --continue; it writes {self._file}.")
            try:
                return resolution.apply(blocked, resolution.parse(text), author)
            except OutdatedError as error:
                outdated = str(error)
        draft = resolution.draft(blocked, author)
        if text is not None:
            # One that can't be read is replaced: nobody asked to use it.
            with suppress(ResolutionError):
                draft = _carried(draft, resolution.parse(text))
        write_whole(self._file, resolution.write(draft).encode())
        return Undecided(blocked.counts, tuple(islice(blocked.conflicts(), _NAMED)), self._file, outdated)

    def remove(self) -> None:
        """Remove the file: what it decided is done."""
        with suppress(FileNotFoundError):
            os.unlink(self._file)  # noqa: PTH108  (the tests' list of effects is that of os)

    def _read(self) -> str | None:
        try:
            return self._file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except UnicodeDecodeError as error:
            problem = Problem(f"is not UTF-8: {error.reason} at byte {error.start}")
            raise ResolutionError([problem], f"Correct {self._file}, or delete it to get a new one.") from None


def _carried(draft: Resolutions, old: Resolutions) -> Resolutions:
    """Return a new file with the decisions of an old one where both ask the same."""
    before = {block.path: block for block in old.blocks}
    choices = []
    for block in draft.blocks:
        known = before.get(block.path)
        same = known is not None and (known.what, known.mine, known.theirs, known.choices) == (
            block.what,
            block.mine,
            block.theirs,
            block.choices,
        )
        choices.append(known.choice if same and known is not None else None)
    return draft.decided(choices)
