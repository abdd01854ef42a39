"""Processes that read a public path in a loop while it is switched, and count what they see."""

from __future__ import annotations

import errno
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Event
from pathlib import Path

from benchmarks.reveal import kernel

FILES = ("a", "b", "c")
processes = multiprocessing.get_context("spawn")
"""Not forked: whoever starts readers may have threads."""


Loop = Callable[[str, Counter[str]], None]
"""Reads once and counts."""


def furnish(directory: str, generation: str) -> None:
    """Write what readers look for: every file holds the generation, and one is named after it."""
    for name in FILES:
        Path(directory, name).write_text(generation)
    Path(directory, f"is-{generation}").touch()


def _content(path: str, root: int | None = None) -> str:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=root)
    try:
        return os.read(file, 16).decode()
    finally:
        os.close(file)


def by_root(public: str, seen: Counter[str]) -> None:
    """Open the root once, and three files from it: they must be of one generation."""
    root = os.open(public, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = {_content(name, root) for name in FILES}
    finally:
        os.close(root)
    seen["mixed" if len(found) > 1 else f"generation {found.pop()}"] += 1


def by_path(public: str, seen: Counter[str]) -> None:
    """Open three files by their full paths: these may be of two generations, which is counted apart."""
    found = {_content(f"{public}/{name}") for name in FILES}
    seen["straddled" if len(found) > 1 else f"generation {found.pop()}"] += 1


def by_listing(public: str, seen: Counter[str]) -> None:
    """List the directory: it must be one generation's listing."""
    names = set(os.listdir(public))  # noqa: PTH208  (as readers do)
    marks = [name for name in names if name.startswith("is-")]
    if not names:
        seen["empty"] += 1
    elif names != {*FILES, *marks} or len(marks) != 1:
        seen[f"mixed: {sorted(names)}"] += 1
    else:
        seen[f"generation {marks[0].removeprefix('is-')}"] += 1


class ByOpenFile:
    """Keep a file open over some hundred reads: what it holds must never change nor become unreadable."""

    def __init__(self) -> None:
        self._file, self._first, self._reads = -1, b"", 0

    def __call__(self, public: str, seen: Counter[str]) -> None:
        """Read the open file; open it anew after a while."""
        if self._reads % 300 == 0:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1
            self._file = os.open(f"{public}/a", os.O_RDONLY | os.O_CLOEXEC)
            self._first = os.pread(self._file, 16, 0)
            seen[f"generation {self._first.decode()}"] += 1
        self._reads += 1
        try:
            same = os.pread(self._file, 16, 0) == self._first
        except OSError as error:
            seen[f"open file: {errno.errorcode.get(error.errno or 0, '?')}"] += 1
        else:
            seen["open file read" if same else "open file: changed"] += 1


READERS: dict[str, Callable[[], Loop]] = {
    "root descriptor": lambda: by_root,
    "full paths": lambda: by_path,
    "listing": lambda: by_listing,
    "open file": ByOpenFile,
}


def _read(
    public: str, loop: Loop, slave: bool, stop: Event, go: Event, ready: Event, results: SimpleQueue[dict[str, int]]
) -> None:
    seen: Counter[str] = Counter()
    if slave:
        kernel.own_namespace(kernel.MS_SLAVE)
    ready.set()
    go.wait()
    while not stop.is_set():
        seen["loops"] += 1
        try:
            loop(public, seen)
        except OSError as error:
            seen[f"missing: {errno.errorcode.get(error.errno or 0, '?')}"] += 1
    if slave:
        seen["mounts left at the path"] = kernel.mounted_at(public)
        try:
            seen[f"at the end: generation {_content(f'{public}/a')}"] += 1
        except OSError as error:
            seen[f"at the end: {errno.errorcode.get(error.errno or 0, '?')}"] += 1
    results.put(dict(seen))


class Reader:
    """One process with one loop, in the node's mount namespace or in one that is a slave of it."""

    def __init__(self, name: str, public: str, loop: Loop, *, slave: bool = False) -> None:
        self.name = name
        self._stop, self._go, ready = processes.Event(), processes.Event(), processes.Event()
        self._results: SimpleQueue[dict[str, int]] = processes.SimpleQueue()
        arguments = (public, loop, slave, self._stop, self._go, ready, self._results)
        self._process = processes.Process(target=_read, args=arguments, name=name)
        self._process.start()
        if not ready.wait(60):
            raise TimeoutError(f"reader {name} did not begin")

    def begin(self) -> None:
        """Let it read. Not before all have started: those that read leave little for those that start."""
        self._go.set()

    def end(self) -> dict[str, int]:
        """Stop it and return what it counted."""
        self._stop.set()
        self._go.set()
        counted = self._results.get()
        self._process.join(60)
        return counted
