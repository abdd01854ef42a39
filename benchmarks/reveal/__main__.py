"""Run the benchmark in a storage-node guest and print what came of it."""

from __future__ import annotations

import argparse
import io
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lab.node import PYTHON, StorageNode, pack_tests

POOL = "reveal"
PLACE = "/root/benchmark"
HEALTHY = ("generation ", "loops", "open file read", "straddled", "mounts left", "at the end")


def in_guest(node: StorageNode, switches: int) -> dict[str, Any]:
    """Run it on a node and return its figures."""
    node.create_pool(POOL)
    node.install()
    node.shell.unpack(pack_tests(["benchmarks/reveal"]), PLACE)
    out = io.StringIO()
    argv = ["timeout", "3600", PYTHON, "-m", "benchmarks.reveal.guest", "--pool", POOL, "--switches", str(switches)]
    code = node.shell.stream(argv, timeout=3700, out=out, cwd=PLACE)
    lines = out.getvalue().splitlines()
    if code != 0 or not lines:
        raise SystemExit(f"the benchmark ended with exit code {code}:\n{out.getvalue()}")
    return parse(lines)


def parse(lines: Iterable[str]) -> dict[str, Any]:
    """Return the figures that were printed, by technique."""
    found: dict[str, Any] = {}
    for line in lines:
        if line.startswith("{"):
            found |= json.loads(line)
    return found


def show(figures: dict[str, Any]) -> None:
    """Print one line for each technique and each reader."""
    print(f"Linux {figures['kernel']}, {figures['switches']} switches for each technique")
    for name, found in figures.items():
        if not isinstance(found, dict):
            continue
        print(f"\n{name}")
        if "readers" not in found:
            for what, answer in found.items():
                print(f"  {what}: {answer}")
            continue
        for when, times in found["milliseconds"].items():
            print(f"  a switch {when}: {times['median']} ms (99 in 100 below {times['99%']} ms)")
        print(f"  mounts left over: {found['left over']}", *(f"; {k}: {v}" for k, v in found["noted"].items()))
        for reader, counted in found["readers"].items():
            wrong = {what: count for what, count in counted.items() if not what.startswith(HEALTHY)}
            extra = {what: count for what, count in counted.items() if what.startswith(("straddled", "mounts", "at "))}
            print(f"  {reader}: {counted['loops']} loops, wrong: {wrong or 'nothing'}", extra or "")
    below = "unmounting the lower of two stacked mounts"
    if below in figures:
        print(f"\n{below}: {figures[below]}")


def main() -> None:
    """Start a guest, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--switches", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, StorageNode(Path(directory) / "node", "node-r") as node:
        figures = in_guest(node, options.switches)
    show(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
