"""A sync's length does not show in memory, but for what is renamed."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import re
from datetime import UTC, datetime
from pathlib import Path
from dsg.manifests.digest import Summary
from dsg.manifests.entries import File, FileState
from dsg.manifests.header import Commit, Header
from dsg.sync.names import collisions
from dsg.sync.plan import plan
from dsg.sync.sides import Sides, Version, WorkingCopy

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

def entries(side):
    for number in range(COUNT):
        renamed = number % 4 == 0
        top = "b" if renamed and side == "L" else "a"
        changed = (side == "L" and number % 4 == 1) or (side == "R" and number % 4 == 2)
        yield top, (f"{top}/{number:08}/transcript.json", 1, number, 0o644, f"{2 * number + changed:016x}" * 4)

def local():
    for top in "ab":
        yield from (FileState(*values) for one, values in entries("L") if one == top)

def version(name, side):
    commit = Commit(name, "0" * 64, "ana", datetime(2026, 1, 31, tzinfo=UTC), "", "t")
    header = Header(commit, Summary(COUNT, COUNT, "1" * 64, "2" * 64))
    return Version(header, lambda: (File(*values, "ana", "s1") for _, values in entries(side)))

COUNT = 20_000
before = peak()
made = plan(Sides(WorkingCopy(COUNT, local), version("s2", "C"), version("s3", "R")))
changes = sum(1 for _ in made.changes())
sourced = sum(1 for change in made.changes() if getattr(change, "source", None))
operations = sum(1 for _ in made.operations())
assert not list(collisions(lambda: (state.path for state in local())))
print(changes, sourced, operations, peak() - before)
"""


def test_planning_holds_no_side_in_memory() -> None:
    """As objects, three sides of 20,000 entries take some 30 MB."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True, timeout=120)
    changes, sourced, operations, peak = map(int, done.stdout.split())
    assert (changes, sourced, operations) == (15_000, 5_000, 5_000)
    assert peak < 6 * 2**20
