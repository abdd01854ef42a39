"""Manifests as DSG wrote them: which files a version had, and the hashes that stand for them.

Everything is read, and what is wrong is said; DSG dropped entries that it could not read, which made their files look
deleted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from dsg.migration.parts import moment, xxh3

_FILE = ("type", "path", "user", "filesize", "mtime", "hash")
_LINK = ("type", "path", "user", "reference")
"""Fields of an entry in the order in which DSG hashed them."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ManifestUnreadable(ValueError):
    """A file that is no manifest at all."""


@dataclass(frozen=True, slots=True)
class OldFile:
    """A file as a manifest says it."""

    path: str
    user: str
    size: int
    mtime: int | None
    """Whole seconds since 1970, None where it can't be read."""
    hash: str
    """XXH3 of the content as hexadecimal, empty where DSG had not computed it."""


@dataclass(frozen=True, slots=True)
class OldLink:
    """A link as a manifest says it."""

    path: str
    user: str
    target: str


OldEntry = OldFile | OldLink


@dataclass(frozen=True, slots=True)
class OldManifest:
    """One manifest. Text that it lacks is empty."""

    entries: Mapping[str, OldEntry]
    metadata: Mapping[str, Any]
    version: str
    """`snapshot_id`: s1, s2 and so on; with DSG's defects anything."""
    previous: str
    created_at: datetime | None
    """In UTC."""
    created_by: str
    message: str
    entries_hash: str
    """As it is stated."""
    snapshot_hash: str
    """As it is stated."""
    computed: str
    """The hash of the entries that are here."""
    problems: tuple[str, ...]
    """In what the manifest disagrees with itself, or can't be read."""

    def same(self, other: OldManifest) -> bool:
        """Tell whether two manifests say the same, whichever DSG wrote them down last."""

        def said(one: OldManifest) -> dict[str, Any]:
            return {key: value for key, value in one.metadata.items() if key != "manifest_version"}

        return (self.computed, self.problems, said(self)) == (other.computed, other.problems, said(other))

    def outline(self) -> OldManifest:
        """Return the manifest without its entries, which may take much memory."""
        return replace(self, entries={})

    def chained(self, previous_hash: str) -> str:
        """Return the snapshot hash that follows from what is stated and the previous version's hash."""
        return snapshot_hash(self.entries_hash, self.message, self.metadata.get("project_config"), previous_hash)


def snapshot_hash(entries_hash: str, message: str, config: Any, previous_hash: str) -> str:
    """Return the hash that stands for a version and its history (`compute_snapshot_hash` of DSG)."""
    hasher = xxh3()
    hasher.update(entries_hash.encode())
    hasher.update(message.encode("utf-8", "replace"))
    if config:
        hasher.update(_compact(config, sort=True))
    hasher.update(previous_hash.encode())
    return hasher.hexdigest()


def read_manifest(raw: bytes, name: str) -> OldManifest:
    """Return the manifest that a file holds; `name` is what errors call it. Raises ManifestUnreadable, PartMissing."""
    problems: list[str] = []

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(found)
        if len(made) != len(found):
            twice = next(key for number, (key, _) in enumerate(found) if key in dict(found[:number]))
            problems.append(f"{twice!r} is given twice")
        return made

    try:
        data = json.loads(raw, object_pairs_hook=pairs)
    except (ValueError, RecursionError) as error:
        raise ManifestUnreadable(f"{name} is no JSON: {error}") from None
    if not isinstance(data, dict) or not isinstance(data.get("entries"), dict):
        raise ManifestUnreadable(f"{name} holds no entries, so it is no manifest of DSG")
    entries: dict[str, OldEntry] = {}
    hasher = xxh3()
    for key, value in data["entries"].items():
        hasher.update(_compact(_ordered(value)))
        found = _entry(value)
        if isinstance(found, str):
            problems.append(f"the entry of {key!r} can't be read: {found}")
            continue
        if found.path != key:
            problems.append(f"the entry of {key!r} says that it is of {found.path!r}")
        if isinstance(found, OldFile) and found.mtime is None:
            problems.append(f"the time of {key!r} can't be read")
        entries[key] = found
    return _manifest(data, entries, hasher.hexdigest(), problems)


def _manifest(data: Mapping[str, Any], entries: dict[str, OldEntry], computed: str, problems: list[str]) -> OldManifest:
    metadata = data.get("metadata")
    if not isinstance(metadata, dict):
        problems.append("it has no metadata")
        metadata = {}

    def text(name: str) -> str:
        value = metadata.get(name)
        if value is None or isinstance(value, str):
            return value or ""
        problems.append(f"{name} is {value!r}, where text is needed")
        return ""

    stated, count, time = text("entries_hash"), metadata.get("entry_count"), moment(metadata.get("created_at"))
    if metadata and stated != computed:
        problems.append(f"it states entries_hash {stated or 'none'}, its entries give {computed}")
    if metadata and count != len(data["entries"]):
        problems.append(f"it states {count!r} entries and has {len(data['entries'])}")
    if metadata and time is None:
        problems.append(f"its time {metadata.get('created_at')!r} can't be read")
    return OldManifest(
        entries,
        metadata,
        text("snapshot_id"),
        text("snapshot_previous"),
        None if time is None else time.replace(microsecond=0),
        text("created_by"),
        text("snapshot_message"),
        stated,
        text("snapshot_hash"),
        computed,
        tuple(problems),
    )


def _entry(value: Any) -> OldEntry | str:
    """Return an entry, or what is wrong with it."""
    if not isinstance(value, dict):
        return "it is no mapping"
    path, user, kind = value.get("path"), value.get("user", ""), value.get("type")
    if not isinstance(path, str) or not isinstance(user, str):
        return "path or user is no text"
    if kind == "file":
        size, digest = value.get("filesize"), value.get("hash", "")
        if type(size) is not int or size < 0 or not isinstance(digest, str):
            return "filesize or hash is not what it must be"
        time = moment(value.get("mtime"))
        return OldFile(path, user, size, None if time is None else int((time - _EPOCH).total_seconds()), digest)
    if kind == "link":
        target = value.get("reference")
        return OldLink(path, user, target) if isinstance(target, str) else "reference is no text"
    return f"its type is {kind!r}"


def _ordered(value: Any) -> Any:
    """Return an entry with its fields in the order in which DSG hashed them."""
    for order, kind in ((_FILE, "file"), (_LINK, "link")):
        if isinstance(value, dict) and value.get("type") == kind and set(value) == set(order):
            return {key: value[key] for key in order}
    return value


def _compact(value: Any, *, sort: bool = False) -> bytes:
    """Return JSON as orjson writes it: no blanks, UTF-8, only what must be is escaped."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, sort_keys=sort)
    return text.encode("utf-8", "surrogatepass")
