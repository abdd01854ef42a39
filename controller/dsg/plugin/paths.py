"""Paths that people name, as paths of the repository; and points in time."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dsg.api.durations import seconds
from dsg.manifests.entries import EntryError, check_path
from dsg.plugin.exits import CommandError, Exit
from dsg.plugin.text import safe

_VERSION = re.compile("s[1-9][0-9]{0,10}", re.ASCII)


def is_version(word: str) -> bool:
    """Return whether a word is written as a version."""
    return _VERSION.fullmatch(word) is not None


def version(word: str) -> str | None:
    """Return a version that an option names, None for the newest. CommandError when it is written otherwise."""
    if not word or word == "head":
        return None
    if not is_version(word):
        raise CommandError("Usage", f"{safe(word)!r} is no version; write s1, s2 and so on, or head", code=Exit.USAGE)
    return word


def repository_path(root: Path, start: Path, named: str) -> str:
    """Return a path of the repository that somebody names from a directory of the working copy; "" for the root.

    The file need not be there. CommandError when the path leads out of the working copy.
    """
    given = Path(os.path.normpath(start.absolute() / named))
    for candidate in (given, given.parent.resolve() / given.name):
        for base in (root, root.resolve()):
            if candidate == base:
                return ""
            if candidate.is_relative_to(base):
                return _checked(str(candidate.relative_to(base)))
    raise CommandError(
        "Usage", f"{safe(named)} is not in the working copy {root}", "Name a path below it.", code=Exit.USAGE
    )


def _checked(path: str) -> str:
    try:
        check_path(path)
    except EntryError as error:
        raise CommandError("Usage", str(error), code=Exit.USAGE) from None
    return path


def moment(text: str, now: datetime | None = None) -> datetime:
    """Return the time that `7d` (so long ago), a date, or an RFC 3339 time names; local where it says no zone."""
    try:
        return (now or datetime.now(UTC)) - timedelta(seconds=seconds(text))
    except (ValueError, OverflowError):
        pass
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise CommandError(
            "Usage",
            f"{safe(text)!r} is no time",
            "Write such as 7d or 12h (so long ago), 2026-01-31, or 2026-01-31T12:00:00Z.",
            Exit.USAGE,
        ) from None
