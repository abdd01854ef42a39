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
    return Commit(version, None, "ana", datetime(2026, 1, 31, tzinfo=UTC), "")

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
