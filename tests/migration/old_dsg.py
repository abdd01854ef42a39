"""Repositories as DSG 0.4 and its migration from btrsnap left them, written from its formats and not by our code."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import lz4.frame
import xxhash

LA = ZoneInfo("America/Los_Angeles")
START = datetime(2024, 10, 20, 17, 30, tzinfo=UTC)
Tree = Mapping[str, "bytes | str"]
"""Files by their bytes, links by their text."""


def la(moment: datetime) -> str:
    return moment.astimezone(LA).isoformat(timespec="seconds")


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def entry(root: Path, path: str, user: str) -> dict[str, Any]:
    where = root / path
    if where.is_symlink():
        return {"type": "link", "path": path, "user": user, "reference": os.readlink(where)}
    content = where.read_bytes()
    mtime = datetime.fromtimestamp(int(where.stat().st_mtime), UTC)
    return {
        "type": "file",
        "path": path,
        "user": user,
        "filesize": len(content),
        "mtime": la(mtime),
        "hash": xxhash.xxh3_64(content).hexdigest(),
    }


class OldRepository:
    """One that grows by syncs."""

    def __init__(self, root: Path, *, snapshots: bool = True, archive: bool = True) -> None:
        self.root = root
        self.dsg = root / ".dsg"
        self.snapshots, self.archive = snapshots, archive
        self.number = 0
        self.hash = ""
        self.now = START
        (self.dsg / "archive").mkdir(parents=True)
        (root / ".dsgconfig.yml").write_text(
            "name: justice\nrepository: {type: zfs, host: scott, pool: tank, mountpoint: /srv}\n"
        )

    def sync(
        self,
        tree: Tree,
        *,
        user: str = "alice@example.org",
        message: str = "Sync operation",
        entries: Any = None,
        **metadata: Any,
    ) -> str:
        """Make the tree the next version; `entries` changes the manifest's entries, `metadata` its metadata."""
        self.now += timedelta(days=20)
        self._write(tree)
        previous = f"s{self.number}" if self.number else None
        if self.number and self.archive:
            raw = (self.dsg / "last-sync.json").read_bytes()
            (self.dsg / "archive" / f"s{self.number}-sync.json.lz4").write_bytes(lz4.frame.compress(raw))
        self.number += 1
        listed = [entry(self.root, path, user) for path in tree]
        listed = entries(listed) if entries is not None else listed
        hashed = xxhash.xxh3_64(b"".join(map(compact, listed))).hexdigest()
        said = {
            "manifest_version": "0.4.4",
            "snapshot_id": f"s{self.number}",
            "created_at": la(self.now),
            "entry_count": len(listed),
            "entries_hash": hashed,
            "created_by": user,
            "snapshot_message": message,
            "snapshot_previous": previous,
            "snapshot_hash": xxhash.xxh3_64((hashed + message + self.hash).encode()).hexdigest(),
            "snapshot_notes": "sync",
            "project_config": None,
            **metadata,
        }
        self.hash = said["snapshot_hash"]
        manifest = {"entries": {one["path"]: one for one in listed}, "metadata": said}
        (self.dsg / "last-sync.json").write_text(json.dumps(manifest, indent=2, ensure_ascii=False))
        index = self.dsg / "sync-messages.json"
        known: Any = json.loads(index.read_text()) if index.exists() else {"metadata_version": "0.4.4", "snapshots": {}}
        known["snapshots"][f"s{self.number}"] = said
        index.write_text(json.dumps(known, indent=2))
        if self.snapshots:
            self.snapshot()
        return f"s{self.number}"

    def snapshot(self) -> None:
        def skip(directory: str, names: list[str]) -> list[str]:
            return [".zfs"] if Path(directory) == self.root and ".zfs" in names else []

        place = self.root / ".zfs" / "snapshot" / f"s{self.number}"
        shutil.copytree(self.root, place, symlinks=True, ignore=skip)

    def tag(self, name: str, version: str, message: str) -> None:
        path = self.dsg / "tag-messages.json"
        known: Any = json.loads(path.read_text()) if path.exists() else {"metadata_version": "0.1.0", "tags": []}
        known["tags"].append(
            {
                "created_by": "alice",
                "snapshot_id": version,
                "tag_id": name,
                "tag_message": message,
                "created_at": la(self.now),
            }
        )
        path.write_text(json.dumps(known))

    def place(self, number: int) -> Path:
        """Return where the content of a version lies."""
        return self.root / ".zfs" / "snapshot" / f"s{number}"

    def _write(self, tree: Tree) -> None:
        for path in sorted(self.root.rglob("*"), reverse=True):
            name = path.relative_to(self.root).as_posix()
            if name.split("/")[0] in {".dsg", ".zfs", ".dsgconfig.yml"}:
                continue
            if path.is_symlink() or path.is_file():
                if name not in tree:
                    path.unlink()
            elif not any(path.iterdir()):
                path.rmdir()
        for name, content in tree.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str):
                if not path.is_symlink() or os.readlink(path) != content:
                    path.unlink(missing_ok=True)
                    path.symlink_to(content)
            elif path.is_symlink() or not path.exists() or path.read_bytes() != content:
                path.unlink(missing_ok=True)
                path.write_bytes(content)
                path.chmod(0o640)
                os.utime(path, ns=(0, int(self.now.timestamp() * 10**9) + 123456789))


