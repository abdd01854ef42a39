"""A manifest's length does not show in memory. benchmarks/manifests.py measures up to a million entries."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import re, sys, tempfile
from datetime import UTC, datetime
from pathlib import Path
from dsg.manifests.codec import Reader, write
from dsg.manifests.compare import attribute
from dsg.manifests.entries import File
from dsg.manifests.header import Commit
from dsg.manifests.ordering import sort

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

def commit(version):
    return Commit(version, None, "ana", datetime(2026, 1, 31, tzinfo=UTC), "", "t")

def entries(size):
    for number in range(COUNT - 1, -1, -1):
        yield File(f"input/{number:08}/transcript.json", size, number, 0o644, f"{number:064x}", "ana", "s1")

COUNT = 30_000
before = peak()
with tempfile.TemporaryFile() as one, tempfile.TemporaryFile() as two:
    write(one, commit("s1"), sort(entries(1), run=3000))
    one.seek(0)
    reader = Reader(one, "s1")
    header = write(two, commit("s2"), attribute(reader, sort(entries(2), run=3000), "bo", "s2"))
print(header.summary.size, peak() - before)
"""


def test_sorting_writing_reading_and_comparing_hold_no_manifest_in_memory() -> None:
    """As objects, these 30,000 entries take 14 MB, and two manifests are at work at once."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True, timeout=120)
    size, peak = map(int, done.stdout.split())
    assert size == 60_000
    assert peak < 9 * 2**20


TREES = """
import re, tempfile
from pathlib import Path
from dsg.manifests.changes import FileState, Gone, Place, encode_change, read_changes
from dsg.manifests.entries import File
from dsg.manifests.tree import Put, Remove, build, differences, update, verify

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

class Nodes:
    def get(self, digest):
        return (folder / digest).read_bytes()
    def put(self, digest, raw):
        (folder / digest).write_bytes(raw)

def entries(size):
    for number in range(COUNT):
        yield File(f"input/{number:08}/transcript.json", size, number, 0o644, f"{number:064x}", "ana", "s1")

def lines():
    for entry in entries(2):
        if entry.mtime % 7 == 0:
            yield encode_change(Gone(entry.path))
        elif entry.mtime % 7 < 3:
            yield encode_change(Place(FileState(entry.path, 2, entry.mtime, 0o600, entry.digest)))

def changes():
    for change in read_changes(lines(), "the list"):
        yield Put(change.signed("bo", "s2")) if isinstance(change, Place) else Remove(change.path)

COUNT = 30_000
with tempfile.TemporaryDirectory() as name:
    folder, nodes = Path(name), Nodes()
    before = peak()
    one = build(entries(1), nodes.put)
    two = update(nodes, one, changes(), nodes.put).summary
    verify(nodes, two)
    found = sum(1 for _ in differences(nodes, one, nodes, two))
print(two.entries, found, peak() - before)
"""


def test_trees_are_built_changed_and_compared_in_the_memory_of_a_few_nodes() -> None:
    """Three entries in seven change, so every node does."""
    done = subprocess.run([sys.executable, "-c", TREES], check=True, capture_output=True, text=True, timeout=120)
    count, found, peak = map(int, done.stdout.split())
    assert count == 30_000 - 4286
    assert found == 4286 * 3
    assert peak < 6 * 2**20
