"""Every condition type and every reason that a condition or an Event can carry: the one table of them.

Reasons are interface: people alert on them. docs/reference/conditions.md is generated from here. Conditions follow the
Kubernetes API conventions and the kstatus contract: while the operator works, Ready is Unknown and Reconciling is True;
only when a person must act, Ready is False and Stalled is True.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

REPOSITORY = "Repository"
POOL = "StoragePool"


class Readiness(StrEnum):
    """What a reason says about the object as a whole."""

    READY = "ready"
    """Ready=True: actual state is what was declared."""
    WORKING = "working"
    """Ready=Unknown, Reconciling=True: not there yet, and nobody needs to do anything."""
    STALLED = "stalled"
    """Ready=False, Stalled=True: a person must act."""


class ConditionType(StrEnum):
    """Types of conditions."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    DRIFTED = "Drifted"
    SUSPENDED = "Suspended"
    DELETION_BLOCKED = "DeletionBlocked"
    HEALTHY = "Healthy"
    CAPACITY_PRESSURE = "CapacityPressure"
    FRAGMENTED = "Fragmented"
    SCRUB_OVERDUE = "ScrubOverdue"


CONDITION_TYPES: dict[ConditionType, tuple[tuple[str, ...], str]] = {
    ConditionType.READY: ((REPOSITORY, POOL), "The object as a whole: actual state is what was declared."),
    ConditionType.RECONCILING: ((REPOSITORY, POOL), "The operator is working towards the declared state (kstatus)."),
    ConditionType.STALLED: ((REPOSITORY, POOL), "The operator can't go on until a person acts (kstatus)."),
    ConditionType.DRIFTED: ((REPOSITORY,), "Somebody changed policy on the node by hand and it still differs."),
    ConditionType.SUSPENDED: ((REPOSITORY,), "The operator only looks, because the spec says suspend: true."),
    ConditionType.DELETION_BLOCKED: ((REPOSITORY,), "The object is being deleted and something keeps its data."),
    ConditionType.HEALTHY: ((POOL,), "The pool's devices and data are without errors."),
    ConditionType.CAPACITY_PRESSURE: ((POOL,), "More of the space is taken than the threshold allows."),
    ConditionType.FRAGMENTED: ((POOL,), "Free space is more fragmented than the threshold allows."),
    ConditionType.SCRUB_OVERDUE: ((POOL,), "The last scrub is older than the threshold allows."),
}
"""The kinds that carry a condition type, and what it means when it is True."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One stable word, what it means, and what to do about it."""

    name: str
    kinds: tuple[str, ...]
    meaning: str
    action: str
    readiness: Readiness | None = None
    """Set for reasons of Ready; None for reasons of other conditions and of Events alone."""
    event: Literal["Normal", "Warning"] | None = None
    """Type of the Event that announces it; None when it is never announced."""
    condition: ConditionType | None = None
    """The condition it belongs to when that is not Ready."""


_R, _W, _S = Readiness.READY, Readiness.WORKING, Readiness.STALLED
_BOTH = (REPOSITORY, POOL)
_REPO = (REPOSITORY,)
_POOL = (POOL,)

