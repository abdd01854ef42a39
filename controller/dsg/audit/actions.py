"""What is recorded, in one table; docs/audit.md repeats it, and a test compares them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    """What happened."""

    LOG_BEGUN = "log.begun"
    LOG_CONTINUED = "log.continued"
    LOG_REPAIRED = "log.repaired"
    LOG_LATE = "log.late"
    STARTED = "process.started"
    STOPPED = "process.stopped"
    TRANSACTION_OPENED = "transaction.opened"
    TRANSACTION_COMMITTING = "transaction.committing"
    TRANSACTION_COMMITTED = "transaction.committed"
    TRANSACTION_CONFLICT = "transaction.conflict"
    TRANSACTION_ABORTED = "transaction.aborted"
    TRANSACTION_EXPIRED = "transaction.expired"
    TRANSACTION_FAILED = "transaction.failed"
    TRANSACTION_REFUSED = "transaction.refused"
    READ_ADMITTED = "read.admitted"
    READ_CLOSED = "read.closed"
    REPOSITORY_CREATED = "repository.created"
    REPOSITORY_ADOPTED = "repository.adopted"
    REPOSITORY_CHANGED = "repository.changed"
    REPOSITORY_REVEALED = "repository.revealed"
    REPOSITORY_RELEASING = "repository.releasing"
    REPOSITORY_RELEASED = "repository.released"
    REPOSITORY_DESTROYING = "repository.destroying"
    REPOSITORY_DESTROYED = "repository.destroyed"
    REPOSITORY_REFUSED = "repository.refused"
    DRIFT_CORRECTED = "drift.corrected"
    VERSIONS_PRUNING = "versions.pruning"
    VERSIONS_PRUNED = "versions.pruned"
    CLIENT_SHOWN = "client.shown"
    TRANSFER_BEGUN = "transfer.begun"
    TRANSFER_ENDED = "transfer.ended"
    CLIENT_REFUSED = "client.refused"


@dataclass(frozen=True, slots=True)
class About:
    """What an action means."""

    writer: str
    """`operator`, `data-plane`, or `both`."""
    means: str
    required: bool = False
    """Whether what it announces is not done where it can't be recorded first."""


ABOUT: dict[Action, About] = {
    Action.LOG_BEGUN: About("both", "The log's first record. `log` is a random name that all its records carry."),
    Action.LOG_CONTINUED: About("both", "The first record of a new file after a rotation."),
    Action.LOG_REPAIRED: About(
        "both", "A crash had left bytes that are no record; they stay, and this says how many, with their SHA-256."
    ),
    Action.LOG_LATE: About(
        "both",
        "Records could not be written for a while. Those that follow with `late` happened then; `lost` counts others.",
    ),
    Action.STARTED: About("both", "The process has started, of which version of dsg.", required=True),
    Action.STOPPED: About("both", "It was told to stop and did. A start without a stop before it: it was killed."),
    Action.TRANSACTION_OPENED: About("operator", "A transaction may send content.", required=True),
    Action.TRANSACTION_COMMITTING: About("operator", "The head is about to move.", required=True),
    Action.TRANSACTION_COMMITTED: About(
        "operator",
        "It has its version; on disk before the transaction says Committed. `operation` tells a restore.",
        True,
    ),
    Action.TRANSACTION_CONFLICT: About("operator", "It ended because others had changed the same paths.", True),
    Action.TRANSACTION_ABORTED: About("operator", "It ended as its author asked.", True),
    Action.TRANSACTION_EXPIRED: About("operator", "It was not committed in time.", True),
    Action.TRANSACTION_FAILED: About("operator", "It can't be committed as it is; `reason` says why.", True),
    Action.TRANSACTION_REFUSED: About("operator", "Its author may not do this, or its spec is invalid.", True),
    Action.READ_ADMITTED: About("operator", "A version may be read.", required=True),
    Action.READ_CLOSED: About("operator", "It can't be read by that transaction any more.", True),
    Action.REPOSITORY_CREATED: About("operator", "Storage was made; `steps` lists what was done."),
    Action.REPOSITORY_ADOPTED: About("operator", "Data that was there was taken over."),
    Action.REPOSITORY_CHANGED: About("operator", "A change of the spec was carried out."),
    Action.REPOSITORY_REVEALED: About("operator", "Mounts, links or keys were put in place again, as after a reboot."),
    Action.REPOSITORY_RELEASING: About("operator", "The object is being deleted and its data kept.", required=True),
    Action.REPOSITORY_RELEASED: About("operator", "That is done; `where` says where the data is."),
    Action.REPOSITORY_DESTROYING: About("operator", "Its data is about to be destroyed, as confirmed.", required=True),
    Action.REPOSITORY_DESTROYED: About("operator", "That is done."),
    Action.REPOSITORY_REFUSED: About("operator", "It may not be placed where it says; `message` says why."),
    Action.DRIFT_CORRECTED: About(
        "operator", "What somebody had changed on the node by hand was set back; from what to what."
    ),
    Action.VERSIONS_PRUNING: About("operator", "Versions are about to be destroyed by retention.", required=True),
    Action.VERSIONS_PRUNED: About("operator", "That is done."),
    Action.CLIENT_SHOWN: About("data-plane", "A client has shown the certificate that its transaction names.", True),
    Action.TRANSFER_BEGUN: About("data-plane", "The first request of a transaction from an address.", required=True),
    Action.TRANSFER_ENDED: About("data-plane", "It is over, with its requests, bytes and refusals."),
    Action.CLIENT_REFUSED: About(
        "data-plane",
        "A request was refused: at most one record a minute for a code, an address and a transaction; `times` counts.",
    ),
}
