"""An older repository: which versions it had, what is known of each, and where its content lies. Only ever read.

| layout | manifests | content of version sN |
|---|---|---|
| DSG on ZFS | `.dsg/last-sync.json`, `.dsg/archive/sN-sync.json.lz4`, and in each snapshot | `.zfs/snapshot/sN` |
| DSG on another file system | the same, without snapshots | only the newest: the tree itself |
| btrsnap | none | directory `sN` |

Snapshots may also lie in a directory that is named (`snapshots`), and manifests in the `.dsg` of a working copy
(`manifests`): DSG 0.4 kept its archive there alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dsg.migration.manifest import ManifestUnreadable, OldEntry, OldManifest, read_manifest
from dsg.migration.parts import Unpackable, moment, unpacked

DSG = ".dsg"
LAST = "last-sync.json"
MESSAGES = "sync-messages.json"
TAGS = "tag-messages.json"
PUSH_LOG = ".snap/push.log"
_VERSION = re.compile(r"s([1-9][0-9]{0,8})")
_ARCHIVED = re.compile(r"s?([1-9][0-9]{0,8})(-sync)?\.json(\.lz4|\.gz)?")
_PUSHED = re.compile(r"[^|]*?(s[1-9][0-9]{0,8}) \| ([^|]*) \| ([^|]*) \| ?(.*)")


class SourceError(Exception):
    """A directory that is no older repository, or can't be read as one; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Tag:
    """A name that somebody gave a version."""

    name: str
    version: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a version beside its manifest. Text that is not known is empty."""

    author: str = ""
    time: datetime | None = None
    message: str = ""


@dataclass(slots=True)
class OldVersion:
    """A version of an older repository."""

    number: int
    manifest: OldManifest | None = None
    """Without entries; see `entries`."""
    manifest_file: tuple[str, Path] | None = None
    """The file that the manifest lies in, and what it is called from then on."""
    others: dict[str, Path] = field(default_factory=dict)
    """Files that hold another manifest of the same version."""
    content: Path | None = None
    """Directory with its content, None where it is gone."""
    live: bool = False
    """Whether that is the tree that people work on, no snapshot of it."""
    record: Record = field(default_factory=Record)
    tags: tuple[Tag, ...] = ()

    @property
    def name(self) -> str:
        """Its name: s1, s2 and so on."""
        return f"s{self.number}"

    def entries(self) -> Mapping[str, OldEntry]:
        """Read the manifest's entries; none where there is no manifest. Raises SourceError, OSError, PartMissing."""
        if self.manifest is None or self.manifest_file is None:
            return {}
        path = self.manifest_file[1]
        try:
            found = read_manifest(unpacked(path.read_bytes(), path.name), str(path))
        except (ManifestUnreadable, Unpackable) as error:
            raise SourceError(f"{error}. It could be read before; nobody may write there") from None
        if found.computed != self.manifest.computed:
            raise SourceError(f"{path} is not what it was before; nobody may write there")
        return found.entries


@dataclass(frozen=True, slots=True)
class Source:
    """An older repository."""

    root: Path
    versions: tuple[OldVersion, ...]
    """Oldest first."""
    files: Mapping[str, bytes]
    """Files about the repository as a whole, as they are."""
    tags: tuple[Tag, ...]
    notes: tuple[str, ...]
    """What could not be read or understood; nothing of it is needed to adopt the versions."""
    with_tree: bool
    """Whether the root is a tree that people work on; a btrsnap repository's is not."""


def read_source(
    root: Path, *, snapshots: Path | None = None, manifests: Sequence[Path] = (), live_as: str = ""
) -> Source:
    """Look at an older repository; content is not read. Raises SourceError, PartMissing, OSError.

    `live_as`: which version the tree itself is, where its own manifest does not say.
    """
    if not root.is_dir():
        raise SourceError(f"{root} is no directory. Give the root of an older repository")
    if live_as and not _VERSION.fullmatch(live_as):
        raise SourceError(f"{live_as!r} is no version; one is written s1, s2, s3 and so on")
    return _Reading(root, snapshots, manifests, live_as).run()


