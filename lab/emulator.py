"""QEMU itself: which program emulates the storage nodes, and where it comes from.

The version matters more than anything else that can be set. In the guest of Debian trixie a round of `zfs get` and
`zpool status` took 4.7 s under QEMU 7.2 and 1.7 s under QEMU 10.0 on the same two processors, starting processes a
quarter of the time.
"""

import functools
import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lab import cache, system
from lab.errors import LabError
from lab.paths import RECIPES
from lab.progress import say

_PROGRAM = "qemu-system-x86_64"
_QUICK = 10
"""The first major version that is quick enough to look no further."""
_BUILD_TOOLS = {"debootstrap": "debootstrap"}
_BUILD_TIMEOUT = 1800
_LIBRARIES = ("usr/lib/x86_64-linux-gnu", "usr/lib")
_FIRMWARE = ("usr/share/qemu", "usr/share/seabios")


@dataclass(frozen=True, slots=True)
class Emulator:
    """A QEMU: how its command begins, and what it says its version is."""

    argv: tuple[str, ...]
    version: str

    @property
    def major(self) -> int:
        """The first number of the version. Raises `LabError` when it names none."""
        if (number := re.search(r"version (\d+)\.", self.version)) is None:
            raise LabError(f"{self.argv[0]} does not tell its version: {self.version!r}")
        return int(number.group(1))


def _asked(*argv: str) -> Emulator:
    said = subprocess.run([*argv, "--version"], capture_output=True, text=True, check=False, timeout=30)
    if said.returncode != 0:
        raise LabError(f"{argv[0]} --version failed with exit code {said.returncode}: {said.stderr.strip()}")
    return Emulator(argv, said.stdout.splitlines()[0])


def in_root(root: Path) -> tuple[str, ...]:
    """How the command of a QEMU begins that lies with its libraries in the folder `root`."""
    libraries = os.pathsep.join(str(root / folder) for folder in _LIBRARIES)
    argv = [str(root / "lib64/ld-linux-x86-64.so.2"), "--library-path", libraries, str(root / "usr/bin" / _PROGRAM)]
    for folder in _FIRMWARE:
        argv += ["-L", str(root / folder)]
    return tuple(argv)


def _from_packages() -> Emulator:
    recipe = RECIPES / "qemu"
    key = cache.folder_key(recipe, platform.machine())
    if (found := cache.found("qemu", key)) is None:
        system.ensure_tools(_BUILD_TOOLS)

        def build(folder: Path, log: Path) -> None:
            argv = ["sh", "build.sh", str(folder)]
            cache.run_logged(argv, log, timeout=_BUILD_TIMEOUT, cwd=recipe, PATH=system.SEARCH)

        found = cache.cached("qemu", key, "QEMU 10 from Debian's packages", "about 2 minutes, once", build)
    return _asked(*in_root(found / "root"))


@functools.cache
def emulator() -> Emulator:
    """The QEMU that runs storage nodes: this machine's own when it is quick, else Debian trixie's, kept in the cache.

    Where that can't be made (it takes root, debootstrap and x86_64) an older one of the machine's serves, slowly.
    Raises `LabError` when there is none at all.
    """
    own = _asked(path) if (path := system.find(_PROGRAM)) else None
    if own is not None and own.major >= _QUICK:
        return own
    can_build = os.geteuid() == 0 and platform.machine() == "x86_64" and shutil.which("apt-get") is not None
    if can_build:
        return _from_packages()
    if own is None:
        raise LabError(
            f"the lab needs {_PROGRAM}. As root on Debian: apt-get install --no-install-recommends qemu-system-x86"
        )
    say(f"{own.version} is used; QEMU {_QUICK} or newer runs the lab in half the time")
    return own
