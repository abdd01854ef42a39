"""Sizes as specs write them and people read them. Only binary suffixes, so that 100G can't mean two things."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dsg.api.rules import matching

_UNITS = {"": 0, "Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}

Size = Annotated[
    str,
    Field(min_length=2, max_length=20),
    matching(
        "[1-9][0-9]*(Ki|Mi|Gi|Ti|Pi)",
        "a size is a whole number with a binary suffix: Ki, Mi, Gi, Ti or Pi, such as 500Gi",
    ),
]

Limit = Annotated[
    str,
    Field(min_length=2, max_length=20),
    matching(
        "none|[1-9][0-9]*(Ki|Mi|Gi|Ti|Pi)",
        "a limit is a whole number with a binary suffix (Ki, Mi, Gi, Ti, Pi), such as 500Gi, or none",
    ),
]


def to_bytes(size: str) -> int:
    """Return a size or limit in bytes; `none` is 0, as ZFS reports it."""
    if size == "none":
        return 0
    digits = size.rstrip("KMGTPEi")
    return int(digits) * int(1024 ** _UNITS[size[len(digits) :]])


def from_bytes(count: int) -> str:
    """Return a byte count with three significant digits and a binary suffix, for people: `1.23Gi`.

    Rounded on purpose: a status that shows it changes only when the size has changed by about a percent.
    """
    value = float(count)
    for unit in _UNITS:
        if round(value) < 1000 or unit == "Ei":
            if unit == "":
                return str(round(value))
            decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
            return f"{value:.{decimals}f}{unit}"
        value /= 1024
    raise AssertionError("unreachable")


def whole(count: int) -> str:
    """Return a byte count in the largest unit that divides it, as a spec would write it; `none` for 0."""
    if count == 0:
        return "none"
    for unit, power in reversed(_UNITS.items()):
        if unit not in {"", "Ei"} and count % 1024**power == 0:
            return f"{count // 1024**power}{unit}"
    return str(count)
