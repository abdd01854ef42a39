"""What a scan of a working copy costs: the first one, that hashes all, and the second, that finds nothing changed.

Beside each, in the same run and on the same tree, what other programs take: to read or hash everything (`cat`,
`sha256sum`), and to look at everything (`find`, `rsync -an` against an equal tree). All run once before they are
measured, so content and inodes are in memory, and the disk is not what is measured. Figures are the least of several
rounds; seconds depend on the machine, ratios within one run tell something. Needs find, cat,
sha256sum and rsync.

    python -m benchmarks.scan [--files 20000 200000] [--large 2147483648] [--rounds 3] [--directory DIR] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from benchmarks.manifests import resident
from dsg.scan.glance import glance
from dsg.scan.scan import Scan
from dsg.scan.scope import Scope

MEASURABLE = 0.03
"""Seconds of CPU below which a ratio says nothing: the system counts in hundredths."""


@dataclass
class Cost:
    wall: float
    """Seconds."""
    cpu: float
    """Seconds of all threads and child processes."""
    memory: int = 0
    """Peak of resident memory above what the process had before, in bytes; of scans only."""
    hashed: int = 0
    """Bytes; of scans only."""

    def least(self, other: Cost) -> Cost:
        return Cost(min(self.wall, other.wall), min(self.cpu, other.cpu), max(self.memory, other.memory), self.hashed)


def make(root: Path, files: int) -> None:
    """Make small files, 200 in a directory, a link for each hundredth; 0 to 4,000 bytes, 2,000 on average."""
    source = random.Random(files)
    noise = source.randbytes(1 << 20)
    for number in range(files):
        folder = root / "input" / f"{number // 200:05}"
        if number % 200 == 0:
            folder.mkdir(parents=True)
        place = folder / f"interview-{number:08}.transcript.json"
        if number % 100 == 99:
            place.symlink_to(f"interview-{number - 1:08}.transcript.json")
            continue
        start = source.randrange(len(noise) - 4000)
        place.write_bytes(noise[start : start + source.randrange(4001)])


def make_large(root: Path, size: int) -> None:
    """Make one file without holes."""
    (root / "input").mkdir()
    with (root / "input" / "recording.mkv").open("wb") as file:
        while size:
            piece = os.urandom(min(size, 1 << 24))
            file.write(piece)
            size -= len(piece)


def scan(root: Path, cache: Path) -> None:
    """Scan once in this process and print the cost."""
    before = resident("VmHWM")
    scanned = Scan(root, Scope(["input"]), cache=cache, young=2_000_000_000)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in scanned:
        pass
    cost = Cost(
        time.perf_counter() - wall,
        time.process_time() - cpu,
        resident("VmHWM") - before,
        scanned.report.progress.hashed,
    )
    print(json.dumps(asdict(cost)))


def look(root: Path) -> None:
    """Glance once in this process and print the cost."""
    before = resident("VmHWM")
    wall, cpu = time.perf_counter(), time.process_time()
    found = glance(root, Scope(["input"]), settled_before=time.time_ns() - 2_000_000_000)
    cost = Cost(time.perf_counter() - wall, time.process_time() - cpu, resident("VmHWM") - before)
    if found is None or not found.settled:
        raise RuntimeError("the tree changed meanwhile")
    print(json.dumps(asdict(cost)))


def glanced(root: Path) -> Cost:
    """Glance once in a process of its own."""
    argv = [sys.executable, "-m", "benchmarks.scan", "--glance", str(root)]
    return Cost(**json.loads(subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout))


def scanned(root: Path, cache: Path) -> Cost:
    """Scan once in a process of its own."""
    argv = [sys.executable, "-m", "benchmarks.scan", "--scan", str(root), str(cache)]
    done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True)
    return Cost(**json.loads(done.stdout))


def ran(*argv: str) -> Cost:
    """Run a program with its output thrown away."""
    before, wall = os.times(), time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Cost(time.perf_counter() - wall, cpu)


def measure(folder: Path, rounds: int) -> dict[str, Cost]:
    """Return the least cost of each way to go through the tree in `folder`/one."""
    one, two, cache = folder / "one", folder / "two", folder / "cache"
    root = str(one)
    subprocess.run(["cp", "-al", root, str(two)], check=True)
    # Else the files are so young that no scan would trust their times.
    time.sleep(2.5)

    def first() -> Cost:
        cache.unlink(missing_ok=True)
        return scanned(one, cache)

    ways: dict[str, Callable[[], Cost]] = {
        "read all (find -exec cat)": lambda: ran("find", root, "-type", "f", "-exec", "cat", "{}", "+"),
        "hash all (find -exec sha256sum)": lambda: ran("find", root, "-type", "f", "-exec", "sha256sum", "{}", "+"),
        "first scan": first,
        "look at all (find -printf)": lambda: ran("find", root, "-printf", "%p %s %T@ %C@ %i\n"),
        "compare two (rsync -an)": lambda: ran("rsync", "-an", "--delete", f"{root}/", f"{two}/"),
        "second scan": lambda: scanned(one, cache),
        "glance": lambda: glanced(one),
    }
    found: dict[str, Cost] = {}
    for number in range(rounds + 1):
        for name, way in ways.items():
            cost = way()
            if number:
                found[name] = found[name].least(cost) if name in found else cost
    if found["second scan"].hashed:
        raise RuntimeError("the second scan hashed something: the tree changed meanwhile, or the cache is broken")
    return found


def show(title: str, found: dict[str, Cost]) -> None:
    """Print a table; ratios of a scan are to what stands above it."""
    print(title)
    for name, cost in found.items():
        text = f"  {name:32} {cost.wall:8.2f} s  cpu {cost.cpu:8.2f} s"
        if name.endswith(("scan", "glance")):
            group = list(found)[:2] if name.startswith("first") else list(found)[3:5]
            for other in group:
                base = found[other]
                if base.cpu < MEASURABLE:
                    continue
                text += f"  x{cost.wall / base.wall:.2f} (cpu x{cost.cpu / base.cpu:.2f}) of {other.partition(' (')[0]}"
            text += f"  {cost.memory / 2**20:.1f} MiB"
        print(text, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, nargs="*", default=[20_000, 200_000])
    parser.add_argument("--large", type=int, default=1 << 31)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", type=Path, help="where trees are made (default: the system's)")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--scan", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--glance", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.scan:
        scan(Path(options.scan[0]), Path(options.scan[1]))
        return
    if options.glance:
        look(Path(options.glance))
        return
    figures: dict[str, dict[str, Cost]] = {}
    trees: list[tuple[str, Callable[[Path], None]]] = [
        (f"{count:,} small files", partial(make, files=count)) for count in options.files
    ]
    if options.large:
        trees.append((f"one file of {options.large:,} bytes", partial(make_large, size=options.large)))
    for title, build in trees:
        with tempfile.TemporaryDirectory(dir=options.directory) as made:
            (Path(made) / "one").mkdir()
            build(Path(made) / "one")
            figures[title] = measure(Path(made), options.rounds)
        show(title, figures[title])
    if options.json:
        plain = {title: {name: asdict(cost) for name, cost in found.items()} for title, found in figures.items()}
        options.json.write_text(json.dumps(plain, indent=2) + "\n")


if __name__ == "__main__":
    main()
