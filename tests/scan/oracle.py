"""The slow way to the same answer: os.walk, every rule one by one, every file hashed; and trees for hypothesis."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from blake3 import blake3
from hypothesis import strategies as st

from dsg.api.repository import Ignore
from dsg.manifests.entries import FileState, LinkState, State
from dsg.scan.scan import Scan
from dsg.scan.scope import Scope

SETTLED = 20_000_000
"""Nanoseconds that tests take for the resolution of file times; Linux's is 10 ms at most."""


def naive_covers(data_dirs: list[str], ignore: Ignore, path: str) -> bool:
    names = path.split("/")
    if any(name.startswith(".") for name in names):
        return False
    for ignored in ignore.names:
        if ignored in names:
            return False
    for ignored in ignore.paths:
        if path == ignored or path.startswith(ignored + "/"):
            return False
    for suffix in ignore.suffixes:
        if names[-1].endswith(suffix) and names[-1] != suffix:
            return False
    return "*" in data_dirs or any(name in data_dirs for name in names)


def naive_scan(root: Path, data_dirs: list[str], ignore: Ignore) -> list[State]:
    states: list[State] = []
    for folder, directories, files in os.walk(root):
        for name in [*files, *directories]:
            whole = os.path.join(folder, name)
            path = os.path.relpath(whole, root)
            if not naive_covers(data_dirs, ignore, path):
                continue
            if os.path.islink(whole):
                states.append(LinkState(path, os.readlink(whole)))
            elif os.path.isfile(whole):
                status = os.stat(whole)
                digest = blake3(Path(whole).read_bytes()).hexdigest()
                states.append(FileState(path, status.st_size, status.st_mtime_ns, status.st_mode & 0o777, digest))
    return sorted(states, key=lambda state: state.key)


def everything(root: Path) -> list[State]:
    return naive_scan(root, ["*"], Ignore())


def scan(root: Path, cache: Path | None = None, *, young: int = SETTLED) -> tuple[list[State], Scan]:
    done = Scan(root, Scope(["*"]), cache=cache, young=young, threads=2)
    return list(done), done


def settle() -> None:
    """Let the times of what was made be told from those of what comes."""
    time.sleep(2.5 * SETTLED / 1e9)


NAMES = [b"input", b"a", b"b", b"a-b", b"a.b", b"a.tmp", b".hid", b"x.tmp", b"tmp.", b"\xff", b"e\xcc\x81", b"\xc3\xa9"]
names = st.one_of(
    st.sampled_from(NAMES),
    st.binary(min_size=1, max_size=5).filter(lambda raw: not {0, 0x2F} & set(raw) and raw not in {b".", b".."}),
)
paths = st.lists(names, min_size=1, max_size=4).map(b"/".join)
contents = st.one_of(st.binary(max_size=8), st.sampled_from([b"x" * 100, b"y" * 70_000, b"z" * (1 << 20)]))
links = st.lists(names.filter(lambda raw: not raw.lower().startswith(b".")), min_size=1, max_size=2).map(b"/".join)
trees = st.dictionaries(paths, st.one_of(contents, st.builds(Path, links.map(os.fsdecode)), st.none()), max_size=12)


@contextmanager
def tree(items: dict[bytes, bytes | Path | None]) -> Iterator[Path]:
    """Make a temporary tree of files, links (Path) and directories (None); what doesn't fit is left out."""
    with tempfile.TemporaryDirectory() as made:
        root = Path(made, "copy")
        root.mkdir()
        for raw, what in items.items():
            place = root / os.fsdecode(raw)
            with suppress(OSError):
                (place if what is None else place.parent).mkdir(parents=True)
            with suppress(OSError):
                if isinstance(what, Path):
                    place.symlink_to(what)
                elif what is not None:
                    place.write_bytes(what)
        yield root


def unprivileged(act: Callable[[], str]) -> str:
    """Return what a function returns in a child that permissions apply to, even where tests run as root."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            os.close(read)
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            os.write(write, act().encode())
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read) as answer:
        text = answer.read()
    assert os.waitpid(child, 0)[1] == 0
    return text
