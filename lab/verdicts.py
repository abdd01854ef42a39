"""What Argo CD and Flux themselves make of objects: programs around their own packages, built from Go modules once."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.tools import go_built

_TIMEOUT = 120


def argocd_parts() -> Path:
    """The folder with `argocd-verdict` and Argo CD's CRDs in `crds`. Raises `LabError`."""
    return go_built(
        "argocd-verdict", "Argo CD's Lua machine from Go modules", "about 4 minutes on two idle cores, once"
    )


def flux_parts() -> Path:
    """The folder with `flux-verdict` and Flux's CRDs in `crds`. Raises `LabError`."""
    return go_built("flux-verdict", "Flux's health checks from Go modules", "about 1 minute on two idle cores, once")


def argocd(config_map: Mapping[str, Any], objects: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return, for each object, `health`, `actions`, and what each action makes of it (`results`), by an argocd-cm.

    Raises `LabError` with Argo CD's own words when a script fails.
    """
    return _ask(argocd_parts() / "argocd-verdict", {"configMap": dict(config_map), "objects": list(objects)})


def flux(expressions: Iterable[Mapping[str, Any]], objects: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return, for each object, `kstatus`, and `expressions`: what `healthCheckExprs` come to. Raises `LabError`."""
    return _ask(flux_parts() / "flux-verdict", {"expressions": list(expressions), "objects": list(objects)})


def _ask(program: Path, request: Mapping[str, Any]) -> list[dict[str, Any]]:
    done = subprocess.run(
        [str(program)], input=json.dumps(request), capture_output=True, text=True, timeout=_TIMEOUT, check=False
    )
    if done.returncode != 0:
        raise LabError(f"{program.name} failed: {done.stderr.strip()}")
    verdicts: list[dict[str, Any]] = json.loads(done.stdout)
    return verdicts
