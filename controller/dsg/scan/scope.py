"""Which paths of a working copy are synced: `dataDirs` and `ignore` of a Repository, as a pure function of the path.

A path is left out when it is hidden, ignored, or in no data directory. The same rule serves the walk and any path of a
manifest (`Scope.covers`), so that what a rule leaves out of L can be left out of C and R too, and is no deletion.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from enum import Enum

from dsg.api.repository import Ignore, RepositorySpec
from dsg.manifests.entries import to_bytes

EVERYTHING = "*"
"""The one data directory that stands for all of the tree."""
_DOT = ord(".")


class Verdict(Enum):
    """What becomes of a name in a directory."""

    OUT = "out"
    """Left out, with everything below it."""
    THROUGH = "through"
    """A directory that is not synced itself, but data directories may lie below it."""
    IN = "in"
    """Synced, with everything below it that is not left out."""


class Scope:
    """Decides about paths. The cost of a decision does not grow with the number of rules.

    - Hidden: a component that begins with a dot leaves out the path, whatever else is said about it.
    - `ignore.names`: a component of that name, file or directory.
    - `ignore.suffixes`: the entry's own name has that last suffix, and something before it.
    - `ignore.paths`: that path from the root, and everything below it.
    - `dataDirs`: a component of that name, the entry's own name included, so that a link or file in the place of a data
      directory is seen.

    Names are compared byte for byte.
    """

    def __init__(self, data_dirs: Iterable[str], ignore: Ignore | None = None) -> None:
        """Take the rules. EntryError when a name stands for no bytes."""
        rules = ignore or Ignore()
        self._everything = EVERYTHING in (names := set(data_dirs))
        self._dirs = frozenset(map(to_bytes, names))
        self._names = frozenset(map(to_bytes, rules.names))
        self._suffixes = frozenset(map(to_bytes, rules.suffixes))
        self._paths = frozenset(map(to_bytes, rules.paths))
        # As os.scandir gives names, whatever the locale.
        self._dirs_text = frozenset(map(os.fsdecode, self._dirs))
        self._names_text = frozenset(map(os.fsdecode, self._names))
        self._suffixes_text = frozenset(map(os.fsdecode, self._suffixes))

    @classmethod
    def of(cls, spec: RepositorySpec) -> Scope:
        """Return the scope that a Repository declares."""
        return cls(spec.data_dirs, spec.ignore)

    def judge(self, above: Verdict, path: bytes, name: bytes, *, directory: bool) -> Verdict:
        """Return the verdict on a name in a directory that has a verdict; `path` is the whole path, name included.

        The root's own verdict is THROUGH.
        """
        if name[0] == _DOT or name in self._names or path in self._paths:
            return Verdict.OUT
        if not directory and self._suffixes:
            dot = name.rfind(b".")
            if dot > 0 and name[dot:] in self._suffixes:
                return Verdict.OUT
        if above is Verdict.IN or self._everything or name in self._dirs:
            return Verdict.IN
        return Verdict.THROUGH if directory else Verdict.OUT

    def kept(self, above: Verdict, prefix: bytes, names: Iterable[str]) -> list[str]:
        """Return the files and links of a directory that are synced: what `judge` says, for all of them at once.

        `above` is the directory's verdict, `prefix` its path with a slash, empty for the root. Names are those of
        os.scandir.
        """
        found = [name for name in names if name[0] != "."]
        if above is not Verdict.IN and not self._everything:
            found = [name for name in found if name in self._dirs_text]
        if self._names_text:
            found = [name for name in found if name not in self._names_text]
        if self._suffixes_text:
            found = [name for name in found if (dot := name.rfind(".")) <= 0 or name[dot:] not in self._suffixes_text]
        if self._paths:
            found = [name for name in found if prefix + os.fsencode(name) not in self._paths]
        return found

    def covers(self, path: str) -> bool:
        """Tell whether a file or link at that path is synced. EntryError when the path stands for no bytes."""
        raw = to_bytes(path)
        verdict = Verdict.THROUGH
        start = 0
        while verdict is not Verdict.OUT:
            end = raw.find(b"/", start)
            if end < 0:
                return self.judge(verdict, raw, raw[start:], directory=False) is Verdict.IN
            verdict = self.judge(verdict, raw[:end], raw[start:end], directory=True)
            start = end + 1
        return False
