"""Manifests of 1,000 to 1,000,000 entries: what a small change costs, and time and peak memory of what reads all.

First come the nodes and bytes that a change of 10 paths, and comparing the versions after it, read and write; these are
the same on every machine. Then come the operations that go through all entries, each in a process of its own. Time is
that of the CPU. Memory is the peak of resident memory above what the process had before the operation (VmHWM, so Linux
only). Times depend on the machine; what tells something are the ratios between sizes within one run: time per entry
should stay the same, and memory should not grow.

    python -m benchmarks.manifests [--entries 1000 100000 1000000] [--json FILE]
"""

from __future__ import annotations

import argparse
import io
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from blake3 import blake3

from dsg.manifests import tree
from dsg.manifests.codec import Reader, verify, write
from dsg.manifests.compare import attribute, compare
from dsg.manifests.digest import Summary, summarize
from dsg.manifests.entries import Entry, File, Link
from dsg.manifests.header import Commit
from dsg.manifests.ordering import sort

COMMIT = Commit("s2", "0" * 64, "ana@example.org", datetime(2026, 1, 31, tzinfo=UTC), "", "t")


def entries(count: int, edit: int = 0, only: int | None = None) -> Iterator[Entry]:
    """Yield entries in order, names as in a project; with `edit`, every so manieth has other content.

    With `only`, that one alone.
    """
    for number in range(count) if only is None else (only,):
        path = f"input/{number // 1000:05}/interview-{number:08}.transcript.json"
        if number % 100 == 99:
            yield Link(
                path, f"../{number // 1000:05}/interview-{number - 1:08}.transcript.json", "bo@example.org", "s1"
            )
            continue
        content = b"%d" % (number if not edit or number % edit else -number)
        yield File(path, number, 1_764_000_000_000_000_000 + number, 0o644, blake3(content).hexdigest(), "bo", "s1")


def shuffled(count: int) -> Iterator[Entry]:
    """Yield the same entries in an order that has nothing to do with theirs, without holding them."""
    # Multiplying by a number that shares no divisor with the count visits each index once.
    factor = next(f for f in iter(lambda: random.Random(count).randrange(count) | 1, None) if _coprime(f, count))
    for number in range(count):
        at = number * factor % count
        yield File(f"input/{at // 1000:05}/interview-{at:08}.transcript.json", at, at, 0o644, "0" * 64, "bo", "s1")


def _coprime(one: int, other: int) -> bool:
    while other:
        one, other = other, one % other
    return one == 1


def exhaust(items: Iterator[object]) -> None:
    """Take all items, keep none."""
    for _ in items:
        pass


def _write(folder: Path, count: int) -> None:
    with (folder / "written").open("wb") as target:
        write(target, COMMIT, entries(count))


def _read(folder: Path, _: int) -> None:
    with (folder / "one").open("rb") as source:
        verify(source, "one")


def _compare(folder: Path, _: int) -> None:
    with (folder / "one").open("rb") as one, (folder / "two").open("rb") as two:
        exhaust(compare(Reader(one, "one"), Reader(two, "two")))


def _attribute(folder: Path, _: int) -> None:
    with (
        (folder / "one").open("rb") as one,
        (folder / "two").open("rb") as two,
        (folder / "attributed").open("wb") as target,
    ):
        write(target, COMMIT, attribute(Reader(one, "one"), Reader(two, "two"), "ana", "s2"))


