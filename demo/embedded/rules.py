"""Rules about values: those of the pydantic models in place of CEL, and the few of Kubernetes' own kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from demo.embedded.failures import Cause

Raw = Mapping[str, Any]
Rule = Callable[[Raw], list[Cause]]
ChangeRule = Callable[[Raw, Raw], list[Cause]]
"""Takes the new object and the old one."""

_LONGEST_NOTE = 1024


def _event(obj: Raw) -> Iterator[Cause]:
    involved = obj.get("involvedObject") or {}
    namespace = obj["metadata"].get("namespace")
    if not obj.get("eventTime"):
        if (involved.get("namespace") or "default") != namespace:
            text = f'Invalid value: "{involved.get("namespace", "")}": does not match event.namespace'
            yield Cause("involvedObject.namespace", text)
        return
    # An Event with an eventTime is held to the rules of events.k8s.io.
    for name in ("reportingComponent", "reportingInstance", "action", "reason"):
        if not obj.get(name):
            yield Cause(name, "Required value", "FieldValueRequired")
    if obj.get("type") not in {"Normal", "Warning"}:
        yield Cause("type", 'Invalid value: "": has invalid value: ' + str(obj.get("type", "")))
    if len(str(obj.get("message", ""))) > _LONGEST_NOTE:
        yield Cause("message", 'Invalid value: "": can have at most 1024 characters')


def event(obj: Raw) -> list[Cause]:
    """Return what is wrong with an Event (k8s.io/kubernetes, core validation of events)."""
    return list(_event(obj))


def lease(obj: Raw) -> list[Cause]:
    """Return what is wrong with a Lease."""
    seconds = (obj.get("spec") or {}).get("leaseDurationSeconds")
    if isinstance(seconds, int) and seconds <= 0:
        return [Cause("spec.leaseDurationSeconds", f"Invalid value: {seconds}: must be greater than 0")]
    return []


def nothing(*_: Raw) -> list[Cause]:
    """Return that nothing is wrong."""
    return []
