"""An older repository on one side, a new one on the other."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsg.manifests.header import Header
from dsg.migration.adopt import Adopted, Options, adopt
from dsg.migration.examine import Rules
from dsg.migration.source import read_source
from dsg.scan.scope import Scope
from dsg.sync.names import NameRules
from dsg.workcopy.clone import clone, origin_of
from dsg.workcopy.layout import Layout
from dsg.workcopy.sync import nobody
from dsg.workcopy.versions import Versions
from tests.workcopy.server import FakeRemote, Server


@dataclass
class Place:
    old: Path
    server: Server

    def rules(self, *, normalize: bool = False) -> Rules:
        scope = Scope(self.server.data_dirs, self.server.ignore)
        return Rules(scope, NameRules(self.server.name_rules), normalize)

    def adopt(
        self, *accept: Any, normalize: bool = False, remote: FakeRemote | None = None, tell: Any = None, **source: Any
    ) -> Adopted:
        return adopt(
            read_source(self.old, **source),
            remote or FakeRemote(self.server, "carol"),
            self.rules(normalize=normalize),
            Options(frozenset(accept)),
            nobody,
            tell or (lambda _one: None),
        )

    def seen(self, version: str, into: Path) -> dict[str, bytes | str]:
        """Fetch a version as a researcher does; return it without what is about older versions."""
        copy = into / "copy"
        remote = FakeRemote(self.server, "dora")
        if not copy.exists():
            clone(copy, remote, lambda found: origin_of(found, context="", namespace="research", name="justice"))
        with Versions(Layout(copy), remote) as versions:
            fetched = versions.fetch(version, [], into / version)
            assert fetched.left == ()
        return {path: content for path, content in tree(into / version).items() if not path.startswith("dsg-prov")}

    def log(self, into: Path) -> list[Header]:
        copy = into / "copy"
        remote = FakeRemote(self.server, "dora")
        if not copy.exists():
            clone(copy, remote, lambda found: origin_of(found, context="", namespace="research", name="justice"))
        with Versions(Layout(copy), remote) as versions:
            return list(reversed(list(versions.log())))


def tree(root: Path) -> dict[str, bytes | str]:
    """Return files and links below a directory."""
    found: dict[str, bytes | str] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_file():
            found[name] = path.read_bytes()
    return found
