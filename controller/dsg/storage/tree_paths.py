"""What can be a path below a root, and the text of a link."""

from __future__ import annotations

import os

from dsg.storage.errors import InvalidValue


def parts(path: str) -> list[str]:
    """Return the components of a relative path; none for the root. Raises InvalidValue for any other path."""
    if not path:
        return []
    found = path.split("/")
    if not _bytes(path) or any(part in {"", ".", ".."} for part in found):
        raise InvalidValue(f"{path!r} is no path below a root", subject=path)
    return found


def inner(path: str) -> tuple[list[str], str]:
    """Return the directories of a path, and its name. Raises InvalidValue for the root itself."""
    *above, name = parts(path) or [""]
    if not name:
        raise InvalidValue("this can't be done to the root itself", subject=path)
    return above, name


def require_target(target: str) -> None:
    """Raise InvalidValue for what can't be the text of a symbolic link (symlink(2))."""
    if not _bytes(target):
        raise InvalidValue(f"{target!r} can't be the text of a symbolic link", subject=target)


def _bytes(text: str) -> bytes:
    """Return the bytes that a text stands for; none where the kernel can't be told it."""
    try:
        found = os.fsencode(text)
    except UnicodeEncodeError:
        return b""
    return b"" if b"\0" in found else found
