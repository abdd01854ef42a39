"""StoragePool: storage on one node that may hold repositories, who may use it, and how well it is."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from dsg.api.base import Conditions, Model, ObjectMeta, StatusModel
from dsg.api.repository import REFUSED_TYPES
from dsg.api.rules import (
    AbsolutePath,
    DatasetName,
    NoBlankValues,
    NodeName,
    PoolName,
    Refused,
    Rule,
    apart,
    below,
    matching,
)

_MOVE = "repositories rely on it; declare another StoragePool"


class ZfsPoolStorage(Model):
    """Part of a ZFS pool."""

    type: Literal["zfs"]
    """Kind of storage: zfs, or xfs for any POSIX file system."""
    node: NodeName
    """Storage node that has the pool."""
    pool: PoolName
    """Name of the imported pool. The operator never creates or imports pools."""
    root: DatasetName
    """Dataset below which repositories may be placed, such as tank/dsg; created when missing."""
    mount_root: AbsolutePath
    """Directory below which their mountpoints may be, such as /srv/dsg; created when missing."""

    rules = (
        Rule(
            "self.root.startsWith(self.pool + '/')",
            "root must lie in pool: write it as POOL/path",
            lambda v: below(v.root, v.pool),
            field="root",
        ),
    )
    immutable: ClassVar[dict[str, str]] = dict.fromkeys(("type", "node", "pool", "root", "mount_root"), _MOVE)


class XfsPoolStorage(Model):
    """Part of a POSIX file system, such as XFS."""

    type: Literal["xfs"]
    """Kind of storage: zfs, or xfs for any POSIX file system."""
    node: NodeName
    """Storage node that has the file system."""
    directory: AbsolutePath
    """Existing directory below which repositories may be placed, such as /data/dsg. The operator never creates it, so
    that a file system that is not mounted is noticed.
    """
    mount_root: AbsolutePath
    """Directory below which their mountpoints may be, such as /srv/dsg; created when missing."""

    rules = (apart("directory", "mountRoot"),)
    immutable: ClassVar[dict[str, str]] = dict.fromkeys(("type", "node", "directory", "mount_root"), _MOVE)


PoolStorage = Annotated[ZfsPoolStorage | XfsPoolStorage, Field(discriminator="type"), Refused(REFUSED_TYPES)]

_LABEL_KEY = matching(
    "([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?",
    "a label's key is name or prefix/name, of letters, digits and - _ .",
)
_LABEL_VALUE = matching(
    "([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?",
    "a label's value has at most 63 letters, digits and - _ . and begins and ends with a letter or digit",
)

LabelKey = Annotated[str, _LABEL_KEY]
"""A label's key: at most 253 characters of prefix and 63 of name, by its pattern."""
LabelValue = Annotated[str, Field(max_length=63), _LABEL_VALUE]


class LabelRequirement(Model):
    """One requirement on a namespace's labels."""

    key: Annotated[LabelKey, Field(max_length=317)]
    """Key of the label that is looked at."""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    """How the label relates to the values."""
    values: Annotated[
        list[LabelValue], Field(max_length=50, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ] = Field(default_factory=list)
    """Values for In and NotIn; none for Exists and DoesNotExist."""

    rules = (
        Rule(
            "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
            "In and NotIn need values; Exists and DoesNotExist have none",
            lambda v: (v.operator in {"In", "NotIn"}) == bool(v.values),
            field="values",
        ),
    )

    def admits(self, labels: dict[str, str]) -> bool:
        """Return whether labels meet the requirement (Kubernetes: LabelSelectorRequirement)."""
        match self.operator:
            case "In":
                return labels.get(self.key) in self.values
            case "NotIn":
                return labels.get(self.key) not in self.values
            case "Exists":
                return self.key in labels
            case "DoesNotExist":
                return self.key not in labels


class NamespaceSelector(Model):
    """Namespaces by their labels; an empty selector, {}, admits every namespace (Kubernetes: LabelSelector)."""

    match_labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=50), NoBlankValues()] = Field(
        default_factory=dict
    )
    """Labels that the namespace must have, such as kubernetes.io/metadata.name: research."""
    match_expressions: Annotated[
        list[LabelRequirement], Field(max_length=50, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ] = Field(default_factory=list)
    """Requirements that the namespace's labels must meet."""

    def admits(self, labels: dict[str, str]) -> bool:
        """Return whether a namespace with these labels is selected."""
        return all(labels.get(k) == v for k, v in self.match_labels.items()) and all(
            requirement.admits(labels) for requirement in self.match_expressions
        )


class Thresholds(Model):
    """When to warn. A threshold that is left out warns never."""

    capacity_percent: Annotated[int, Field(ge=1, le=100)]
    """Warn when this part of the storage is taken; ZFS slows down above 80 to 90."""
    fragmentation_percent: Annotated[int, Field(ge=1, le=100)] | None = None
    """Warn when the pool's free space is fragmented this much."""
    scrub_age_days: Annotated[int, Field(ge=1, le=3650)] | None = None
    """Warn when the last finished scrub is older than this many days, or there was none."""


class StoragePoolSpec(Model):
    """What the platform team declares."""

    storage: PoolStorage
    """Which storage, on which node."""
    namespace_selector: NamespaceSelector
    """Namespaces that may place repositories here; {} for all."""
    thresholds: Thresholds
    """When to warn, each as a condition of its own."""


class ScanStatus(StatusModel):
    """The last or running scrub or resilver."""

    function: str = "none"
    """none, scrub or resilver."""
    state: str = "none"
    """none, scanning, finished or canceled."""
    ended: str = ""
    """When it ended (RFC 3339)."""
    errors: int = 0
    """Number of errors that it found."""


class ErrorCounts(StatusModel):
    """Errors of the pool's devices and data since they were last cleared."""

    read: int = 0
    """Reads that failed on a device."""
    write: int = 0
    """Writes that failed on a device."""
    checksum: int = 0
    """Blocks whose checksum was wrong."""
    data: int = 0
    """Files or objects with permanent errors."""


class StoragePoolStatus(StatusModel):
    """What the node's operator found."""

    observed_generation: int = -1
    """metadata.generation that this status describes; -1 until an operator has looked."""
    conditions: Conditions = Field(default_factory=list)
    """Observations; docs/reference/conditions.md says what each reason means and what to do."""
    guid: str = ""
    """Identity of the pool or file system."""
    health: str = ""
    """Health in the pool's own words, such as ONLINE or DEGRADED."""
    size: str = ""
    """Total space, to three digits."""
    free: str = ""
    """Free space, to two digits, so that it seldom changes; `zpool list` and the metrics have it exactly."""
    capacity_percent: int | None = None
    """Part of the space that is taken."""
    fragmentation_percent: int | None = None
    """Fragmentation of the free space."""
    scan: ScanStatus | None = None
    """The last or running scrub or resilver."""
    errors: ErrorCounts | None = None
    """Errors of the pool's devices and data since they were last cleared."""
    repositories: int = 0
    """Repositories that are placed here."""
    last_handled_reconcile_at: str = ""
    """Last value of the annotation dsg.hrdag.org/requestedAt that was acted on."""


class StoragePool(Model):
    """Storage on one node that may hold repositories: who may use it, when to warn, and how well it is."""

    api_version: Literal["dsg.hrdag.org/v1alpha1"]
    """Group and version of the schema that this object follows."""
    kind: Literal["StoragePool"]
    """Kind of object."""
    metadata: ObjectMeta
    """Name, labels and annotations."""
    spec: StoragePoolSpec
    """What the platform team declares."""
    status: StoragePoolStatus | None = None
    """What the node's operator found; written by it alone."""
