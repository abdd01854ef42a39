"""Children are found again by identity, not by number, and tied ones never outlive their parent."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.processes import Process, free_port, recorded, spawn, start_time


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Process]:
    process = spawn(["sleep", "60"], tmp_path / "log", tmp_path / "pid", tied=True)
    yield process
    process.kill()


def test_a_child_is_found_by_its_file_until_it_ends(sleeper: Process, tmp_path: Path) -> None:
    assert recorded(tmp_path / "pid") == sleeper
    sleeper.end()
    assert not sleeper.alive
    assert recorded(tmp_path / "pid") is None


def test_a_later_process_of_the_same_number_is_not_taken_for_it(sleeper: Process, tmp_path: Path) -> None:
    content = json.loads((tmp_path / "pid").read_text())
    (tmp_path / "pid").write_text(json.dumps(content | {"started": content["started"] - 1}))
    assert recorded(tmp_path / "pid") is None
    Process(sleeper.pid, sleeper.started - 1).send(signal.SIGKILL)
    assert sleeper.alive


def test_a_process_is_alive_until_its_last_thread_has_ended(tmp_path: Path) -> None:
    code = (
        "import ctypes, platform, threading, time\n"
        "threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "ctypes.CDLL(None).syscall({'x86_64': 60, 'aarch64': 93}[platform.machine()], 0)\n"
    )
    process = spawn([sys.executable, "-c", code], tmp_path / "log", tmp_path / "pid", tied=True)
    stat = Path(f"/proc/{process.pid}/stat")
    deadline = time.monotonic() + 60
    while stat.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline
    assert process.alive
    process.kill()
    assert not process.alive


@pytest.mark.parametrize("content", ["", "{", None])
def test_no_file_or_a_half_written_one_means_nothing_runs(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "pid").write_text(content)
    assert recorded(tmp_path / "pid") is None


def test_one_that_ignores_the_term_signal_is_killed_after_its_grace(tmp_path: Path) -> None:
    argv = ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done"]
    process = spawn(argv, tmp_path / "log", tmp_path / "pid", tied=True)
    while "up" not in (tmp_path / "log").read_text():
        time.sleep(0.01)
    process.end(grace=0.2)
    assert not process.alive


@pytest.mark.parametrize("tied", [True, False])
def test_only_a_tied_child_dies_with_its_parent(tmp_path: Path, tied: bool) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from lab.processes import spawn; here = Path(sys.argv[1]);"
        f"spawn(['sleep', '60'], here / 'log', here / 'pid', tied={tied});"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False, timeout=30)
    content = json.loads((tmp_path / "pid").read_text())
    child = Process(content["pid"], content["started"])
    if tied:
        deadline = time.monotonic() + 5
        while child.alive and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not child.alive
    else:
        assert child.alive
        child.kill()


def test_a_process_that_is_gone_has_no_start_time(sleeper: Process) -> None:
    assert start_time(sleeper.pid) == sleeper.started
    sleeper.kill()
    assert start_time(sleeper.pid) is None


def test_a_free_port_can_be_bound() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", free_port()))
