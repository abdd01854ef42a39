"""Count what a commit costs, on the model or in a storage-node guest, and print a table.

    python -m benchmarks.commit            a short form: minutes
    python -m benchmarks.commit --full     up to 1,000,000 files and 5,000 versions
    python -m benchmarks.commit --guest    on OpenZFS in a guest

Counts repeat exactly on the model. Times are ratios to the first row of the same run; of three commits in a guest, the
fastest counts.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.commit.measure import Costs, commit
from benchmarks.commit.repositories import furnish, lengthen, weightless
from lab.node import PYTHON, StorageNode, pack_tests
from tests.transactions.ground import ModelGround

POOL = "commits"
PLACE = "/root/benchmark"
FILES = [10, 1_000, 10_000]
ALL_FILES = [10, 1_000, 100_000, 1_000_000]
CHANGES = [1, 10, 100, 1_000]
VERSIONS = [1, 10, 100]
ALL_VERSIONS = [1, 10, 100, 1_000, 5_000]
PROGRAM = ["benchmarks/commit", "tests/transactions", "tests/reconcile/specs.py"]


def on_model(files: Sequence[int], changes: Sequence[int], versions: Sequence[int]) -> Iterator[Costs]:
    """Yield costs by size and changes, then by the length of the history of a repository of 100 files."""
    for size in files:
        ground = ModelGround()
        version = furnish(ground, size, weightless(ground)).version
        for edited in changes:
            if edited <= size:
                yield commit(ground, version, size, edited)
                version = f"s{int(version[1:]) + 1}"
    for length in versions:
        ground = ModelGround()
        version = lengthen(ground, furnish(ground, 100, weightless(ground)), length).version
        yield commit(ground, version, 100, 1)


class _Shown(io.StringIO):
    """Keeps what a program prints, and shows meanwhile that it goes on."""

    def write(self, text: str) -> int:
        sys.stderr.write(text)
        sys.stderr.flush()
        return super().write(text)


def in_guest(files: Sequence[int], changes: Sequence[int], versions: Sequence[int], seconds: int) -> Iterator[Costs]:
    """Yield the fastest of three commits of each kind on a node of its own."""
    with tempfile.TemporaryDirectory() as directory, StorageNode(Path(directory) / "node", "node-c") as node:
        node.create_pool(POOL)
        node.install()
        node.shell.unpack(pack_tests(PROGRAM), PLACE)
        argv = ["timeout", str(seconds), PYTHON, "-m", "benchmarks.commit.guest", "--pool", POOL]
        for name, numbers in (("files", files), ("changes", changes), ("versions", versions)):
            argv += [f"--{name}", *map(str, numbers)]
        out = _Shown()
        code = node.shell.stream(argv, timeout=seconds + 60, out=out, cwd=PLACE)
    found = [Costs(**json.loads(line)) for line in out.getvalue().splitlines() if line.startswith("{")]
    yield from fastest(found)
    if code != 0:
        rest = [line for line in out.getvalue().splitlines() if not line.startswith("{")]
        raise SystemExit("\n".join(["the benchmark did not come to its end:", *rest, f"exit code {code}"]))


def fastest(found: Sequence[Costs]) -> list[Costs]:
    """Return of commits of one kind, which follow each other, the fastest."""
    kinds: list[list[Costs]] = []
    for costs in found:
        before = kinds[-1][-1] if kinds else None
        alike = before is not None and (before.files, before.changes, before.versions) == (
            costs.files,
            costs.changes,
            costs.versions - 1,
        )
        if alike:
            kinds[-1].append(costs)
        else:
            kinds.append([costs])
    return [min(kind, key=lambda costs: costs.total) for kind in kinds]


def row(costs: Costs, first: Costs) -> str:
    """Return a line of the table."""
    cells = [
        *(f"{number:,}" for number in (costs.files, costs.versions, costs.changes)),
        f"{costs.noted.get('processes run', costs.processes)}",
        *(f"{costs.calls[name]:,}" for name in ("zfs", "host", "trees")),
        f"{costs.looked_at:,}",
        f"{costs.read.get('manifest nodes', 0):,}",
        f"{costs.written.get('manifest nodes', 0):,}",
        f"{costs.written.get('history', 0):,}",
        f"{costs.noted['written']:,}" if "written" in costs.noted else "",
        f"{costs.total / first.total:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


HEAD = (
    "| files | versions | changes | processes | zfs | host | trees | looked at | nodes read | nodes written | history "
    "| on disk | time |"
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--guest", action="store_true")
    parser.add_argument("--files", type=int, nargs="*")
    parser.add_argument("--changes", type=int, nargs="*", default=CHANGES)
    parser.add_argument("--versions", type=int, nargs="*")
    parser.add_argument("--seconds", type=int, default=3600, help="how long the guest may take")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    files = options.files if options.files is not None else ALL_FILES if options.full else FILES
    versions = options.versions if options.versions is not None else ALL_VERSIONS if options.full else VERSIONS
    if options.guest:
        found = in_guest(files, options.changes, versions, options.seconds)
    else:
        found = on_model(files, options.changes, versions)
    print(HEAD)
    print("|" + " ---: |" * HEAD.count(" | ") + " ---: |")
    rows: list[Costs] = []
    for costs in found:
        rows.append(costs)
        print(row(costs, rows[0]), flush=True)
    if options.json:
        options.json.write_text(json.dumps([asdict(costs) for costs in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
