"""The `dsg` wheel of this tree, and the same made ready for the guest's Python; built once for the same content."""

import hashlib
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

from lab import cache
from lab.errors import LabError
from lab.image import Image
from lab.paths import TREE

_TIMEOUT = 300
_GUEST_ENVIRONMENT = "opt/dsg"


def tree_files(tree: Path = TREE) -> list[Path]:
    """What the wheel is made of: the package's files and the project's description."""
    package = tree / "controller"
    files = [f for f in package.rglob("*") if f.is_file() and "__pycache__" not in f.parts]
    return [tree / "pyproject.toml", tree / "README.md", *sorted(files)]


def wheel(tree: Path = TREE) -> Path:
    """The wheel built from `tree`, as a user's `pip install` would build it. Raises `LabError` with the build's log."""
    parts = [f"{f.relative_to(tree)} {hashlib.sha256(f.read_bytes()).hexdigest()}" for f in tree_files(tree)]
    key = cache.recipe_key([], *parts)

    def build(folder: Path, log: Path) -> None:
        cache.run_logged(
            [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(tree)], log, timeout=_TIMEOUT
        )

    folder = cache.cached("wheel", key, "the dsg wheel of this tree", "about 10 s", build)
    return next(folder.glob("*.whl"))


def digest(wheel_file: Path) -> str:
    """SHA-256 of a wheel file, in hex."""
    return hashlib.sha256(wheel_file.read_bytes()).hexdigest()


def payload(wheel_file: Path, image: Image) -> Path:
    """A tar archive of what installing the wheel in the image's `/opt/dsg` adds, byte-compiled; unpack it at `/`.

    The image's own pip does it, in a chroot at the full speed of this machine: under emulation it takes 20 times as
    long. Raises `LabError`.
    """
    key = cache.recipe_key([], image.key, wheel_file.name, digest(wheel_file))
    if found := cache.found("node-wheel", key):
        return found / "payload.tar"
    if os.geteuid() != 0:
        raise LabError("installing a wheel for the guest takes root (chroot); run it as root")

    def build(folder: Path, log: Path) -> None:
        stage = image.rootfs / f"stage-{uuid.uuid4().hex}"
        stage.mkdir()
        try:
            shutil.copy(wheel_file, stage)
            inside = f"/{stage.name}"
            argv = [
                "env",
                "-i",
                "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                "chroot",
                str(image.rootfs),
                "/opt/dsg/bin/python",
                "-I",
            ]
            argv += ["-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--no-index"]
            argv += ["--root-user-action=ignore", "--ignore-installed", "--no-warn-script-location"]
            argv += [f"--prefix={inside}/root/{_GUEST_ENVIRONMENT}", f"{inside}/{wheel_file.name}"]
            cache.run_logged(argv, log, timeout=_TIMEOUT)
            pack = ["tar", "-c", "--owner=0", "--group=0", "-f", str(folder / "payload.tar")]
            subprocess.run([*pack, "-C", str(stage / "root"), _GUEST_ENVIRONMENT], check=True, timeout=_TIMEOUT)
        finally:
            shutil.rmtree(stage, ignore_errors=True)

    return cache.cached("node-wheel", key, "the wheel for the guest", "about 5 s", build) / "payload.tar"
