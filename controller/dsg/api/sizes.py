"""Sizes as specs write them and people read them. Only binary suffixes, so that 100G can't mean two things."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field

from dsg.api.rules import Rule, matching

_UNITS = {"": 0, "Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}

_LIMIT = "none|[1-9][0-9]*(Ki|Mi|Gi|Ti|Pi)"

Limit = Annotated[
    str,
    Field(max_length=20),
    matching(_LIMIT, "a limit is a whole number with a binary suffix (Ki, Mi, Gi, Ti, Pi), such as 500Gi, or none"),
    Rule(
        "self == 'none' || !isQuantity(self) || quantity(self).isLessThan(quantity('8Ei'))",
        "a limit is less than 8Ei: OpenZFS can't count further; for no limit write none",
        lambda v: re.fullmatch(_LIMIT, v) is None or to_bytes(v) < 2**63,
    ),
]


def to_bytes(size: str) -> int:
    """Return a size or limit in bytes; `none` is 0, as ZFS reports it."""
    if size == "none":
        return 0
    digits = size.rstrip("KMGTPEi")
    return int(digits) * int(1024 ** _UNITS[size[len(digits) :]])


def from_bytes(count: int, digits: int = 3) -> str:
    """Return a byte count with so many significant digits and a binary suffix, for people: `1.23Gi`.

    Rounded on purpose: a status that shows it changes only when the size has changed by about a percent, or with two
    digits by about ten.
    """
    value = float(count)
    for unit in _UNITS:
        if round(value) < 1000 or unit == "Ei":  # noqa: PLR2004  (a thousand has four digits)
            if unit == "":
                return str(round(value))
            if value >= 10**digits - 0.5:  # more digits before the point than are wanted
                return f"{round(value, digits - 3)}{unit}".replace(".0", "")
            return f"{value:#.{digits}g}".rstrip(".") + unit
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
