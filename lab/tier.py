"""The tests on the real parts: `python -m lab.tier`.

Three parts, one after the other, since beside emulated processors everything takes so long that bounds are missed and
nothing is gained: what needs no guest for long, tests of a whole cluster, and tests inside nodes, two nodes at a time.
What is left to lots (tests/lots.py) begins only in the part's first minutes; what must run, runs however long it takes.
"""

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field

from lab.paths import TREE
from lab.progress import duration, say

_CLUSTER, _NODES = "tests/e2e", "tests/onzfs"
_MINUTES = 36.0
_SHARES = {"cluster": 0.7, "nodes": 0.3}
"""What of the time is whose, after which nothing that is left to lots begins."""
_WHY, _FAILED = re.compile(r"E  "), re.compile(r"(FAILED|ERROR) ")
_MOST_TOLD = 40
_PYTEST = ("-m", "pytest", "-p", "no:cacheprovider", "-v", "--tb=short", "--durations=25")


@dataclass
class Part:
    """One pytest, whose lines are shown with its name before them."""

    name: str
    arguments: tuple[str, ...]
    minutes: float = 0.0
    """What is left to lots begins in so many minutes only."""
    process: subprocess.Popen[str] | None = None
    why: deque[str] = field(default_factory=lambda: deque(maxlen=_MOST_TOLD))
    """The last lines that say why something failed."""
    failed: deque[str] = field(default_factory=lambda: deque(maxlen=_MOST_TOLD))
    """Those that name what failed."""

    def start(self) -> threading.Thread:
        """Begin; the thread ends with it."""
        lots = {
            "DSG_LOT_UNTIL": str(time.time() + self.minutes * 60),
            "DSG_LOT_SEED": str(random.SystemRandom().randrange(1 << 30)),
        }
        self.process = subprocess.Popen(
            [sys.executable, *_PYTEST, *self.arguments],
            cwd=TREE,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**lots, **os.environ, "PYTHONUNBUFFERED": "1", "DSG_TELL_AT_ONCE": "1"},
            start_new_session=True,
        )
        shown = threading.Thread(target=self._show)
        shown.start()
        return shown

    def _show(self) -> None:
        assert self.process is not None and self.process.stdout is not None
        began = time.monotonic()
        for line in self.process.stdout:
            for pattern, lines in ((_WHY, self.why), (_FAILED, self.failed)):
                if pattern.match(line):
                    lines.append(line)
            passed = int(time.monotonic() - began)
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


def parts(minutes: float) -> tuple[Part, ...]:
    """What to run, in that order; `minutes` are for what is left to lots, and what must run comes out of them first."""
    folders = {f"tests/{file.parent.name}" for file in TREE.glob("tests/*/test_*.py")} - {_CLUSTER, _NODES}
    spread = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")
    shares = {name: minutes * share for name, share in _SHARES.items()}
    return (
        Part("rest", ("-m", "kube or zfs or lab", *sorted(folders), *spread)),
        Part("cluster", (_CLUSTER,), shares["cluster"]),
        Part("nodes", (_NODES, *spread), shares["nodes"]),
    )


def main() -> int:
    """Run all; the exit code is 0 when all tests passed."""
    parser = argparse.ArgumentParser(prog="python -m lab.tier", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=_MINUTES, help="begin what is left to lots in these only")
    begin, every = time.monotonic(), parts(parser.parse_args().minutes)
    stopped = threading.Event()

    def stop(_number: int, _frame: object) -> None:
        stopped.set()
        for part in every:
            part.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    for part in every:
        if not stopped.is_set():
            say(f"tests on the real parts: {part.name}, {duration(time.monotonic() - begin)} after the beginning")
            part.start().join()
    codes = {part.name: part.code for part in every}
    say(f"all have ended after {duration(time.monotonic() - begin)}; exit codes of pytest: {codes}")
    # Names come last, where they are seen also by who sees only the end.
    why = [f"{part.name} | {line}" for part in every for line in part.why]
    failed = [f"{part.name} | {line}" for part in every for line in part.failed]
    print("".join(why + failed), end="", flush=True)
    return 0 if set(codes.values()) == {0} else 1


if __name__ == "__main__":
    sys.exit(main())
