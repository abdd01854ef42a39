"""What the data plane can no longer do once it serves: as the kernel says, not as the filter is written."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests.transfer.test_process import at, start

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in {"x86_64", "aarch64"},
    reason="the filter is for Linux on x86-64 and arm64",
)

# Opens a file by its handle, runs a program, and opens a file by path; says which of them it could, before and after.
ATTEMPTS = """
import ctypes, errno, os, subprocess, sys, threading
from dsg.transfer.server.confinement import confine

libc = ctypes.CDLL(None, use_errno=True)
directory, name = sys.argv[1:]

class Handle(ctypes.Structure):
    _fields_ = (("bytes", ctypes.c_uint), ("type", ctypes.c_int), ("data", ctypes.c_ubyte * 128))

def by_handle():
    handle, mount = Handle(bytes=128), ctypes.c_int()
    path = os.fsencode(os.path.join(directory, name))
    if libc.name_to_handle_at(-100, path, ctypes.byref(handle), ctypes.byref(mount), 0) != 0:
        return "unsupported"
    where = os.open(directory, os.O_RDONLY)
    opened = libc.open_by_handle_at(where, ctypes.byref(handle), os.O_RDONLY)
    return os.read(opened, 100).decode() if opened >= 0 else errno.errorcode[ctypes.get_errno()]

def program():
    try:
        return subprocess.run(["true"], check=True).returncode
    except OSError as error:
        return errno.errorcode[error.errno]

go, said = threading.Event(), []
older = threading.Thread(target=lambda: (go.wait(), said.append(by_handle())))
older.start()
print(by_handle(), program())
assert confine()
go.set()
older.join()
print(by_handle(), program(), said[0], open(os.path.join(directory, name)).read())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may open files by handle at all")
def test_no_file_by_handle_and_no_program(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("said")
    argv = [sys.executable, "-c", ATTEMPTS, str(tmp_path), "file"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    before, after = done.stdout.splitlines()
    if before.startswith(("unsupported", "EPERM")):
        pytest.skip("nobody opens files by handle on this file system, or in this container")
    assert before == "said 0"
    assert after == "EPERM EPERM EPERM said"


def test_the_server_is_confined(tmp_path: Path) -> None:
    process = start(tmp_path)
    try:
        at(process, tmp_path)
        status = Path(f"/proc/{process.pid}/status").read_text()
    finally:
        process.kill()
    said = dict(line.split(":", 1) for line in status.splitlines())
    assert said["NoNewPrivs"].strip() == "1"
    assert said["Seccomp"].strip() == "2"