class _Reading:
    def __init__(self, root: Path, snapshots: Path | None, manifests: Sequence[Path], live_as: str) -> None:
        self._root, self._snapshots, self._manifests, self._live_as = root, snapshots, manifests, live_as
        self._found: dict[int, OldVersion] = {}
        self._records: dict[int, Record] = {}
        self._files: dict[str, bytes] = {}
        self._notes: list[str] = []

    def run(self) -> Source:
        root = self._root
        btrsnap = not (root / DSG).is_dir()
        self._contents(btrsnap=btrsnap)
        for version in sorted(self._found.values(), key=lambda one: -one.number):
            if version.content is not None:
                self._last(version.content / DSG / LAST, version.number, f"{version.name}/")
        live = self._live() if not btrsnap else None
        self._archive(root / DSG / "archive", "")
        newest = max((one for one in self._found.values() if one.content), key=lambda one: one.number, default=None)
        if newest is not None and newest.content is not None:
            self._archive(newest.content / DSG / "archive", f"{newest.name}/")
        for directory in self._manifests:
            if not directory.is_dir():
                raise SourceError(f"{directory}, given for manifests, is no directory")
            self._last(directory / LAST, None, "elsewhere/")
            self._archive(directory / "archive", "elsewhere/")
            self._archive(directory, "elsewhere/")
        if live is not None and live.content is None:
            live.content, live.live = root, True
        if not self._found:
            raise SourceError(
                f"{root} is no repository of DSG: it has neither {DSG}/{LAST} nor directories s1, s2 and so on. Give "
                "the root of one; of several copies, the one on the server"
            )
        self._about()
        tags = self._tags()
        for number, version in self._found.items():
            version.record = _merged(version.manifest, self._records.get(number, Record()))
            version.tags = tuple(tag for tag in tags if tag.version == version.name)
        numbers = sorted(self._found)
        return Source(root, tuple(self._found[n] for n in numbers), self._files, tags, tuple(self._notes), not btrsnap)

    # ---- where content lies

    def _contents(self, *, btrsnap: bool) -> None:
        places = [self._root if btrsnap else self._root / ".zfs" / "snapshot"]
        if self._snapshots is not None:
            if not self._snapshots.is_dir():
                raise SourceError(f"{self._snapshots}, given for snapshots, is no directory")
            places.insert(0, self._snapshots)
        for place in places:
            for path in sorted(place.iterdir()) if place.is_dir() else ():
                match = _VERSION.fullmatch(path.name)
                if match is not None and path.is_dir() and not path.is_symlink():
                    version = self._version(int(match[1]))
                    version.content = version.content or path

    def _version(self, number: int) -> OldVersion:
        return self._found.setdefault(number, OldVersion(number))

    # ---- manifests

    def _live(self) -> OldVersion | None:
        """Return the version that the tree itself is; None where snapshots alone have content."""
        path = self._root / DSG / LAST
        manifest = self._last(path, None, "")
        match = _VERSION.fullmatch(self._live_as or (manifest.version if manifest is not None else ""))
        if match is not None:
            return self._version(int(match[1]))
        if path.exists() or not any(one.content for one in self._found.values()):
            what = f"says {manifest.version!r}" if manifest is not None else "is missing or can't be read"
            raise SourceError(
                f"which version the tree in {self._root} is can't be known: {path} {what}. Say it with --live-as, such "
                "as --live-as s7 where s6 is the last that the archive has"
            )
        return None

    def _last(self, path: Path, number: int | None, origin: str) -> OldManifest | None:
        """Take a last-sync.json. One that says another version than it should is of an older snapshot, or is wrong."""
        raw = self._bytes(path)
        if raw is None:
            return None
        return self._take(raw, path, origin, number)

    def _archive(self, directory: Path, origin: str) -> None:
        for path in sorted(directory.iterdir()) if directory.is_dir() else ():
            match = _ARCHIVED.fullmatch(path.name)
            raw = self._bytes(path) if match is not None else None
            if match is not None and raw is not None:
                self._take(raw, path, origin, int(match[1]))

    def _take(self, raw: bytes, path: Path, origin: str, number: int | None) -> OldManifest | None:
        """Take a manifest; the first of a version counts, a different one is kept beside it."""
        try:
            manifest = read_manifest(unpacked(raw, path.name), str(path))
        except (ManifestUnreadable, Unpackable) as error:
            self._unread(f"{origin}{path.name}", raw, str(error))
            return None
        match = _VERSION.fullmatch(manifest.version)
        if match is None or number not in {None, int(match[1])}:
            self._unread(f"{origin}{path.name}", raw, f"{path} says that it is of version {manifest.version!r}")
            return manifest
        version = self._version(int(match[1]))
        suffix = path.name[path.name.index(".json") :]
        if version.manifest is None:
            version.manifest, version.manifest_file = manifest.outline(), (f"{version.name}-sync{suffix}", path)
        elif not version.manifest.same(manifest):
            version.others[f"{version.name}-other-{len(version.others) + 1}{suffix}"] = path
        elif version.manifest_file is not None and not version.manifest_file[0].endswith(".lz4"):
            # The same, packed.
            version.manifest_file = (f"{version.name}-sync{suffix}", path)
        return manifest

    def _unread(self, name: str, raw: bytes, why: str) -> None:
        self._notes.append(f"{why}; the file is kept as it is")
        self._files[f"unread/{name.replace('/', '-')}"] = raw

    # ---- messages and tags

    def _about(self) -> None:
        dsg = self._root / DSG
        for path, name in (
            (dsg / MESSAGES, MESSAGES),
            (dsg / TAGS, TAGS),
            (self._root / ".dsgconfig.yml", "dsgconfig.yml"),
            (dsg / "config.yml", "config.yml"),
        ):
            raw = self._bytes(path)
            if raw is not None:
                self._files[name] = raw
        if MESSAGES in self._files:
            self._records.update(self._messages(self._files[MESSAGES]))
        for version in sorted(self._found.values(), key=lambda one: one.number):
            raw = self._bytes(version.content / PUSH_LOG) if version.content is not None else None
            if raw is not None:
                self._files["push.log"] = raw
                for number, record in _pushed(raw):
                    self._records.setdefault(number, record)
        for number in self._records:
            self._version(number)

    def _messages(self, raw: bytes) -> Iterator[tuple[int, Record]]:
        data = self._json(raw, MESSAGES)
        snapshots = data.get("snapshots") if isinstance(data, dict) else None
        old = data.get("sync_messages") if isinstance(data, dict) else data
        items: list[tuple[Any, Any]] = list(snapshots.items()) if isinstance(snapshots, dict) else []
        if isinstance(old, list):
            items += [(one.get("snapshot_id"), one) for one in old if isinstance(one, dict)]
        for name, said in items:
            match = _VERSION.fullmatch(name) if isinstance(name, str) else None
            if match is None or not isinstance(said, dict):
                self._notes.append(f"{MESSAGES} has an entry of {name!r}, which is no version")
                continue
            author, message = (said.get(one) or said.get(two) for one, two in _NAMES)
            time = moment(said.get("created_at") or said.get("timestamp"))
            yield int(match[1]), Record(_text(author), time, _text(message))

    def _tags(self) -> tuple[Tag, ...]:
        data = self._json(self._files[TAGS], TAGS) if TAGS in self._files else None
        listed = data.get("tags") if isinstance(data, dict) else []
        found = [
            Tag(_text(one.get("tag_id")), _text(one.get("snapshot_id")), _text(one.get("tag_message")))
            for one in (listed if isinstance(listed, list) else [])
            if isinstance(one, dict)
        ]
        if not (self._root / DSG).is_dir():
            for path in sorted(self._root.iterdir()):
                if path.is_symlink() and path.name != "HEAD":
                    target = str(path.readlink()).strip("/").rpartition("/")[2]
                    if _VERSION.fullmatch(target):
                        found.append(Tag(path.name, target))
        return tuple(found)

    def _json(self, raw: bytes, name: str) -> Any:
        try:
            return json.loads(raw)
        except (ValueError, RecursionError) as error:
            self._notes.append(f"{name} can't be read ({error}); the file is kept as it is")
            return None

    def _bytes(self, path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PermissionError:
            raise SourceError(
                f"{path} may not be read. Nothing was changed; run the command as a user who may, or give yourself the "
                "permission"
            ) from None


_NAMES = (("created_by", "user_id"), ("snapshot_message", "message"))
"""What an index calls author and message, newer first."""


def _merged(manifest: OldManifest | None, record: Record) -> Record:
    """Return what is known of a version: the manifest comes before the index."""
    if manifest is None:
        return record
    return Record(
        manifest.created_by or record.author, manifest.created_at or record.time, manifest.message or record.message
    )


def _pushed(raw: bytes) -> Iterable[tuple[int, Record]]:
    """Yield what a push.log says: `REPO/sN | user | YYYY-MM-DD HH:MM:SS UTC (Day) | message`."""
    for line in raw.decode("utf-8", "replace").splitlines():
        match = _PUSHED.fullmatch(line.strip())
        if match is None:
            continue
        time = None
        with suppress(ValueError):
            time = datetime.strptime(match[3].partition(" (")[0].strip(), "%Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC)
        yield int(match[1][1:]), Record(match[2].strip(), time, match[4].strip())


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
