"""Names for what is kept beside another file: one rule, and never a name that anything has, on any system.

`report.csv` of ana@example.org becomes `report.from-ana-example-org.csv`: before the last dot that is neither first nor
last, or at the end where there is none or what follows it is long. Where that is taken, `-2` follows the author, then
`-3` and so on. Names that are too long lose the end of what comes before `.from-`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator
from itertools import count, islice

from dsg.manifests.entries import MAX_NAME, EntryError, check_path, to_bytes
from dsg.sync.names import folded_path

_AUTHOR = 32
"""Characters of an author that stand in a name."""
_SUFFIX = 32
"""Bytes that what follows the last dot may have to be told from a part of the name."""
_FIRST = 4
"""How many names are looked up at first for each file; four times as many each time that all were taken."""


class NoNameError(ValueError):
    """There is no room for another name; the message says where and what to do."""


def candidates(path: str, author: str) -> Iterator[str]:
    """Yield the names for `path`, in the order in which they are tried. NoNameError when its directory is too long."""
    directory, slash, name = path.rpartition("/")
    dot = name.rfind(".")
    stem, suffix = (name[:dot], name[dot:]) if 0 < dot < len(name) - 1 else (name, "")
    if len(to_bytes(suffix)) > _SUFFIX:
        stem, suffix = name, ""
    for number in count(1):
        middle = f".from-{_plain(author)}" + (f"-{number}" if number > 1 else "")
        made = directory + slash + _shortened(stem, len(to_bytes(middle + suffix))) + middle + suffix
        try:
            check_path(made)
        except EntryError as error:
            raise NoNameError(f"{path!r}: no name is left beside it ({error}); choose mine or theirs") from None
        yield made


def free_names(paths: Iterable[str], author: str, existing: Callable[[], Iterable[str]]) -> dict[str, str]:
    """Return a name for each path: one that no existing path or directory has on any system, nor another of these.

    `existing` gives all paths that are there, each time it is called: once, and again only where many names are taken.
    NoNameError when a path has no room.
    """
    found: dict[str, str] = {}
    given: set[str] = set()
    pending = list(paths)
    tried, batch = 0, _FIRST
    while pending:
        asked = {path: list(islice(candidates(path, author), tried, tried + batch)) for path in pending}
        taken = _taken({folded_path(name) for names in asked.values() for name in names}, existing)
        for path, names in asked.items():
            for name in names:
                key = folded_path(name)
                if key not in taken and key not in given:
                    given.add(key)
                    found[path] = name
                    break
        pending = [path for path in pending if path not in found]
        tried, batch = tried + batch, batch * 4
    return found


def _taken(asked: set[str], existing: Callable[[], Iterable[str]]) -> set[str]:
    """Return which of the folded names a path or a directory has."""
    taken: set[str] = set()
    for path in existing():
        key = folded_path(path)
        if key in asked:
            taken.add(key)
        at = key.find("/")
        while at >= 0:
            if key[:at] in asked:
                taken.add(key[:at])
            at = key.find("/", at + 1)
    return taken


def _plain(author: str) -> str:
    """Return the letters and digits of an author, with hyphens for the rest."""
    composed = unicodedata.normalize("NFC", author)
    words = "".join(c if c.isalnum() else " " for c in composed).split()
    return unicodedata.normalize("NFC", "-".join(words))[:_AUTHOR].rstrip("-") or "somebody"


def _shortened(stem: str, room: int) -> str:
    """Return the beginning of a stem that leaves `room` bytes of a name, in whole characters."""
    raw = to_bytes(stem)
    if len(raw) + room <= MAX_NAME:
        return stem
    kept = ""
    for character in stem:
        room += len(to_bytes(character))
        if room > MAX_NAME:
            break
        kept += character
    return kept or "_"