class Nodes:
    """Nodes as files of a directory, counted."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self.read = self.written = self.bytes_read = self.bytes_written = 0

    def get(self, digest: str) -> bytes:
        try:
            raw = (self._folder / digest).read_bytes()
        except FileNotFoundError:
            raise tree.NodeMissing(digest) from None
        self.read += 1
        self.bytes_read += len(raw)
        return raw

    def put(self, digest: str, raw: bytes) -> None:
        (self._folder / digest).write_bytes(raw)
        self.written += 1
        self.bytes_written += len(raw)


def _saved(folder: Path, name: str, summary: Summary | None = None) -> Summary:
    """Return the root of a tree that lies in the folder; with a summary, write it down first."""
    file = folder / f"{name}.json"
    if summary is not None:
        file.write_text(json.dumps([summary.entries, summary.size, summary.tree, summary.digest]))
    return Summary(*json.loads(file.read_text()))


def ten(count: int, spread: bool) -> Iterator[tree.Put | tree.Remove]:
    """Yield changes of 10 paths: content changed all over the tree, or new files in one new directory."""
    for number in range(10):
        if spread:
            old = next(entries(count, only=number * count // 10))
            yield tree.Put(File(old.path, 1, 1, 0o644, "f" * 64, "ana", "s2"))
        else:
            path = f"input/{count // 2000:05}-more/interview-{number}.json"
            yield tree.Put(File(path, 1, 1, 0o644, "f" * 64, "ana", "s2"))


def _build(folder: Path, count: int) -> None:
    _saved(folder, "built", tree.build(entries(count), Nodes(folder / "built").put))


def _verify_tree(folder: Path, _: int) -> None:
    tree.verify(Nodes(folder / "nodes"), _saved(folder, "one"))


def _update_tree(folder: Path, count: int) -> None:
    """Change one path in ten, so every node."""
    nodes = Nodes(folder / "nodes")
    edited = (tree.Put(entry) for n, entry in enumerate(entries(count, 10)) if n % 10 == 0)
    _saved(folder, "two", tree.update(nodes, _saved(folder, "one"), edited, nodes.put).summary)


def _compare_trees(folder: Path, _: int) -> None:
    nodes = Nodes(folder / "nodes")
    exhaust(tree.differences(nodes, _saved(folder, "one"), nodes, _saved(folder, "two")))


def small_changes(folder: Path, count: int) -> dict[str, dict[str, int]]:
    """Return what changes of 10 paths read and write."""
    root = _saved(folder, "one")
    found = {}
    for name, spread in (("10 changed, all over", True), ("10 new, together", False)):
        nodes, again = Nodes(folder / "nodes"), Nodes(folder / "nodes")
        updated = tree.update(nodes, root, ten(count, spread), nodes.put)
        exhaust(tree.differences(again, root, again, updated.summary))
        found[name] = {
            "read": nodes.read,
            "bytes read": nodes.bytes_read,
            "written": nodes.written,
            "bytes written": nodes.bytes_written,
            "read to compare": again.read,
            "bytes read to compare": again.bytes_read,
        }
    return found


OPERATIONS: dict[str, Callable[[Path, int], object]] = {
    "make": lambda _, count: exhaust(entries(count)),
    "sort": lambda folder, count: exhaust(sort(shuffled(count), directory=folder)),
    "digest": lambda _, count: summarize(entries(count)),
    "write": _write,
    "read": _read,
    "compare": _compare,
    "attribute": _attribute,
    "build": _build,
    "verify": _verify_tree,
    "update": _update_tree,
    "differ": _compare_trees,
}
"""`make` is what the test data costs by itself; sort, digest, write, build and update contain it. The last four work on
trees: update changes one entry in ten and so every node, and differ finds these changes.
"""


def resident(field: str) -> int:
    """Return a field of /proc/self/status in bytes."""
    found = re.search(rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"/proc/self/status has no {field}; this needs Linux")
    return int(found[1]) * 1024


def measure(operation: str, folder: Path, count: int) -> None:
    """Run one operation in this process and print seconds and bytes."""
    summarize(entries(10))
    write(io.BytesIO(), COMMIT, [])
    before = resident("VmHWM")
    start = time.process_time()
    OPERATIONS[operation](folder, count)
    print(json.dumps([time.process_time() - start, resident("VmHWM") - before]))


def run(operation: str, folder: Path, count: int) -> tuple[float, int]:
    """Run one operation in a new process; return seconds and bytes."""
    argv = [sys.executable, "-m", "benchmarks.manifests", "--operation", operation, str(folder), str(count)]
    done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True)
    seconds, size = json.loads(done.stdout)
    return float(seconds), int(size)


def prepare(folder: Path, count: int) -> None:
    """Write the two manifests that are read and compared, one entry in ten differing, and the tree of the first."""
    for name, edit in (("one", 0), ("two", 10)):
        with (folder / name).open("wb") as target:
            write(target, COMMIT, entries(count, edit))
    _saved(folder, "one", tree.build(entries(count), Nodes(folder / "nodes").put))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entries", type=int, nargs="+", default=[1_000, 100_000, 1_000_000])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--operation", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.operation:
        operation, folder, count = options.operation
        measure(operation, Path(folder), int(count))
        return
    figures: dict[str, dict[int, tuple[float, int]]] = {name: {} for name in OPERATIONS}
    small: dict[int, dict[str, dict[str, int]]] = {}
    for count in options.entries:
        with tempfile.TemporaryDirectory() as folder:
            prepare(Path(folder), count)
            size = (Path(folder) / "one").stat().st_size
            nodes = [file.stat().st_size for file in (Path(folder) / "nodes").iterdir()]
            print(f"{count:,} entries: {size / count:.0f} bytes each", flush=True)
            print(f"  {len(nodes)} nodes, {sum(nodes):,} bytes, the largest {max(nodes):,}", flush=True)
            small[count] = small_changes(Path(folder), count)
            for name, costs in small[count].items():
                whole = costs["bytes written"] / sum(nodes)
                print(f"  {name}: {costs}, written {whole:.2%} of the tree", flush=True)
            for name in OPERATIONS:
                seconds, peak = figures[name][count] = run(name, Path(folder), count)
                first = figures[name][options.entries[0]][0] / options.entries[0]
                each = seconds / count
                print(
                    f"  {name:10} {each * 1e6:6.1f} µs per entry (x{each / first:.2f})  {peak / 2**20:6.1f} MiB",
                    flush=True,
                )
    if options.json:
        options.json.write_text(json.dumps({"small changes": small, "time and memory": figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
