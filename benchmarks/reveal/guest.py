"""The part that runs on a storage node: as root, with a pool and nothing to lose below /srv/reveal.

    python -m benchmarks.reveal.guest --pool tank [--switches 1000]

Prints one JSON object in each line: a technique's counts and milliseconds, as soon as they are there.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path

from benchmarks.reveal import kernel
from benchmarks.reveal.readers import READERS, Reader, by_root, furnish, processes
from benchmarks.reveal.techniques import TECHNIQUES, Beneath, Link, Technique, unmount_below

BASE = "/srv/reveal"
PUBLIC = f"{BASE}/justice"
GENERATIONS = (f"{BASE}/.justice/g1", f"{BASE}/.justice/g2")
Figures = dict[str, object]


def run(*argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command."""
    return subprocess.run(argv, check=check, capture_output=True, text=True, timeout=120)


@contextmanager
def mounted(pool: str) -> Iterator[list[str]]:
    """Make two generations and mount them read-only; yields their datasets."""
    datasets = [f"{pool}/reveal/{Path(directory).name}" for directory in GENERATIONS]
    run("zfs", "create", "-u", "-o", "mountpoint=legacy", "-o", "atime=off", f"{pool}/reveal")
    try:
        for number, (dataset, directory) in enumerate(zip(datasets, GENERATIONS, strict=True), 1):
            run("zfs", "create", "-u", dataset)
            Path(directory).mkdir(parents=True)
            run("mount", "-t", "zfs", "-o", "nodev,nosuid", dataset, directory)
            furnish(directory, str(number))
            run("mount", "-t", "zfs", "-o", "remount,ro,nodev,nosuid", dataset, directory)
        yield datasets
    finally:
        for directory in GENERATIONS:
            run("umount", "-l", directory, check=False)
        run("zfs", "destroy", "-r", f"{pool}/reveal")
        run("rm", "-rf", "--one-file-system", BASE)


def measure(technique: Technique, switches: int) -> Figures:
    """Switch under all readers at once and return what they and the switches came to."""
    technique.show(GENERATIONS[0])
    readers = [Reader(name, PUBLIC, loop()) for name, loop in READERS.items()]
    readers.append(Reader("slave namespace", PUBLIC, by_root, slave=True))
    times = []
    for reader in readers:
        reader.begin()
    try:
        for number in range(1, switches + 1):
            began = time.perf_counter()
            technique.switch(GENERATIONS[number % 2])
            times.append(time.perf_counter() - began)
            # Readers get their turn: a node switches when somebody commits, not as fast as it can.
            time.sleep(0.002)
        time.sleep(0.2)
    finally:
        counted = {reader.name: reader.end() for reader in readers}
    left = technique.left_over()
    alone = []
    for number in range(1, min(switches, 200) + 1):
        began = time.perf_counter()
        technique.switch(GENERATIONS[number % 2])
        alone.append(time.perf_counter() - began)
    technique.remove()
    return {
        "readers": counted,
        "milliseconds": {"under readers": _times(times), "alone": _times(alone)},
        "left over": left,
        "noted": dict(technique.noted),
    }


def _times(seconds: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(seconds, n=100)
    return {"median": round(1000 * statistics.median(seconds), 3), "99%": round(1000 * cuts[98], 3)}


def said(*argv: str) -> str:
    """Return how a command ended, in a word."""
    done = run(*argv, check=False)
    if done.returncode == 0:
        return "done"
    return "busy" if "busy" in done.stderr else done.stderr.strip()


def working_directory(technique: Technique, datasets: list[str]) -> Figures:
    """Return what somebody with a working directory in the old generation does to its removal."""
    technique.show(GENERATIONS[0])
    shell = subprocess.Popen(["sleep", "600"], cwd=PUBLIC)
    technique.switch(GENERATIONS[1])
    found: Figures = {"umount": said("umount", GENERATIONS[0]), "zfs destroy": said("zfs", "destroy", datasets[0])}
    found["it still reads"] = f"generation {sees(f'/proc/{shell.pid}/cwd')}"
    shell.kill()
    shell.wait()
    found["zfs destroy when it has ended"] = said("zfs", "destroy", datasets[0])
    technique.remove()
    return found


def pod(technique: Technique, datasets: list[str]) -> Figures:
    """Return what a pod does that mounted the public path itself, instead of the directory above."""
    target = f"{BASE}/in-pod"
    Path(target).mkdir()
    technique.show(GENERATIONS[0])
    ready = processes.Event()
    process = processes.Process(target=_pinned, args=(target, ready))
    process.start()
    if not ready.wait(60):
        raise TimeoutError("the pod did not begin")
    pid = process.pid
    found: Figures = {"before the switch it reads": f"generation {sees(f'/proc/{pid}/root{target}')}"}
    technique.switch(GENERATIONS[1])
    found["after the switch it reads"] = f"generation {sees(f'/proc/{pid}/root{target}')}"
    found["umount"] = said("umount", GENERATIONS[0])
    found["zfs destroy"] = said("zfs", "destroy", datasets[0])
    found["then it reads"] = f"generation {sees(f'/proc/{pid}/root{target}')}"
    process.kill()
    process.join()
    technique.remove()
    return found


def _pinned(target: str, ready: Event) -> None:
    """Bind the public path to a place of a slave namespace's own, as a runtime does for a pod, and wait."""
    kernel.own_namespace(kernel.MS_SLAVE)
    kernel.bind(PUBLIC, target, recursive=True)
    ready.set()
    signal.pause()


def sees(directory: str) -> str:
    """Return which generation is found in a directory."""
    try:
        return Path(directory, "a").read_text()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "?")


def tell(name: str, figures: object) -> None:
    """Print one line."""
    print(json.dumps({name: figures}), flush=True)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", required=True)
    parser.add_argument("--switches", type=int, default=1000)
    options = parser.parse_args()
    tell("kernel", os.uname().release)
    tell("switches", options.switches)
    for kind in TECHNIQUES:
        with mounted(options.pool):
            tell(kind.name, measure(kind(PUBLIC), options.switches))
    with mounted(options.pool):
        tell("unmounting the lower of two stacked mounts", unmount_below(f"{BASE}/stack", *GENERATIONS))
    for holding in (Link, Beneath):
        with mounted(options.pool) as datasets:
            tell(f"{holding.name}: a working directory in the old one", working_directory(holding(PUBLIC), datasets))
        with mounted(options.pool) as datasets:
            tell(f"{holding.name}: a pod that mounted the public path", pod(holding(PUBLIC), datasets))


if __name__ == "__main__":
    main()
