"""Ages as kubectl shows them (k8s.io/apimachinery, duration.HumanDuration)."""

from __future__ import annotations

from datetime import UTC, datetime

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "y": 365 * 86400}
_MINUTE, _HOUR, _DAY, _YEAR = (_UNITS[unit] for unit in "mhdy")
_STYLES = (
    (2 * _MINUTE, "s"),
    (10 * _MINUTE, "ms"),
    (3 * _HOUR, "m"),
    (8 * _HOUR, "hm"),
    (2 * _DAY, "h"),
    (8 * _DAY, "dh"),
    (2 * _YEAR, "d"),
    (8 * _YEAR, "yd"),
)
"""Up to which length of time (seconds) which units are shown."""


def _written(seconds: int, units: str) -> str:
    text = ""
    for unit in units:
        count, seconds = divmod(seconds, _UNITS[unit])
        # A second unit is only shown where it counts something.
        if count or not text:
            text += f"{count}{unit}"
    return text


def human(seconds: int) -> str:
    """Return a length of time with one or two units, such as `90s`, `5m3s`, `47h`, `3d4h`."""
    if seconds < 0:
        return "0s" if seconds >= -1 else "<invalid>"
    for limit, units in _STYLES:
        if seconds < limit:
            return _written(seconds, units)
    return f"{seconds // _YEAR}y"


def age(timestamp: str, now: datetime) -> str:
    """Return how long ago an RFC 3339 time was; `<unknown>` for a text that is none."""
    try:
        then = datetime.fromisoformat(timestamp)
    except ValueError:
        return "<unknown>"
    return human(int((now - (then if then.tzinfo else then.replace(tzinfo=UTC))).total_seconds()))
