"""Who may open which transaction, as far as the operator can tell: it knows the author's name, not the groups.

Groups are known when an object is created, to the API server alone: the ValidatingAdmissionPolicy that comes with the
CRDs checks them, and that the author is the requester. This second look keeps out authors that no rule could admit. A
transaction that was opened before its Repository could be asked was not checked by the policy, so groups don't count
for it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from dsg.api.repository import Access, RepositorySpec, Subjects

CERTAIN_AFTER = timedelta(seconds=10)
"""How much younger than its Repository a transaction must be to have been checked against it: creation times are whole
seconds, and the API server hears of a new Repository a moment later than it stores it.
"""


def refusal(repository: RepositorySpec, since: datetime, author: str, operation: str, opened: datetime) -> str | None:
    """Return why an author may not make a transaction; None when they may, or may by a group.

    `since` and `opened` are the creation times of Repository and transaction.
    """
    access = repository.access
    if access is None:
        return None
    admitted = [subjects for subjects in _admitted(access, operation) if subjects is not None]
    if any(author in subjects.users for subjects in admitted):
        return None
    if any(subjects.groups for subjects in admitted):
        if opened >= since + CERTAIN_AFTER:
            return None
        return (
            f"opened before, or within {CERTAIN_AFTER.seconds} s of, the creation of the Repository, when the groups "
            f"of {author} could not be checked; open a new one"
        )
    needed = _NEEDED[operation]
    return f"{author} is not among the {needed} of the repository (spec.access); ask who administers it"


def seconds_until_certain(
    repository: RepositorySpec, since: datetime, author: str, operation: str, now: datetime
) -> float:
    """Return how long a client does well to wait with a transaction; 0 where that changes nothing."""
    early, late = (refusal(repository, since, author, operation, at) for at in (now, since + CERTAIN_AFTER))
    if early is None or late is not None:
        return 0.0
    # A clock that is behind is not waited for.
    return min(since + CERTAIN_AFTER - now, CERTAIN_AFTER).total_seconds()


_NEEDED = {
    "Restore": "admins",
    "Sync": "writers or admins",
    "Init": "writers or admins",
    "Read": "readers, writers or admins",
}


def _admitted(access: Access, operation: str) -> tuple[Subjects | None, ...]:
    match operation:
        case "Restore":
            return (access.admins,)
        case "Read":
            return access.admins, access.writers, access.readers
        case _:
            return access.admins, access.writers
