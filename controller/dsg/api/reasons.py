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
TRANSACTION = "SyncTransaction"


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
    UNEXPECTED_DATA = "UnexpectedData"
    UNLOCKED = "Unlocked"


CONDITION_TYPES: dict[ConditionType, tuple[tuple[str, ...], str]] = {
    ConditionType.READY: (
        (REPOSITORY, POOL, TRANSACTION),
        "The object as a whole: actual state is what was declared. Of a SyncTransaction: it is committed.",
    ),
    ConditionType.RECONCILING: (
        (REPOSITORY, POOL, TRANSACTION),
        "The operator is working towards the declared state (kstatus).",
    ),
    ConditionType.STALLED: (
        (REPOSITORY, POOL, TRANSACTION),
        "The operator can't go on until a person acts (kstatus). Of a SyncTransaction: it ended without a version.",
    ),
    ConditionType.DRIFTED: ((REPOSITORY,), "Somebody changed policy on the node by hand and it still differs."),
    ConditionType.SUSPENDED: ((REPOSITORY,), "The operator only looks, because the spec says suspend: true."),
    ConditionType.UNEXPECTED_DATA: (
        (REPOSITORY,),
        "Something that no transaction made lies in the repository. It is kept.",
    ),
    ConditionType.UNLOCKED: (
        (REPOSITORY,),
        "The key of an encrypted repository is in the node's memory. Absent where spec.storage.encryption is.",
    ),
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
_TX = (TRANSACTION,)

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
        (REPOSITORY, POOL, TRANSACTION),
        "The object breaks a rule of the schema: it was written before the rule, or past the API server's validation.",
        "Correct the fields that the message names.",
        _S,
        "Warning",
    ),
    Reason(
        "AwaitingPool",
        _REPO,
        "No StoragePool admits the repository, which is only seconds old: they may have been applied together.",
        "Nothing yet. If it is not admitted soon, the reason becomes the one that the message names.",
        _W,
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
        "The encryption key is not there: its file on the node, its Secret, or the Secret's entry.",
        "Put the key in place; the operator tries again by itself.",
        _S,
        "Warning",
    ),
    Reason(
        "KeyForbidden",
        _REPO,
        "The node's operator may not read the Secret that holds the encryption key.",
        "Give it the right to get that one Secret (docs/encryption.md); the operator tries again by itself.",
        _S,
        "Warning",
    ),
    Reason(
        "KeyInvalid",
        _REPO,
        "What the Secret's entry holds is no raw key of exactly 32 bytes.",
        "Put the raw key there, without a line break: kubectl create secret generic NAME --from-file=ENTRY=FILE.",
        _S,
        "Warning",
    ),
    Reason(
        "KeyWrong",
        _REPO,
        "The key that was found does not open the repository, which stays locked. Nothing is lost.",
        "Put the right key in place, or the one before beside it (docs/encryption.md); the operator tries again by "
        "itself.",
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
    # Unlocked
    Reason(
        "KeyLoaded",
        _REPO,
        "The repository's key is in the node's memory.",
        "Nothing.",
        condition=ConditionType.UNLOCKED,
    ),
    Reason(
        "KeyAtRisk",
        _REPO,
        "The key is in the node's memory, but its Secret can't be read or holds none: after the next reboot the "
        "repository would stay locked.",
        "Put the key back into the Secret while the repository is open; until then, do not reboot the node.",
        event="Warning",
        condition=ConditionType.UNLOCKED,
    ),
    Reason(
        "KeyLocked",
        _REPO,
        "The key is not in the node's memory; Ready says why. Nothing can be read or written, and nothing is lost.",
        "As Ready says.",
        condition=ConditionType.UNLOCKED,
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
    # UnexpectedData
    Reason(
        "NothingUnexpected",
        _REPO,
        "All that lies in the repository was made by transactions.",
        "Nothing.",
        condition=ConditionType.UNEXPECTED_DATA,
    ),
    Reason(
        "KeptForeign",
        _REPO,
        "Something that no transaction made lies in the repository: snapshots, datasets, files written by hand. It is "
        "never removed, and keeps what it hangs on: an old generation, or a version that retention would prune.",
        "Look at what the message names. Copy what is needed into a working copy and sync it; remove the rest by hand.",
        event="Warning",
        condition=ConditionType.UNEXPECTED_DATA,
    ),
    Reason(
        "Pruned",
        _REPO,
        "Versions that spec.retention does not keep were destroyed; the message names them.",
        "Nothing.",
        event="Normal",
    ),
    # SyncTransaction
    Reason("Staged", _TX, "The transaction is open and takes content.", "Send content, then commit.", _W, "Normal"),
    Reason("Serving", _TX, "The version can be read until the client says Abort.", "Nothing.", _W),
    Reason("Closed", _TX, "The client has read what it wanted.", "Nothing.", _R),
    Reason(
        "DataPlaneNotReady",
        _TX,
        "The operator has a data plane to offer, and that has not started yet. The transaction waits.",
        "Look whether dsg-data-plane runs on the node, with the directory of grants that the operator has.",
        _W,
        "Warning",
    ),
    Reason(
        "DataPlaneMissing",
        _TX,
        "The node's operator was started without a data plane, so nothing can be read from it.",
        "Start dsg-data-plane on the node, and the operator with --grants and --endpoint.",
        _S,
        "Warning",
    ),
    Reason("Verifying", _TX, "What was sent is verified and put in place.", "Nothing.", _W),
    Reason(
        "Committing", _TX, "The head is about to move; or that was refused for now and is tried again.", "Nothing.", _W
    ),
    Reason("Committed", _TX, "The transaction has its version, and readers see it.", "Nothing.", _R, "Normal"),
    Reason(
        "NothingToChange",
        _TX,
        "The head already is what the transaction leads to, so that no version was made.",
        "Nothing.",
        _R,
        "Normal",
    ),
    Reason(
        "RepositoryNotFound",
        _TX,
        "There is no Repository of that name on this node. The transaction waits for it until its timeout.",
        "Correct repositoryRef in a new transaction, or apply the Repository.",
        _W,
        "Warning",
    ),
    Reason(
        "RepositoryNotReady",
        _TX,
        "The Repository is not ready, suspended, or being deleted; its conditions say why. The transaction waits.",
        "Look at the Repository's conditions.",
        _W,
        "Warning",
    ),
    Reason(
        "WriterActive",
        _TX,
        "Content that is to be committed is still open for writing.",
        "Nothing, when the client ends by itself; else end the process that writes.",
        _W,
    ),
    Reason(
        "StagingFailed",
        _TX,
        "A storage command failed. Nothing was committed, and it is tried again until the transaction's timeout.",
        "Read the message: a full pool needs space, a suspended one its devices.",
        _W,
        "Warning",
    ),
    Reason(
        "AuditUnavailable",
        _TX,
        "The node's audit log can't be written. What must be recorded is not done before it is.",
        "Read the message: a full disk needs space. It is tried again until the transaction's timeout.",
        _W,
        "Warning",
    ),
    Reason(
        "PathsConflict",
        _TX,
        "Others have committed other changes of the same paths; status.conflicts names them. Nothing was committed.",
        "Resolve them in the working copy on top of the head, and sync again.",
        _S,
        "Warning",
    ),
    Reason(
        "AlreadyInitialized",
        _TX,
        "The repository has a version already.",
        "Clone it, and sync what is to be added.",
        _S,
        "Warning",
    ),
    Reason("Aborted", _TX, "The client gave up. Nothing was committed.", "Nothing.", _S, "Normal"),
    Reason(
        "Expired",
        _TX,
        "The transaction was not committed within its timeout. Nothing was committed.",
        "Open a new one, with a longer timeout if the content needs it.",
        _S,
        "Warning",
    ),
    Reason(
        "AccessDenied",
        _TX,
        "The author is not among those whom the Repository's spec.access admits.",
        "Ask who administers the Repository.",
        _S,
        "Warning",
    ),
    Reason(
        "WrongNode", _TX, "The Repository is on another node than spec.node says.", "Open a new one.", _S, "Warning"
    ),
    Reason(
        "BaseGone",
        _TX,
        "The version that the transaction starts from, or restores, does not exist or was pruned.",
        "Clone or fetch the head, and open a transaction from there.",
        _S,
        "Warning",
    ),
    Reason(
        "ManifestWrong",
        _TX,
        "The list of changes is missing or invalid, or does not lead to the tree that was declared.",
        "Open a new transaction. If it happens again, report it with the message.",
        _S,
        "Warning",
    ),
    Reason(
        "ContentMissing",
        _TX,
        "Content that the list of changes needs was not sent. Nothing was committed.",
        "Open a new transaction and send it.",
        _S,
        "Warning",
    ),
    Reason(
        "ContentWrong",
        _TX,
        "Content that was sent has another digest or size than the list of changes says. Nothing was committed.",
        "Open a new transaction and send it again; if it happens again, check the client's disk and memory.",
        _S,
        "Warning",
    ),
    Reason(
        "TransactionQuota",
        _TX,
        "The transaction, or the repository, has reached its quota. Nothing was committed.",
        "Send less at once, or ask the platform team to raise the quota that the message names.",
        _S,
        "Warning",
    ),
    Reason(
        "CommitRefused",
        _TX,
        "The storage refused the commit for a reason that does not pass by itself. Nothing was committed.",
        "Do what the message says, then open a new transaction.",
        _S,
        "Warning",
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
