"""The part that runs on a storage node: as root, with a pool that has room.

    python -m benchmarks.commit.guest --pool tank --files 10 1000 --versions 10 100

Prints one JSON object in each line: the costs of a commit, as soon as they are known.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import structlog

from benchmarks.commit.measure import Costs, commit
from benchmarks.commit.repositories import directly, furnish, lengthen
from dsg.storage.process import CommandRecord, Runner
from tests.transactions.real import ZfsGround


def of_snapshot(ground: ZfsGround, version: str, name: str) -> int:
    """Return a numeric property of a version's snapshot."""
    snapshot = f"{ground.dataset}/{Path(ground.public()).name}@{version}"
    argv = ["zfs", "get", "-Hpo", "value", name, snapshot]
    return int(subprocess.run(argv, check=True, capture_output=True, text=True, timeout=120).stdout)


def measured(ground: ZfsGround, base: str, files: int, changes: int, started: list[CommandRecord]) -> Costs:
    """Commit, and note what only a real node can tell: processes that ran, and bytes on disk."""
    started.clear()
    costs = commit(ground, base, files, changes)
    costs.noted["processes run"] = len(started)
    costs.noted["written"] = of_snapshot(ground, f"s{int(base[1:]) + 1}", "written")
    return costs


def series(
    make: Callable[[str, list[CommandRecord]], ZfsGround],
    files: list[int],
    changes: list[int],
    versions: list[int],
    repeat: int,
) -> Iterator[Costs]:
    """Yield costs by size and changes, then by the length of the history of a repository of 100 files."""
    for size in files:
        started: list[CommandRecord] = []
        ground = make(f"f{size}", started)
        version = furnish(ground, size, directly(ground)).version
        for edited in changes:
            for _ in range(repeat if edited <= size else 0):
                yield measured(ground, version, size, edited, started)
                version = f"s{int(version[1:]) + 1}"
        ground.destroy()
    for length in versions:
        started = []
        ground = make(f"v{length}", started)
        version = lengthen(ground, furnish(ground, 100, directly(ground)), length).version
        for _ in range(repeat):
            yield measured(ground, version, 100, 1, started)
            version = f"s{int(version[1:]) + 1}"
        ground.destroy()


def main() -> None:
    """Print the costs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", required=True)
    parser.add_argument("--files", type=int, nargs="*", default=[])
    parser.add_argument("--changes", type=int, nargs="*", default=[1])
    parser.add_argument("--versions", type=int, nargs="*", default=[])
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    # A line for each process would be most of what is printed.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    home = f"{options.pool}/commits"
    subprocess.run(["zfs", "create", "-o", "mountpoint=none", home], check=True, timeout=60)
    with tempfile.TemporaryDirectory() as directory:

        def make(name: str, started: list[CommandRecord]) -> ZfsGround:
            return ZfsGround(home, Path(directory), name, runner=lambda: Runner(observers=[started.append]))

        for costs in series(make, options.files, options.changes, options.versions, options.repeat):
            print(json.dumps(asdict(costs)), flush=True)
    subprocess.run(["zfs", "destroy", home], check=True, timeout=60)


if __name__ == "__main__":
    main()
