"""Words for people: names in which nothing is invisible, sizes, times, counts."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Any

from dsg.api.sizes import from_bytes
from dsg.manifests.entries import to_bytes

_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def safe(text: str, *, lines: bool = False) -> str:
    r"""Return text for a terminal: control and invisible characters as \x1b, so that no name or message steers it.

    `lines` lets line ends pass.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        _escaped(c) if unicodedata.category(c) in _INVISIBLE and not (lines and c == "\n") else c for c in text
    )


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # noqa: PLR2004  (a byte that is not UTF-8, PEP 383)
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def path_value(path: str) -> str | dict[str, str]:
    """Return a path for JSON: itself, or `{"hex": …}` of bytes that are not UTF-8, as in manifests."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return {"hex": to_bytes(path).hex()}
    return path


def size(count: int) -> str:
    """Return a byte count such as `1.23 MiB`."""
    text = from_bytes(count)
    number = text.rstrip("KMGTPEi")
    unit = text[len(number) :]
    return f"{number} {unit}B" if unit else f"{number} B"


def count(number: int, one: str, several: str = "") -> str:
    """Return a number with its noun: `1 file`, `2 files`."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def duration(seconds: float) -> str:
    """Return a length of time, such as `2 min 3 s`."""
    whole = max(0, round(seconds))
    if whole < 1:
        return "less than a second"
    parts = [(whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    return " ".join(f"{number} {unit}" for number, unit in [part for part in parts if part[0]][:2])


def rfc3339(moment: datetime) -> str:
    """Return a moment in UTC for machines: `2026-01-31T12:00:00Z`."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def nanoseconds(mtime: int) -> str:
    """Return a file's time for machines: RFC 3339 with nine digits after the second."""
    whole, rest = divmod(mtime, 10**9)
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=whole)
    return f"{moment.replace(tzinfo=None).isoformat()}.{rest:09d}Z"


def local(moment: datetime, *, seconds: bool = False) -> str:
    """Return a moment for a person, in the time zone of this machine, with the zone."""
    return moment.astimezone().strftime(f"%Y-%m-%d %H:%M{':%S' if seconds else ''} %Z")


def plain(value: Any) -> Any:
    """Return a value as JSON and YAML can hold it everywhere: text without lone surrogates."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
