"""The storage node's disk image: Debian with OpenZFS, settings, keys and the operator's Python environment.

Two stages, each kept by its content: the base system with the OpenZFS module (slow, changes with Debian's packages),
and the settings with the Python packages that `pyproject.toml` names (a minute). The `dsg` wheel is not in it.
"""

import os
import platform
import shutil
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from lab import cache, system
from lab.errors import LabError
from lab.paths import RECIPES, TREE

GUEST_PYTHON = "3.13"
"""The Python of Debian trixie, which the guest runs."""

_TEST_PACKAGES = ("pytest", "hypothesis")
_BUILD_TIMEOUT = 3600
_TOOLS = {"debootstrap": "debootstrap", "mke2fs": "e2fsprogs", "ssh-keygen": "openssh-client"}


@dataclass(frozen=True, slots=True)
class Image:
    """A built image: the folder, and the key that changes whenever its content may have."""

    folder: Path
    key: str

    @property
    def disk(self) -> Path:
        """The root file system, raw; never written after it is built."""
        return self.folder / "root.img"

    @property
    def kernel(self) -> Path:
        """The Linux kernel (vmlinuz)."""
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """The initramfs."""
        return self.folder / "initrd"

    @property
    def rootfs(self) -> Path:
        """The same root file system as a folder, for a chroot."""
        return self.folder / "rootfs"

    @property
    def ssh_key(self) -> Path:
        """The private key (mode 0600) that root of every guest of this image accepts."""
        return self.folder / "ssh" / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        """The guests' host key, under the name `dsg-lab-node`."""
        return self.folder / "ssh" / "known_hosts"


def base() -> Path:
    """The folder with the base system (`rootfs/`, `versions.txt`), built when it is missing. Raises `LabError`."""
    recipe = RECIPES / "node-base"
    key = _base_key()
    if found := cache.found("node-base", key):
        return found
    _check_machine()

    def build(folder: Path, log: Path) -> None:
        cache.run_logged(["sh", "build.sh", str(folder)], log, timeout=_BUILD_TIMEOUT, cwd=recipe, PATH=system.SEARCH)

    expected = "about 8 minutes on two idle cores, once"
    return cache.cached("node-base", key, "the storage node's system with OpenZFS", expected, build)


def requirements(pyproject: Path = TREE / "pyproject.toml") -> list[str]:
    """What the guest's Python environment holds: the wheel's dependencies with the extras operator and model, and what
    runs tests, as requirement lines in order of name."""
    project = tomllib.loads(pyproject.read_text())["project"]
    extras = project["optional-dependencies"]
    tests = [line for line in extras["test"] if line.startswith(_TEST_PACKAGES) and "xdist" not in line]
    return sorted({*project["dependencies"], *extras["operator"], *extras["model"], *tests})


def image() -> Image:
    """The image of this tree's recipe, built when it is missing. Raises `LabError` when it can't be built here."""
    recipe = RECIPES / "node"
    wanted = requirements()
    key = cache.folder_key(recipe, _base_key(), GUEST_PYTHON, *wanted)
    if found := cache.found("node", key):
        return Image(found, key)
    base_folder = base()
    _check_machine()

    def build(folder: Path, log: Path) -> None:
        wheels = folder / "wheels"
        _download(wanted, wheels, log)
        argv = ["sh", "build.sh", str(base_folder), str(wheels), str(folder)]
        cache.run_logged(argv, log, timeout=_BUILD_TIMEOUT, cwd=recipe, PATH=system.SEARCH)
        shutil.rmtree(wheels)

    return Image(cache.cached("node", key, "the storage node's disk", "about a minute and a half", build), key)


def _base_key() -> str:
    return cache.folder_key(RECIPES / "node-base", platform.machine())


def _check_machine() -> None:
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise LabError(
            f"the storage node's image is built on Linux on x86_64 only; this is {platform.system()} on "
            f"{platform.machine()}. Run the lab on such a machine."
        )
    if os.geteuid() != 0:
        raise LabError("building the storage node's image takes root (debootstrap, chroot, mount): run it as root once")
    system.ensure_tools(_TOOLS)


def _download(wanted: list[str], wheels: Path, log: Path) -> None:
    wheels.mkdir()
    (wheels / "requirements.txt").write_text("".join(f"{line}\n" for line in wanted))
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--dest", str(wheels)]
    argv += ["--python-version", GUEST_PYTHON, "--implementation", "cp"]
    # Newest first is not needed: pip takes the best tag that it is told of.
    for tag in ("manylinux_2_28", "manylinux_2_17", "manylinux2014"):
        argv += ["--platform", f"{tag}_{platform.machine()}"]
    argv += ["--requirement", str(wheels / "requirements.txt")]
    cache.run_logged(argv, log, timeout=900)