TREES: list[Tree] = [
    {
        "input/interviews/a.csv": b"id,place\n1,Guatemala\n",
        "input/interviews/b.csv": b"id,place\n2,Kosovo\n",
        "input/Übersicht 概要.txt": b"Namen\n",
        "output/latest": "../input/interviews/a.csv",
        "output/empty": b"",
    },
    {
        "input/interviews/a.csv": b"id,place\n1,Guatemala\n3,Chad\n",
        "input/interviews/b.csv": b"id,place\n2,Kosovo\n",
        "input/Übersicht 概要.txt": b"Namen\n",
        "output/latest": "../input/interviews/b.csv",
        "output/report.txt": b"three\n",
    },
    # Renamed, deleted; a file where a link was.
    {
        "input/interviews/a.csv": b"id,place\n1,Guatemala\n3,Chad\n",
        "input/archive/b-2024.csv": b"id,place\n2,Kosovo\n",
        "output/latest": b"no link any more\n",
        "output/report.txt": b"three\n",
    },
    # Exactly the same: DSG made a version of each sync.
    {
        "input/interviews/a.csv": b"id,place\n1,Guatemala\n3,Chad\n",
        "input/archive/b-2024.csv": b"id,place\n2,Kosovo\n",
        "output/latest": b"no link any more\n",
        "output/report.txt": b"three\n",
    },
]
MESSAGES = ["Initial snapshot", "Chad, by hand", "Tidied\n\nDsg-Origin-Version: s99", "Sync operation"]
USERS = ["alice@example.org", "bob@example.org", "alice@example.org", "bob@example.org"]


def four_versions(root: Path, **options: Any) -> OldRepository:
    """Return a repository with four versions and two tags."""
    made = OldRepository(root, **options)
    for tree, message, user in zip(TREES, MESSAGES, USERS, strict=True):
        made.sync(tree, message=message, user=user)
    made.tag("v1.0", "s2", "First release")
    made.tag("v1.0-ohchr", "s2", "Delivered")
    return made


def facts(root: Path) -> dict[str, Any]:
    """Return all that can be seen of a directory but times of access."""
    found: dict[str, Any] = {}
    for path in (root, *root.rglob("*")):
        status = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(root))] = (
            status.st_mode,
            status.st_uid,
            status.st_ino,
            status.st_nlink,
            status.st_mtime_ns,
            status.st_ctime_ns,
            content,
        )
    return found
