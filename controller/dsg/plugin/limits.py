"""How long a transaction may stay open, and how long its object is kept: every default in one place."""

from __future__ import annotations

from dsg.api.durations import seconds

_HOUR = 3600
_PER_HOUR = 10 * 1024**3
"""Bytes for which an hour more is given: three MiB a second."""
_MOST_HOURS = 7 * 24

TTL_WRITE = "24h"
"""For which the object of a transaction that wrote is kept, so that a sync that was cut off learns how it ended."""
TTL_READ = "10m"
"""For which the object of one that only read is kept."""


def timeout(size: int, asked: str = "") -> str:
    """Return `spec.timeout`: what was asked for, or an hour, and one more for each 10 GiB, a week at most.

    Raises ValueError when what was asked for is no duration.
    """
    if asked:
        if seconds(asked) == 0:
            raise ValueError(f"{asked!r} is no time at all; write such as 2h")
        return asked
    return f"{min(1 + size // _PER_HOUR, _MOST_HOURS)}h"
