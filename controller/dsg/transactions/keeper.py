"""Keeping a repository in order between transactions: leftovers go, foreign things stay, old versions are pruned.

Runs at the operator's start and whenever something of a repository has changed. All of it follows from what is on disk
and from which transactions are live; nothing is remembered elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from dsg.audit.errors import AuditError
from dsg.manifests.header import Header
from dsg.storage.errors import Busy, HasDependents, Held
from dsg.storage.repository_type import Outline, Target
from dsg.storage.trees import Trees
from dsg.transactions.metadata import Metadata
from dsg.transactions.repository import Cleaned, TransactionType, VersionFound
from dsg.transactions.retention import Plan, Version, keep

MOST_PRUNED = 500
"""Versions that are destroyed in one go; what is left is due at once again."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A repository in order."""

    head: Header | None
    """The newest version; None before the first."""
    cleaned: Cleaned
    versions: int = 0
    """How many versions there are; 0 where they were not counted."""
    plan: Plan | None = None
    """What retention says of the versions that there were; None where they were not counted."""
    held: tuple[VersionFound, ...] = ()
    """Versions that retention would destroy, and that something holds."""
    pruned: tuple[str, ...] = ()
    """Versions that were destroyed just now."""


def prunable(plan: Plan, versions: Sequence[VersionFound]) -> tuple[list[str], list[VersionFound]]:
    """Return what can be destroyed of what retention lets go, oldest first, and what is held."""
    by_name = {version.name: version for version in versions}
    free = [name for name in plan.pruned if not by_name[name].held]
    return free, [by_name[name] for name in plan.pruned if by_name[name].held]


class Keeper:
    """Keeps the repositories of one storage type in order."""

    def __init__(self, kind: TransactionType, trees: Trees) -> None:
        self.kind = kind
        self._trees = trees

    def keep(
        self,
        target: Target,
        outline: Outline,
        live: Collection[str],
        in_use: Collection[str],
        now: datetime,
        versions: Sequence[VersionFound] | None,
        before_prune: Callable[[Sequence[str]], None] = lambda versions: None,
    ) -> Kept:
        """Put one repository in order. Needs its lock.

        `live` are the uids of transactions that are not over, `in_use` the versions that they work from. `versions` are
        all that there are, None where nothing is to be pruned. `before_prune` is told what goes, and an AuditError that
        it raises keeps it. Costs nothing but reading a small file where the outline shows the head alone.
        """
        cleaned = self.kind.clean(target, live) if outline.others or outline.doubtful else Cleaned()
        root = outline.root
        if not root:
            return Kept(None, cleaned)
        head = Metadata(self._trees, root).header()
        # A list that does not have the head is no ground to prune on.
        if head is None or versions is None or all(version.name != head.version for version in versions):
            return Kept(head, cleaned)
        line = [Version(version.name, version.time) for version in versions]
        plan = keep(line, target.spec.retention, now=now, head=head.version, in_use=in_use)
        free, held = prunable(plan, versions)
        pruned = free[:MOST_PRUNED]
        if pruned:
            try:
                before_prune(pruned)
                self.kind.prune(target, pruned)
            except (Held, HasDependents, Busy, AuditError):
                # Somebody took hold of one just now, and the next look tells which; or it can't be recorded now.
                pruned = []
        return Kept(head, cleaned, len(versions) - len(pruned), plan, tuple(held), tuple(pruned))