REASONS: tuple[Reason, ...] = (
    # Ready
    Reason("Reconciled", _BOTH, "Actual state is what was declared.", "Nothing.", _R, "Normal"),
    Reason(
        "NotYetCreated",
        _REPO,
        "The repository is suspended and was never created.",
        "Set suspend to false when it should be created.",
        _W,
    ),
    Reason(
        "PoolUnavailable",
        _BOTH,
        "The pool is not imported on the node, or the file system is not there.",
        "Import the pool (zpool import) or mount the file system; the operator goes on by itself.",
        _W,
        "Warning",
    ),
    Reason(
        "PoolSuspended",
        _BOTH,
        "The pool's I/O is suspended after device failures. Nothing is lost yet, and nothing can be written.",
        "Bring the devices back, then zpool clear; the operator goes on by itself.",
        _W,
        "Warning",
    ),
    Reason(
        "StorageBusy",
        _REPO,
        "Something in use keeps a step from being taken.",
        "Usually nothing: it is tried again. The message names what is in use.",
        _W,
        "Warning",
    ),
    Reason(
        "StorageTimeout",
        _BOTH,
        "A storage command did not end in time, or earlier ones still hang.",
        "Look at the node: zpool status, dmesg. The operator tries again by itself.",
        _W,
        "Warning",
    ),
    Reason(
        "StorageUnavailable",
        _BOTH,
        "The storage software can't be used on the node: no command, no kernel module, or a version too old.",
        "Install OpenZFS 2.1 or newer on the node and load its module; the operator goes on by itself.",
        _W,
        "Warning",
    ),
    Reason(
        "OutOfSpace",
        _REPO,
        "The pool has no room for what was asked.",
        "Free space in the pool, add devices, or lower the reservation; the operator tries again by itself.",
        _W,
        "Warning",
    ),
    Reason(
        "StorageError",
        _BOTH,
        "A storage command failed in a way that has no name of its own.",
        "Read the message; it holds what the command said. The operator tries again by itself.",
        _W,
        "Warning",
    ),
    Reason(
        "NodeLost",
        _BOTH,
        "The node's operator has not shown itself for a while; what stands in this status may be old.",
        "Look at the node and its operator. When it is back, it goes on by itself.",
        _W,
        "Warning",
    ),
    Reason(
        "InvalidSpec",
        _BOTH,
        "The object breaks a rule of the schema: it was written before the rule, or past the API server's validation.",
        "Correct the fields that the message names.",
        _S,
        "Warning",
    ),
    Reason(
        "PoolNotDeclared",
        _REPO,
        "No StoragePool declares this storage on this node.",
        "Ask the platform team for a StoragePool, or correct node, pool, dataset or directory in a new Repository.",
        _S,
        "Warning",
    ),
    Reason(
        "NamespaceNotAdmitted",
        _REPO,
        "The StoragePool does not admit repositories of this namespace.",
        "Ask the platform team to admit the namespace, or use another pool.",
        _S,
        "Warning",
    ),
    Reason(
        "OutsidePool",
        _REPO,
        "The dataset, directory or mountpoint lies outside what the StoragePool offers.",
        "Declare a new Repository with places directly below the StoragePool's root and below its mountRoot.",
        _S,
        "Warning",
    ),
    Reason(
        "PoolFaulted",
        _BOTH,
        "The pool has lost more devices than its redundancy covers, or was imported read-only.",
        "Repair the pool or restore from a replica; the operator goes on by itself when it is healthy.",
        _S,
        "Warning",
    ),
    Reason(
        "PoolOverlap",
        _POOL,
        "Another StoragePool already offers this storage.",
        "Remove one of the two.",
        _S,
        "Warning",
    ),
    Reason(
        "PathConflict",
        _REPO,
        "An older Repository already claims the dataset, directory or mountpoint, or one that contains it.",
        "Use other places in a new Repository. Nothing of the older one was touched.",
        _S,
        "Warning",
    ),
    Reason(
        "DatasetForeign",
        _REPO,
        "What exists at that place was not made for this Repository. It was not touched.",
        "Choose another place; or take it over: set adopt to true and write this repository's identity on it, "
        "as the message says.",
        _S,
        "Warning",
    ),
    Reason(
        "LayoutUnknown",
        _REPO,
        "What is on disk was written by a newer version, or is not laid out as a repository.",
        "Upgrade the operator on this node, or lay the data out as the message says.",
        _S,
        "Warning",
    ),
    Reason(
        "DataMissing",
        _REPO,
        "The repository existed and its data, or its head, is gone. Nothing was created in its place.",
        "Restore it from a replica or backup. To begin with an empty one, delete this object and apply it anew.",
        _S,
        "Warning",
    ),
    Reason(
        "MountpointTaken",
        _REPO,
        "Something that is not this repository's stands at the mountpoint. It was not touched.",
        "Move it away; the operator goes on by itself.",
        _S,
        "Warning",
    ),
    Reason(
        "KeyUnavailable",
        _REPO,
        "The encryption key is missing on the node or is not the right one.",
        "Put the key file in place; the operator tries again by itself.",
        _S,
        "Warning",
    ),
    Reason(
        "QuotaTooLow",
        _REPO,
        "The quota asked for is lower than what is used already.",
        "Raise the quota, or free space by pruning versions.",
        _S,
        "Warning",
    ),
    Reason(
        "PropertyRefused",
        _REPO,
        "OpenZFS on this node refuses a property value.",
        "Correct the value, or enable the pool feature that it needs.",
        _S,
        "Warning",
    ),
    Reason(
        "PermissionDenied",
        _BOTH,
        "The operator may not do this on the node.",
        "Run the operator as root, with the node's mount namespace.",
        _S,
        "Warning",
    ),
    Reason(
        "OperatorFault",
        _BOTH,
        "The operator itself is at fault: something happened that it was not written for. Others go on.",
        "Report it with the operator's log. Nothing needs to be repaired on the node first.",
        _S,
        "Warning",
    ),
    # Drifted
    Reason(
        "InSync",
        _REPO,
        "Policy on the node is what was declared.",
        "Nothing.",
        condition=ConditionType.DRIFTED,
    ),
    Reason(
        "DriftReported",
        _REPO,
        "Policy on the node was changed by hand and is left so: driftPolicy is Report, or the repository is suspended.",
        "Change the spec, set the value back, or set driftPolicy to Correct.",
        event="Warning",
        condition=ConditionType.DRIFTED,
    ),
    Reason(
        "DriftCorrected",
        _REPO,
        "Policy on the node was changed by hand and was set back; the message says from what to what.",
        "Find out who changed it; zpool history -il names user and time.",
        event="Warning",
    ),
    # Suspended
    Reason(
        "SuspendedBySpec",
        _REPO,
        "The spec says suspend: true.",
        "Set suspend to false to go on.",
        event="Normal",
        condition=ConditionType.SUSPENDED,
    ),
    Reason("Active", _REPO, "The spec does not say suspend.", "Nothing.", condition=ConditionType.SUSPENDED),
    # DeletionBlocked
    Reason(
        "NotConfirmed",
        _REPO,
        "deletionPolicy is Delete and the annotation that confirms it is missing or names something else.",
        "Annotate the object with dsg.hrdag.org/confirm-delete and its own name, or set deletionPolicy to Retain.",
        event="Warning",
        condition=ConditionType.DELETION_BLOCKED,
    ),
    Reason(
        "SuspendedDeletion",
        _REPO,
        "deletionPolicy is Delete and the repository is suspended.",
        "Set suspend to false, or deletionPolicy to Retain.",
        event="Warning",
        condition=ConditionType.DELETION_BLOCKED,
    ),
    Reason(
        "ForeignData",
        _REPO,
        "Something that is not this repository's own hangs on its data: snapshots, clones, holds, datasets.",
        "Keep or remove what the message names; the operator goes on by itself.",
        event="Warning",
        condition=ConditionType.DELETION_BLOCKED,
    ),
    Reason(
        "StorageFailed",
        _REPO,
        "A storage command failed while the data was released or destroyed.",
        "Read the message; the operator tries again by itself.",
        event="Warning",
        condition=ConditionType.DELETION_BLOCKED,
    ),
    # Events of a repository
    Reason("Created", _REPO, "The repository was created on the node.", "Nothing.", event="Normal"),
    Reason("Adopted", _REPO, "Existing data was taken over, as the spec allowed.", "Nothing.", event="Normal"),
    Reason("Updated", _REPO, "A change of the spec was carried out.", "Nothing.", event="Normal"),
    Reason("Revealed", _REPO, "The head was mounted again, or the link to it renewed.", "Nothing.", event="Normal"),
    Reason(
        "Retained",
        _REPO,
        "The object was deleted and the data was kept; the message says where it is.",
        "To use it again, apply a Repository with adopt: true. To destroy it, use the node's own tools.",
        event="Normal",
    ),
    Reason(
        "Destroyed",
        _REPO,
        "The object was deleted and its data was destroyed, as confirmed.",
        "Nothing.",
        event="Normal",
    ),
    # StoragePool
    Reason(
        "PoolOnline",
        _POOL,
        "All devices work and no data errors are known.",
        "Nothing.",
        event="Normal",
        condition=ConditionType.HEALTHY,
    ),
    Reason(
        "PoolDegraded",
        _POOL,
        "A device has failed or is missing; redundancy still covers it.",
        "Replace the device (zpool replace).",
        event="Warning",
        condition=ConditionType.HEALTHY,
    ),
    Reason(
        "ErrorsFound",
        _POOL,
        "Devices returned errors, or data errors are known.",
        "Look at zpool status -v; replace the device, restore damaged files, then zpool clear.",
        event="Warning",
        condition=ConditionType.HEALTHY,
    ),
    Reason(
        "NotUsable",
        _POOL,
        "The pool can't be used; Ready says why.",
        "As Ready says.",
        event="Warning",
        condition=ConditionType.HEALTHY,
    ),
    Reason(
        "NotKnown",
        _POOL,
        "The pool could not be looked at; Ready says why.",
        "As Ready says.",
    ),
    Reason(
        "AboveThreshold",
        _POOL,
        "The measured value is beyond the declared threshold.",
        "Free space, add devices, or run the scrub, whichever the condition is about.",
        event="Warning",
    ),
    Reason("WithinThreshold", _POOL, "The measured value is within the declared threshold.", "Nothing."),
    Reason("NoThreshold", _POOL, "No threshold is declared.", "Nothing."),
)

BY_NAME: dict[str, Reason] = {reason.name: reason for reason in REASONS}


def reason(name: str) -> Reason:
    """Return the entry of a reason. Raises KeyError for a word that is not in the table."""
    return BY_NAME[name]
