"""Names that every repository type shares: generations `g1`, `g2`, … and versions `s1`, `s2`, …"""

from __future__ import annotations

import re

FIRST_GENERATION = "g1"

_GENERATION = re.compile(r"g[1-9][0-9]*", re.ASCII)
_VERSION = re.compile(r"s[1-9][0-9]*", re.ASCII)


def is_generation(name: str) -> bool:
    """Return whether a name is one of a generation."""
    return _GENERATION.fullmatch(name) is not None


def is_version(name: str) -> bool:
    """Return whether a name is one of a version."""
    return _VERSION.fullmatch(name) is not None
