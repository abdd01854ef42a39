"""Names that every repository type shares: generations, versions, and what belongs to one transaction.

Generations are `g1`, `g2`, … and versions `s1`, `s2`, …, both rising. What a transaction makes carries its uid in its
name, so that it can be told whose it is whatever else was lost: `stage-UID` the tree it builds, `rebase-UID` the same
on a newer head, `read-UID` an old version that it reads from.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

FIRST_GENERATION = "g1"

_GENERATION = re.compile(r"g[1-9][0-9]*", re.ASCII)
_VERSION = re.compile(r"s[1-9][0-9]*", re.ASCII)
_PART = re.compile(r"(stage|rebase|read)-([0-9a-zA-Z][0-9a-zA-Z-]{0,63})", re.ASCII)


def is_generation(name: str) -> bool:
    """Return whether a name is one of a generation."""
    return _GENERATION.fullmatch(name) is not None


def is_version(name: str) -> bool:
    """Return whether a name is one of a version."""
    return _VERSION.fullmatch(name) is not None


def number(name: str) -> int:
    """Return n of generation gn or version sn; 0 for the empty name, which stands for none."""
    return int(name[1:]) if name else 0


def next_version(version: str) -> str:
    """Return the version after one; s1 after none ("")."""
    return f"s{number(version) + 1}"


class Part(StrEnum):
    """What a transaction makes in the repository."""

    STAGE = "stage"
    """The tree it builds on its base."""
    REBASE = "rebase"
    """The same changes on a newer head."""
    READ = "read"
    """An old version, to be read from."""


@dataclass(frozen=True, slots=True)
class PartName:
    """One thing that a transaction made, by its name."""

    part: Part
    uid: str

    def __str__(self) -> str:
        """Return the name on disk: `stage-UID`."""
        return f"{self.part}-{self.uid}"


def part_name(name: str) -> PartName | None:
    """Return what a name says of a transaction's part; None for any other name."""
    found = _PART.fullmatch(name)
    return PartName(Part(found[1]), found[2]) if found is not None else None
