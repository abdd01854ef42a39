"""A data plane in a process of its own, with grants and trees in a directory; and clients of it."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from blake3 import blake3

from dsg.manifests import history, tree
from dsg.manifests.entries import File
from dsg.manifests.header import Commit, Header
from dsg.manifests.ordering import sort
from dsg.transfer.client import Connection, Endpoint, Identity, Outgoing, Persistence, Wanted
from dsg.transfer.grants import Grant, read_server, remove_grant, write_grant

QUICK = Persistence(tries=5, pause=0.02, longest=0.1)
AUTHOR = "ada"


def digest_of(content: bytes) -> str:
    return blake3(content).hexdigest()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


@dataclass
class World:
    """One data plane and what it works on."""

    directory: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def grants(self) -> Path:
        return self.directory / "grants"

    def start(self) -> None:
        """Start the data plane and wait until it takes connections."""
        for name in ("grants", "state"):
            (self.directory / name).mkdir(exist_ok=True)
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(command(self), stdout=log, stderr=log)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            try:
                with socket.create_connection(("127.0.0.1", self.port)):
                    return
            except OSError:
                time.sleep(0.02)
        raise AssertionError(f"the data plane did not start: {(self.directory / 'log').read_text()}")

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    @property
    def fingerprint(self) -> str:
        found = read_server(self.grants)
        assert found is not None
        return found

    def endpoint(self, port: int | None = None) -> Endpoint:
        return Endpoint(f"https://127.0.0.1:{port or self.port}", self.fingerprint)

    def grant_reading(self, uid: str, identity: Identity, root: Path) -> None:
        self._grant(uid, identity, mode="read", root=str(root), version="s1")

    def grant_writing(self, uid: str, identity: Identity, root: Path, size_limit: int | None = None) -> None:
        self._grant(uid, identity, mode="write", root=str(root), size_limit=size_limit)

    def _grant(self, uid: str, identity: Identity, **more: object) -> None:
        said = {
            "uid": uid,
            "namespace": "team",
            "repository": "field-notes",
            "author": AUTHOR,
            "clientKey": identity.fingerprint,
            "expires": time.time() + 600,
            **{{"size_limit": "sizeLimit"}.get(name, name): value for name, value in more.items()},
        }
        write_grant(self.grants, Grant.model_validate({key: value for key, value in said.items() if value is not None}))

    def end(self, uid: str) -> None:
        remove_grant(self.grants, uid)

    def connect(self, uid: str, identity: Identity, port: int | None = None) -> Connection:
        return Connection.open(self.endpoint(port), uid, identity, persistence=QUICK)


def command(world: World) -> list[str]:
    main = [sys.executable, "-m", "dsg.transfer.server.main", "--listen", f"127.0.0.1:{world.port}"]
    return [*main, "--grants", str(world.grants), "--state", str(world.directory / "state")]


def make_stage(root: Path, base: dict[str, bytes] | None = None) -> Path:
    """Make an open stage, with files of the base version."""
    for name, content in (base or {}).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (root / ".dsg" / "incoming").mkdir(parents=True)
    return root


def make_version(root: Path, files: dict[str, bytes]) -> Header:
    """Make the tree of a version with its manifest and history."""
    for name in ("nodes", "history"):
        (root / ".dsg" / name).mkdir(parents=True)
    entries = []
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        entries.append(File(name, len(content), 0, 0o644, digest_of(content), AUTHOR, "s1"))
    summary = tree.build(sort(entries), lambda digest, raw: _none((root / ".dsg" / "nodes" / digest).write_bytes(raw)))
    header = Header(Commit("s1", None, AUTHOR, datetime(2026, 1, 1, tzinfo=UTC), "first", "t-1"), summary)
    name, raw = history.append(_NoHistory(), header)
    (root / ".dsg" / "history" / name).write_bytes(raw)
    return header


def _none(_value: object) -> None:
    return None


class _NoHistory:
    def read(self, segment: str) -> bytes | None:
        return None


def outgoing(path: Path, *, basis_path: str | None = None, digest: str | None = None) -> Outgoing:
    """Return a file as a scan would give it for sending."""
    content = path.read_bytes()
    return Outgoing(path.name, len(content), digest or digest_of(content), opener(path), basis_path)


def opener(path: Path) -> Callable[[], BinaryIO]:
    return lambda: path.open("rb")


def wanted(path: str, content: bytes, basis: Path | None = None) -> Wanted:
    return Wanted(path, len(content), digest_of(content), opener(basis) if basis is not None else None)


def stored(root: Path) -> dict[str, bytes]:
    """Return the contents in a stage's incoming directory."""
    found = root / ".dsg" / "incoming"
    return {path.name: path.read_bytes() for path in found.iterdir() if len(path.name) == 64}


def noise(seed: int, size: int) -> bytes:
    """Return bytes that look random, the same for the same seed."""
    return random.Random(seed).randbytes(size)


def names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))
