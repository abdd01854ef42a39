"""Programs of the operating system that the lab needs: found, or installed from Debian packages when we are root."""

import os
import shutil
import subprocess
from collections.abc import Mapping

from lab.errors import LabError
from lab.progress import stage

_APT_TIMEOUT = 900
SEARCH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])
"""PATH, and the folders where Debian keeps what only root's PATH has."""


def find(program: str) -> str | None:
    """Path of a program on PATH or in the system's sbin folders; None when it is nowhere."""
    return shutil.which(program, path=SEARCH)


def ensure_tools(tools: Mapping[str, str]) -> None:
    """Make sure that programs are there: `tools` maps each program to the Debian package that has it.

    Installs what is missing with apt-get as root; else raises `LabError` with the command that would.
    """
    missing = sorted({package for program, package in tools.items() if find(program) is None})
    if not missing:
        return
    command = f"apt-get install --no-install-recommends {' '.join(missing)}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise LabError(f"the lab needs programs that this machine lacks. As root on Debian: {command}")
    with stage(f"installing Debian packages: {', '.join(missing)}", "about a minute"):
        _apt("update", "--quiet=2")
        _apt("install", "--yes", "--quiet=2", "--no-install-recommends", *missing)
    still = [program for program in tools if find(program) is None]
    if still:
        raise LabError(f"installed {', '.join(missing)}, and still there is no {', '.join(still)} on PATH")


def _apt(*args: str) -> None:
    argv = ["apt-get", *args]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=_APT_TIMEOUT, check=False)
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{' '.join(argv)} did not end within {_APT_TIMEOUT} s; run it by hand and look") from error
    if done.returncode != 0:
        raise LabError(f"{' '.join(argv)} failed with exit code {done.returncode}:\n{done.stderr.strip()}")
