"""What a version remembers of the older one that it was made from.

Two places. Its message ends with lines that name the older version, who made it and when, and its hash: a version's
author is who made the transaction, which can't be anybody else. And its tree has a directory with the old manifests as
they were, and with a record of what was verified.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dsg.manifests.header import MAX_MESSAGE

DIRECTORY = "dsg-provenance"
"""Name of that directory, at the repository's root."""
_PREFIX = "Dsg-Origin-"
_LINE = re.compile(rf"{_PREFIX}([A-Za-z]+): (.*)")
_MORE = "… (the whole message is in the old manifest)"
_MOST_TAGS = 800
"""Characters for the names of tags; the file of tags has them all."""
_MOST_AUTHOR = 256


@dataclass(frozen=True, slots=True)
class Origin:
    """The older version that a version was made from."""

    version: str
    """Its name; empty where the version holds records alone."""
    author: str = ""
    """Who made it, as DSG says; empty where that is not known."""
    time: datetime | None = None
    """When, in UTC."""
    hash: str = ""
    """Its `snapshot_hash`."""
    entries: str = ""
    """Its `entries_hash`."""
    tags: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return what a message says of it."""
        found = [("Version", self.version or "none")]
        if self.author:
            found.append(("Author", _flat(self.author)[:_MOST_AUTHOR]))
        if self.time is not None:
            found.append(("Time", self.time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"))
        found += [(key, _flat(value)[:64]) for key, value in (("Hash", self.hash), ("Entries", self.entries)) if value]
        tags = ", ".join(map(_flat, self.tags))
        if tags:
            found.append(("Tags", tags if len(tags) <= _MOST_TAGS else tags[:_MOST_TAGS] + "…"))
        return [f"{_PREFIX}{key}: {value}" for key, value in found]


def compose(message: str, origin: Origin) -> str:
    """Return a message that ends with what is known of the older version. At most as long as a message may be."""
    tail = "\n".join(origin.lines())
    text = message.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}").rstrip()
    room = MAX_MESSAGE - len(tail) - 2
    if len(text) > room:
        text = text[: room - len(_MORE)] + _MORE
    return f"{text}\n\n{tail}" if text else tail


def parse(message: str) -> Origin | None:
    """Return what a message says of an older version, None where it says nothing.

    Only the last paragraph counts: a message of old that holds such lines itself stands before it.
    """
    lines = message.rpartition("\n\n")[2].split("\n")
    matches = [_LINE.fullmatch(line) for line in lines]
    said: dict[str, str] = {}
    for match in matches:
        if match is None or match[1] in said:
            return None
        said[match[1]] = match[2]
    version = said.get("Version", "")
    if version != "none" and not re.fullmatch("s[1-9][0-9]{0,10}", version):
        return None
    try:
        time = datetime.fromisoformat(said["Time"]) if "Time" in said else None
    except ValueError:
        return None
    return Origin(
        "" if version == "none" else version,
        said.get("Author", ""),
        time,
        said.get("Hash", ""),
        said.get("Entries", ""),
        tuple(filter(None, said.get("Tags", "").split(", "))),
    )


def record(fields: Iterable[tuple[str, Any]]) -> bytes:
    """Return the file that says how a version was adopted: the same whenever, and by whom, it is written."""
    said = {"format": "dsg-adoption/1", **dict(fields)}
    # ASCII: a name that is not UTF-8 is told by its bytes (PEP 383), and no reader trips over it.
    return (json.dumps(said, indent=1) + "\n").encode()


def _flat(text: str) -> str:
    """Return text in one line without what no message can hold."""
    return "".join(character if character.isprintable() else " " for character in text).strip()
