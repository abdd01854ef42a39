"""A researcher's commands as they are run, beside rsync: nothing changed in many files, and all renamed.

Everything is a process, as in `make demo`: an embedded API, operator, data plane, kubectl and the plugin; storage of
type xfs on this disk. `rsync -an --delete` compares two directories by size and time, as rsync does by default; over
ssh to this machine, as it would be with a server, and between two directories. Each time is the least of several
rounds; seconds depend on the machine, ratios within one run tell something.

    python -m benchmarks.day [--files 200000] [--rounds 3] [--directory DIR] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.scan import make
from benchmarks.transfer import processor_time, ssh
from demo import specs
from demo.specs import REPOSITORY
from demo.state import NAMESPACE, State
from demo.world import LocalWorld

USER = "alice"
SETTLED = 61.0
"""Seconds after which a scan trusts times of files (`dsg.scan.cache.YOUNG`)."""


def timed(rounds: int, run: Callable[[], Any]) -> dict[str, float]:
    """Return the least seconds of several rounds, with that round's CPU seconds and the largest memory (MiB) so far."""
    best: dict[str, float] = {}
    for _ in range(rounds):
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        run()
        wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        if not best or wall < best["seconds"]:
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            best = {"seconds": wall, "cpu": cpu, "memory": after.ru_maxrss / 1024}
    return best


class Day:
    """One repository, and the working copy of its author."""

    def __init__(self, world: LocalWorld) -> None:
        self._world = world
        self.desk = world.desk(USER)

    def begin(self) -> None:
        """Start everything, and have the Repository ready."""
        world = self._world
        world.open()
        names = []
        for name, obj in (
            ("namespace.yaml", specs.NAMESPACE_SPEC),
            ("storagepool.yaml", specs.pool(world)),
            ("repository.yaml", specs.repository(world)),
        ):
            (world.directory / name).write_text(specs.text(obj))
            names.append(name)
        namespace = str(Path(__file__).parents[1] / "manifests" / "base" / "namespace.yaml")
        done = world.run(("kubectl", "apply", "-f", namespace, *(f"--filename={name}" for name in names)))
        if done.code:
            raise SystemExit(done.text)
        world.start_data_plane()
        world.start_operator()
        State(world).wait_reason(REPOSITORY, "Reconciled")

    def dsg(self, *args: str) -> Any:
        """Run a command and return what it says in JSON."""
        done = subprocess.run(
            ["kubectl", "dsg", *args, "-o", "json"],
            cwd=self.desk,
            env=self._world.environment(USER),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"kubectl dsg {' '.join(args)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return json.loads(done.stdout)

    def settled(self, version: str) -> None:
        """Wait until the Repository says that it has a version."""
        State(self._world).wait_head(REPOSITORY, version)


def measure(day: Day, files: int, rounds: int) -> dict[str, Any]:
    """Return what was measured."""
    say("making files")
    make(day.desk, files)
    made = time.monotonic()
    say("the first version")
    began = time.monotonic()
    first = day.dsg("init", REPOSITORY, "-n", NAMESPACE, "-m", "first")
    found: dict[str, Any] = {"files": files, "first": {"seconds": time.monotonic() - began, "said": first["sent"]}}
    day.settled("s1")
    copy = day.desk.parent / "copy"
    subprocess.run(["rsync", "-a", f"{day.desk}/input/", f"{copy}/"], check=True)
    compare = ["rsync", "-an", "--delete", f"{day.desk}/input/", f"{copy}/"]
    say("nothing has changed")
    # The first of each fills caches, of the kernel and of the working copy; times must be a minute old to be trusted.
    time.sleep(max(0.0, SETTLED - (time.monotonic() - made)))
    day.dsg("status")
    found["rsync -an"] = timed(rounds, lambda: subprocess.run(compare, check=True))
    with tempfile.TemporaryDirectory() as folder, ssh(Path(folder), None) as over:
        if over is None:
            raise SystemExit("sshd or ssh is missing: apt-get install openssh-server openssh-client")
        remote = [*compare[:3], "-e", over.shell, compare[3], f"127.0.0.1:{compare[4]}"]
        server = processor_time(over.server)
        found["rsync -an, ssh"] = timed(rounds, lambda: subprocess.run(remote, check=True))
        time.sleep(0.5)
        found["rsync -an, ssh"]["there"] = (processor_time(over.server) - server) / rounds
    found["status"] = timed(rounds, lambda: day.dsg("status"))
    found["sync"] = timed(rounds, lambda: day.dsg("sync"))
    say("a folder with all files is renamed")
    count = _count(day.desk / "input")
    (day.desk / "input").rename(day.desk / "output")
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    renamed = day.dsg("sync", "-m", "renamed")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found["rename"] = {
        "files": count,
        "seconds": time.monotonic() - began,
        "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "sent": renamed["sent"],
    }
    return found


def _count(folder: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(folder))


def say(text: str) -> None:
    """Tell how far it is."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if shutil.which("rsync") is None:
        raise SystemExit("rsync is missing: apt-get install rsync")
    directory = Path(tempfile.mkdtemp(prefix="dsg-day-", dir=args.directory))
    try:
        with LocalWorld(directory) as world:
            day = Day(world)
            day.desk.mkdir(parents=True)
            day.begin()
            found = measure(day, args.files, args.rounds)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if args.json is not None:
        args.json.write_text(json.dumps(found, indent=2))
    base = found["rsync -an, ssh"]["seconds"]
    for name in ("rsync -an", "rsync -an, ssh", "status", "sync"):
        one = found[name]
        there = f" + {one['there']:.2f}" if "there" in one else ""
        print(
            f"{name:<15} {one['seconds']:7.2f} s  {one['seconds'] / base:5.2f} of rsync over ssh  "
            f"{one['cpu']:7.2f}{there} s CPU  {one['memory']:6.0f} MiB"
        )
    rename = found["rename"]
    cost = f"{rename['seconds']:.1f} s, {rename['cpu']:.1f} s CPU"
    print(f"rename of {rename['files']} files: {rename['sent']} sent, {cost}")
    print(f"first version of {found['files']} files: {found['first']['seconds']:.1f} s")


if __name__ == "__main__":
    main()
