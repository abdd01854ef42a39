"""The tests on the real parts: `python -m lab.tier`.

A cluster's tests wait for much of their time: for a lease to run out, a watch, a boot. What needs neither a cluster nor
a guest of its own for long runs beside them, and gives way. Tests inside nodes come afterwards, two nodes at a time:
their emulated processors want all there is, and beside them everything takes so long that nothing is gained.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

from lab.paths import TREE
from lab.processes import give_way
from lab.progress import duration, say

_CLUSTER, _NODES = "tests/e2e", "tests/onzfs"
_NICE = 15
_PYTEST = ("-m", "pytest", "-p", "no:cacheprovider", "-v", "--tb=short", "--durations=25")


@dataclass
class Part:
    """One pytest, whose lines are shown with its name before them."""

    name: str
    arguments: tuple[str, ...]
    nice: int = 0
    process: subprocess.Popen[str] | None = None
    began: float = field(default_factory=time.monotonic)

    def start(self) -> threading.Thread:
        """Begin; the thread ends with it."""
        self.process = subprocess.Popen(
            [sys.executable, *_PYTEST, *self.arguments],
            cwd=TREE,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={"DSG_LOT": "1", **os.environ, "PYTHONUNBUFFERED": "1", "DSG_TELL_AT_ONCE": "1"},
            start_new_session=True,
        )
        os.setpriority(os.PRIO_PROCESS, self.process.pid, self.nice)
        give_way(self.process.pid, self.nice)
        shown = threading.Thread(target=self._show)
        shown.start()
        return shown

    def _show(self) -> None:
        assert self.process is not None and self.process.stdout is not None
        for line in self.process.stdout:
            passed = int(time.monotonic() - self.began)
            print(f"{passed // 60:3}:{passed % 60:02} {self.name:7} | {line}", end="", flush=True)
        self.process.wait()

    @property
    def code(self) -> int | None:
        """How pytest ended; None before."""
        return self.process.returncode if self.process is not None else None

    def stop(self) -> None:
        """End it before its time, as Ctrl-C would, so that it takes its lab with it."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)


def parts() -> tuple[Part, Part, Part]:
    """The cluster's tests, the rest beside them, which gives way, and after both the tests inside nodes."""
    folders = {f"tests/{file.parent.name}" for file in TREE.glob("tests/*/test_*.py")} - {_CLUSTER, _NODES}
    spread = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")
    return (
        Part("cluster", (_CLUSTER,)),
        Part("rest", ("-m", "kube or zfs or lab", *sorted(folders)), nice=_NICE),
        Part("nodes", (_NODES, *spread)),
    )


def main() -> int:
    """Run all; the exit code is 0 when all tests passed."""
    begin = time.monotonic()
    cluster, rest, nodes = every = parts()
    stopped = threading.Event()

    def stop(_number: int, _frame: object) -> None:
        stopped.set()
        for part in every:
            part.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    say("tests on the real parts, the cluster's and the rest side by side (about 45 minutes on two processors)")
    for thread in [part.start() for part in (cluster, rest)]:
        thread.join()
    if not stopped.is_set():
        say("tests inside two storage nodes (about 15 minutes)")
        nodes.start().join()
    codes = {part.name: part.code for part in every}
    say(f"all have ended after {duration(time.monotonic() - begin)}; exit codes of pytest: {codes}")
    return 0 if set(codes.values()) == {0} else 1


if __name__ == "__main__":
    sys.exit(main())
