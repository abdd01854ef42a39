"""The container image of this tree, really built by buildah from the Containerfile.

What it is built on comes from Debian's packages (lab/recipes/image-base), since the lab asks no registry of images.
Layers are kept, so that a change of the code builds its own layers only.
"""

import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import cache, system
from lab.errors import LabError
from lab.paths import RECIPES, TREE
from lab.progress import stage

_BUILD_TIMEOUT = 1800
_TOOLS = {"buildah": "buildah", "debootstrap": "debootstrap", "setpriv": "util-linux"}
_LAYERS_KEPT = 80
_BASE = "localhost/debian:trixie"
_IMAGE = "localhost/dsg:lab"


def _base() -> Path:
    recipe = RECIPES / "image-base"
    key = cache.folder_key(recipe, platform.machine())

    def build(folder: Path, log: Path) -> None:
        cache.run_logged(["sh", "build.sh", str(folder)], log, timeout=_BUILD_TIMEOUT, cwd=recipe, PATH=system.SEARCH)

    folder = cache.cached("image-base", key, "Debian for the container image", "about 2 minutes, once", build)
    return folder / "rootfs.tar"


class Builder:
    """buildah with a store of its own, below the cache."""

    def __init__(self) -> None:
        """Raises `LabError` where images can't be built: that takes Linux, root, and buildah."""
        if platform.system() != "Linux" or os.geteuid() != 0:
            raise LabError("the lab builds the container image on Linux as root; run it so")
        system.ensure_tools(_TOOLS)
        tar = _base()
        # Of the base: another one starts anew, and `lab prune` removes what is no longer used.
        self.store = tar.parent / "store"
        self._tar = tar

    def run(self, *arguments: str, log: Path | None = None) -> str:
        """Run buildah; output goes to `log`, or is returned. Raises `LabError` with its end."""
        argv = ["buildah", "--root", str(self.store / "root"), "--runroot", str(self.store / "run")]
        argv += ["--storage-driver", "overlay", *arguments]
        done = subprocess.run(
            argv,
            cwd=TREE,
            env=os.environ | {"PATH": system.SEARCH},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_BUILD_TIMEOUT,
            check=False,
        )
        if log is not None:
            log.write_text(done.stdout)
        if done.returncode != 0:
            end = "\n".join(done.stdout.splitlines()[-cache.TAIL_LINES :])
            raise LabError(f"buildah {arguments[0]} failed with exit code {done.returncode}:\n{end}")
        return done.stdout

    def _have_base(self) -> None:
        if self.run("images", "--quiet", "--filter", f"reference={_BASE}").strip():
            return
        container = self.run("from", "--pull-never", "scratch").split()[-1]
        self.run("add", "--quiet", container, str(self._tar), "/")
        # This machine's own way to Debian's packages, where it has one; nothing that runs a hook.
        for file in sorted(Path("/etc/apt/apt.conf.d").glob("*")):
            if any(line.startswith("Acquire::") for line in file.read_text(errors="replace").splitlines()):
                self.run("copy", "--quiet", container, str(file), f"/etc/apt/apt.conf.d/{file.name}")
        self.run("commit", "--quiet", "--rm", container, _BASE)

    def build(self) -> str:
        """Build the image of this tree and return its name."""
        with cache.locked(self.store.with_suffix(".lock")):
            if len(self.run("images", "--all", "--quiet").split()) > _LAYERS_KEPT:
                # Each change of the code leaves some; nobody else uses this store.
                self.run("rmi", "--all", "--force")
            self._have_base()
            argv = ["build", "--isolation", "chroot", "--layers", "--build-arg", f"BASE={_BASE}", "--tag", _IMAGE]
            # As for Debian's: how this machine reaches Python's packages.
            own = [Path("/etc/pip.conf"), *(Path(value) for name in ("PIP_CERT",) if (value := os.environ.get(name)))]
            argv += [word for file in own if file.is_file() for word in ("--volume", f"{file}:{file}:ro")]
            with stage("building the container image", "about 2 minutes, once; then seconds"):
                self.run(*argv, ".", log=self.store.with_suffix(".log"))
        return _IMAGE

    @contextmanager
    def mounted(self, image: str) -> Iterator[Path]:
        """A container's root directory, made of an image, with /dev, /proc and /sys of this machine; removed after."""
        container = self.run("from", "--pull-never", image).split()[-1]
        try:
            root = Path(self.run("mount", container).split()[-1])
            places = [root / name for name in ("dev", "proc", "sys")]
            for place in places:
                place.mkdir(exist_ok=True)
                subprocess.run(["mount", "--rbind", "--make-rslave", f"/{place.name}", place], check=True)
            try:
                yield root
            finally:
                for place in reversed(places):
                    subprocess.run(["umount", "--recursive", "--lazy", place], check=True)
                self.run("umount", container)
        finally:
            self.run("rm", container)


def built() -> tuple[Builder, str]:
    """A builder and the name of the image of this tree. Raises `LabError`."""
    builder = Builder()
    return builder, builder.build()


if __name__ == "__main__":
    print(built()[1])
