"""What each tool should make of an object: from the reason of Ready and from the spec, not from the scripts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dsg.api.reasons import Readiness, reason

_ARGO = {Readiness.READY: "Healthy", Readiness.WORKING: "Progressing", Readiness.STALLED: "Degraded"}
_KSTATUS = {Readiness.READY: "Current", Readiness.WORKING: "InProgress", Readiness.STALLED: "Failed"}


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Health in Argo CD, status by kstatus, and status by our expressions for Flux."""

    argocd: str
    kstatus: str
    expressions: str


def condition(obj: Mapping[str, Any], type_: str) -> Mapping[str, Any]:
    """Return a condition of an object; empty when it has none of that type."""
    conditions = (obj.get("status") or {}).get("conditions") or []
    return next((c for c in conditions if c["type"] == type_), {})


def observed(obj: Mapping[str, Any]) -> bool:
    """Return whether the status speaks of the object as it is now."""
    return bool(obj["status"]["observedGeneration"] == obj["metadata"]["generation"])


def expected(obj: Mapping[str, Any]) -> Verdicts:
    """Return what the tools should say of a live object."""
    if not observed(obj):
        return Verdicts("Progressing", "InProgress", "InProgress")
    readiness = reason(condition(obj, "Ready")["reason"]).readiness
    assert readiness is not None
    suspended = bool(obj["spec"].get("suspend")) and readiness is not Readiness.STALLED
    return Verdicts(
        "Suspended" if suspended else _ARGO[readiness],
        _KSTATUS[readiness],
        "Current" if suspended else _KSTATUS[readiness],
    )


_WARNINGS = (
    ("Drifted", "True"),
    ("UnexpectedData", "True"),
    ("Healthy", "False"),
    ("CapacityPressure", "True"),
    ("Fragmented", "True"),
    ("ScrubOverdue", "True"),
)


def message(obj: Mapping[str, Any]) -> str:
    """Return the message that Argo CD should show."""
    if not observed(obj):
        return "waiting for the operator of the storage node"
    told = [condition(obj, "Ready")]
    told += [c for type_, status in _WARNINGS if (c := condition(obj, type_)).get("status") == status]
    return "; ".join(f"{c['reason']}: {c['message']}" for c in told)
