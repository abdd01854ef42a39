"""The first version of a repository of very many small files: how much memory the operator needs for it.

On a directory, as type xfs: the files are real, and the build is the same as on OpenZFS.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from blake3 import blake3

from benchmarks.commit.repositories import content, owning, path
from dsg.manifests.changes import Place, encode_change
from dsg.manifests.entries import FileState
from dsg.transactions.transactor import Done, Operation, Stopped, Transaction
from tests.transactions.ground import MTIME, Ground, XfsGround

MODE = 0o640
INIT = Transaction("first", Operation.INIT, "ana", "all of it", "")


def place_all(ground: Ground, files: int) -> None:
    """Send all files to a stage, as the data plane would; directly, as this is not what is measured."""
    place = ground.transactor.stage(ground.target, INIT)
    if isinstance(place, Stopped):
        raise RuntimeError(f"could not stage: {place.message}")  # noqa: TRY004  # no wrong argument
    whose, directory = owning(ground), Path(place)
    with (directory / "changes").open("wb") as changes:
        for number in range(files):
            data = content(number)
            digest = blake3(data).hexdigest()
            (directory / digest).write_bytes(data)
            os.chown(directory / digest, whose.uid, whose.gid)
            changes.write(encode_change(Place(FileState(path(number), len(data), MTIME, MODE, digest))))


def build(folder: Path, files: int) -> None:
    """Build and commit what was sent in this process; print bytes and seconds."""
    ground = XfsGround(folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    began = time.perf_counter()
    built = ground.transactor.build(ground.target, INIT)
    if built is not None:
        raise RuntimeError(f"could not build: {built}")
    done = ground.transactor.commit(ground.target, INIT)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if not isinstance(done, Done) or done.header is None or done.header.summary.entries != files:
        raise RuntimeError(f"could not commit: {done}")
    print(json.dumps({"files": files, "before": before, "peak": peak, "seconds": seconds}))


def run(files: int, within: Path | None = None) -> dict[str, float]:
    """Send files in this process and build the version in another; return its figures in bytes and seconds."""
    with tempfile.TemporaryDirectory(dir=within) as folder:
        place_all(XfsGround(Path(folder)), files)
        argv = [sys.executable, "-m", "benchmarks.commit.memory", "--build", folder, "--files", str(files)]
        done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Print peak memory for each number of files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, nargs="+", default=[1_000, 1_000_000])
    parser.add_argument("--within", type=Path, help="a directory of a file system with room for as many files")
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.build:
        build(options.build, options.files[0])
        return
    for files in options.files:
        found = run(files, options.within)
        print(
            f"{files:>9,} files: peak {found['peak'] / 2**20:.0f} MiB, {found['before'] / 2**20:.0f} of them before it "
            f"began; {found['seconds'] / files * 1e6:.0f} µs for each file",
            flush=True,
        )


if __name__ == "__main__":
    main()
