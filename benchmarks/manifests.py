"""Manifests of 10,000 to 1,000,000 entries: time per entry and peak memory of each operation.

Each operation runs in a process of its own. Time is that of the CPU. Memory is the peak of resident memory above what
the process had before the operation (VmHWM, so Linux only). Times depend on the machine; what tells something are the
ratios between sizes within one run: time per entry should stay the same, and memory should not grow.

    python -m benchmarks.manifests [--entries 10000 100000 1000000] [--json FILE]
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

from dsg.manifests.codec import Reader, verify, write
from dsg.manifests.compare import attribute, compare
from dsg.manifests.digest import summarize
from dsg.manifests.entries import Entry, File, Link
from dsg.manifests.header import Commit
from dsg.manifests.ordering import sort

COMMIT = Commit("s2", "0" * 64, "ana@example.org", datetime(2026, 1, 31, tzinfo=UTC), "")


def entries(count: int, edit: int = 0) -> Iterator[Entry]:
    """Yield entries in order, names as in a project; with `edit`, every so manieth has other content."""
    for number in range(count):
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


OPERATIONS: dict[str, Callable[[Path, int], object]] = {
    "make": lambda _, count: exhaust(entries(count)),
    "sort": lambda folder, count: exhaust(sort(shuffled(count), directory=folder)),
    "digest": lambda _, count: summarize(entries(count)),
    "write": _write,
    "read": _read,
    "compare": _compare,
    "attribute": _attribute,
}
"""`make` is what the test data costs by itself; sort, digest and write contain it."""


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
    """Write the two manifests that are read and compared; one entry in ten differs."""
    for name, edit in (("one", 0), ("two", 10)):
        with (folder / name).open("wb") as target:
            write(target, COMMIT, entries(count, edit))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entries", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--operation", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.operation:
        operation, folder, count = options.operation
        measure(operation, Path(folder), int(count))
        return
    figures: dict[str, dict[int, tuple[float, int]]] = {name: {} for name in OPERATIONS}
    for count in options.entries:
        with tempfile.TemporaryDirectory() as folder:
            prepare(Path(folder), count)
            size = (Path(folder) / "one").stat().st_size
            print(f"{count:,} entries: {size / count:.0f} bytes each", flush=True)
            for name in OPERATIONS:
                seconds, peak = figures[name][count] = run(name, Path(folder), count)
                first = figures[name][options.entries[0]][0] / options.entries[0]
                each = seconds / count
                print(
                    f"  {name:10} {each * 1e6:6.1f} µs per entry (x{each / first:.2f})  {peak / 2**20:6.1f} MiB",
                    flush=True,
                )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
