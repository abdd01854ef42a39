"""Taking over what `zfs receive` brought: a backup of a repository has its record as received properties.

Everything else reads what is set on a dataset itself, by this operator or by hand, and rightly so: a replica must not
pass for the repository that it is a copy of. With `adopt: true` the record is set anew, as this repository's own.
"""

from __future__ import annotations

from dsg.api.repository import ZfsStorage
from dsg.storage.layout import is_generation
from dsg.storage.repository_type import Cause, Plan, Step, Target
from dsg.storage.zfs import layout, policy
from dsg.storage.zfs.interface import Dataset, Source
from dsg.storage.zfs.observation import Observation
from dsg.storage.zfs.steps import SetProperties

_LEFT = frozenset(
    {layout.APPLIED, layout.RELEASED, layout.ACCEPTED, layout.UID, layout.IDENTITY, layout.LAYOUT_PROPERTY}
)
"""What was said of the dataset that was sent, and need not be so of this one, or is said anew."""


def said(dataset: Dataset, name: str) -> str | None:
    """Return a property's value where it was set on the dataset, by hand or by a stream."""
    found = dataset.properties.get(name)
    return found.value if found is not None and found.source in {Source.LOCAL, Source.RECEIVED} else None


def identity_of(dataset: Dataset) -> str | None:
    """Return which repository a dataset says it is, by its own record or a received one."""
    return said(dataset, layout.IDENTITY)


def take_over(target: Target, storage: ZfsStorage, observed: Observation) -> Plan | None:
    """Return the steps that make a received record this repository's own; None where there is nothing to take over.

    The uid comes last: with it the rest is done.
    """
    parent = observed.parent
    if parent is None or not storage.adopt or parent.local(layout.UID) is not None:
        return None
    head = said(parent, layout.HEAD)
    if said(parent, layout.IDENTITY) != target.identity or said(parent, layout.LAYOUT_PROPERTY) != layout.LAYOUT:
        return None
    if head is None or head not in observed.children:
        return None
    steps: list[Step] = []
    for name, child in sorted(observed.children.items()):
        made_by = said(child, layout.TRANSACTION)
        if is_generation(name) and made_by is not None and child.local(layout.TRANSACTION) is None:
            steps.append(SetProperties(Cause.ADOPT, child.name, ((layout.TRANSACTION, made_by),)))
    record = {name: said(parent, name) for name in layout.USER_PROPERTIES if name not in _LEFT}
    values = tuple((name, value) for name, value in record.items() if value is not None)
    steps.append(SetProperties(Cause.ADOPT, parent.name, values))
    steps.append(SetProperties(Cause.ADOPT, parent.name, tuple(policy.identity_values(target).items())))
    return Plan(tuple(steps))
