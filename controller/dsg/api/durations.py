"""Lengths of time as specs write them: a whole number with s, m, h or d."""

from __future__ import annotations

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(text: str) -> int:
    """Return a duration such as 30m in seconds. Raises ValueError for anything else."""
    number, unit = text[:-1], text[-1:]
    if unit not in _SECONDS or not number.isdecimal() or not number.isascii():
        raise ValueError(f"{text!r} is no duration; write a whole number with s, m, h or d, such as 30m")
    return int(number) * _SECONDS[unit]
