"""Long-running children of the lab: started, found again by their pid file, and ended by their own id only."""

import ctypes
import json
import os
import random
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError

# Linux ends a child with PR_SET_PDEATHSIG when the *thread* that forked it ends, so one thread forks them all and lives
# as long as the process does (prctl(2)).
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lab-spawner")
_PR_SET_PDEATHSIG = 1
# Below the range that outgoing connections take their ports from, so that a port stays ours over a restart.
_PORTS = range(20000, 32000)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on just now."""
    for port in random.sample(_PORTS, 200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise LabError(f"no free TCP port found between {_PORTS.start} and {_PORTS.stop} on 127.0.0.1")


def start_time(pid: int) -> int | None:
    """When the process began, in clock ticks since boot (proc_pid_stat(5), field 22); None when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    # A zombie is dead for every purpose here, once its last thread has ended: until then files and ports are held.
    return None if fields[0] in "ZX" and not _has_threads(pid) else int(fields[19])


def _has_threads(pid: int) -> bool:
    """Whether threads beside the first one have not ended."""
    try:
        return len(os.listdir(f"/proc/{pid}/task")) > 1  # noqa: PTH208  (names are enough)
    except (FileNotFoundError, ProcessLookupError):
        return False


@dataclass(frozen=True)
class Process:
    """A process that can't be mistaken for a later one with the same number."""

    pid: int
    started: int

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return start_time(self.pid) == self.started

    def send(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens when the process is gone."""
        if self.alive:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return

    def wait(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for its end; whether it ended."""
        deadline = time.monotonic() + timeout
        while self.alive:
            _reap(self.pid)
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        _reap(self.pid)
        return True

    def end(self, grace: float = 10) -> None:
        """SIGTERM, then SIGKILL after `grace` seconds; returns when it is gone."""
        self.send(signal.SIGTERM)
        if not self.wait(grace):
            self.kill()

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.send(signal.SIGKILL)
        if not self.wait(10):
            raise LabError(f"process {self.pid} does not die after SIGKILL; look at /proc/{self.pid}/stack")


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def spawn(argv: list[str], log: Path, pid_file: Path, *, tied: bool, cwd: Path | None = None) -> Process:
    """Start a child with its output appended to `log` and its identity in `pid_file`.

    `tied` children die with this process, however it dies (Linux); others stay, in a session of their own.
    """
    with log.open("ab") as out:
        child = _spawner.submit(
            subprocess.Popen,
            argv,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            start_new_session=True,
            preexec_fn=_die_with_parent if tied and os.uname().sysname == "Linux" else None,
        ).result()
    # From here on the child is known by its number and reaped by us; Popen's own finalizer would only warn.
    child.returncode = 0
    started = start_time(child.pid)
    process = Process(child.pid, started if started is not None else -1)
    pid_file.write_text(json.dumps({"pid": process.pid, "started": process.started, "program": argv[0]}) + "\n")
    return process


def recorded(pid_file: Path) -> Process | None:
    """The process that `pid_file` names, when it still runs."""
    try:
        content = json.loads(pid_file.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    process = Process(int(content["pid"]), int(content["started"]))
    return process if process.alive else None
