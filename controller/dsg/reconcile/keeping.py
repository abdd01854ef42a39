"""When a repository is put in order, by whom its transactions are told to be live, and what comes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from opentelemetry import trace

from dsg.api.reasons import TRANSACTION
from dsg.audit.actions import Action
from dsg.audit.auditor import Audit, NoAudit
from dsg.reconcile.audit_entries import versions_entry
from dsg.reconcile.cluster import EventDraft, Raw
from dsg.reconcile.ledger import Entry, Ledger
from dsg.reconcile.store import Store
from dsg.reconcile.times import rfc3339
from dsg.storage.repository_type import Outline, Target
from dsg.transactions.keeper import Keeper, Kept
from dsg.transactions.repository import VersionFound

LOOK_AGAIN = timedelta(hours=1)
"""How often versions are counted anew where periods of time decide about them."""
SOON = timedelta(seconds=60)
"""When they are counted after a new version, and when what is in use is tried again."""
ENDS = frozenset({"Committed", "Closed", "Conflict", "Aborted", "Expired", "Failed"})
"""Phases in which a transaction is over."""
_NAMED = 20

_tracer = trace.get_tracer("dsg.reconcile")
_log = structlog.get_logger("dsg.reconcile")


@dataclass(frozen=True, slots=True)
class Live:
    """The transactions of one repository that are not over."""

    uids: frozenset[str] = frozenset()
    bases: frozenset[str] = frozenset()
    """Versions that they work from."""


def over(obj: Raw) -> bool:
    """Return whether a SyncTransaction is over."""
    return (obj.get("status") or {}).get("phase") in ENDS


def repository_of(obj: Raw) -> str:
    """Return the identity of the Repository that a SyncTransaction is about, as far as it says."""
    name = ((obj.get("spec") or {}).get("repositoryRef") or {}).get("name", "")
    return f"{obj['metadata'].get('namespace', '')}/{name}"


class Keeping:
    """Puts repositories in order and remembers what came of it."""

    def __init__(self, keepers: Mapping[str, Keeper], store: Store, ledger: Ledger, audit: Audit | None = None) -> None:
        """`keepers` are by storage type."""
        self._audit = audit if audit is not None else NoAudit()
        self._keepers = keepers
        self._store = store
        self._ledger = ledger

    def due(self, target: Target, outline: Outline, generation: int, now: datetime) -> bool:
        """Return whether a repository is to be put in order: what is there has changed, or time has passed."""
        if target.spec.suspend or target.spec.storage.type not in self._keepers or not outline.generation:
            return False
        entry = self._ledger.get(target.uid)
        late = entry.due is not None and now >= entry.due
        return late or (entry.outline, entry.generation) != (outline, generation)

    def count(self, targets: Sequence[Target], now: datetime) -> Mapping[str, Sequence[VersionFound]]:
        """Return the versions of those repositories in which they are to be counted now, by identity."""
        wanted: dict[str, list[Target]] = {}
        for target in targets:
            entry = self._ledger.get(target.uid)
            if entry.counted is None or entry.due is None or now >= entry.due:
                wanted.setdefault(target.spec.storage.type, []).append(target)
        found: dict[str, Sequence[VersionFound]] = {}
        for kind, group in wanted.items():
            found.update(self._keepers[kind].kind.versions(group))
        return found

    def keep(
        self,
        target: Target,
        outline: Outline,
        generation: int,
        now: datetime,
        versions: Sequence[VersionFound] | None = None,
    ) -> list[EventDraft]:
        """Put one repository in order and return the Events that tell of it. Needs its lock. Raises StorageError."""
        # Asked with the lock held, without which no stage is made: none can come up that this does not know of.
        live = self.live(target)
        old = self._ledger.get(target.uid)
        attributes = {"dsg.repository": target.identity}
        with _tracer.start_as_current_span("keep in order", attributes=attributes):
            keeper = self._keepers[target.spec.storage.type]
            kept = keeper.keep(
                target,
                outline,
                live.uids,
                live.bases,
                now,
                versions,
                lambda names: self._audit.require(versions_entry(Action.VERSIONS_PRUNING, target, names)),
            )
        if kept.pruned:
            self._audit.tell(versions_entry(Action.VERSIONS_PRUNED, target, kept.pruned))
        pruned_at = rfc3339(now) if kept.pruned else old.pruned_at
        counted = kept if kept.plan is not None else old.counted
        new = Entry(
            outline, kept, counted, self._next(target, kept, old, now), generation, kept.pruned or old.pruned, pruned_at
        )
        self._ledger.put(target.uid, new)
        self._tell(target, kept)
        return _events(kept, old)

    @staticmethod
    def _next(target: Target, kept: Kept, old: Entry, now: datetime) -> datetime | None:
        if kept.cleaned.waits or (kept.plan is not None and len(kept.plan.pruned) > len(kept.pruned) + len(kept.held)):
            return now + SOON
        if kept.head is None or target.spec.retention is None:
            return None
        if kept.plan is not None:
            return now + LOOK_AGAIN
        # A new version: counted soon, and not at each of many that follow each other.
        soon = now + SOON
        return min(old.due, soon) if old.due is not None else soon

    @staticmethod
    def _tell(target: Target, kept: Kept) -> None:
        if kept.cleaned.removed:
            _log.info("removed what was over", repository=target.identity, names=list(kept.cleaned.removed))
        if kept.pruned:
            _log.info("versions pruned", repository=target.identity, versions=list(kept.pruned))

    def live(self, target: Target) -> Live:
        """Return the transactions of a repository that are not over. Complete only while its lock is held.

        One that can't be understood is live: its stage is not removed.
        """
        found = [o for o in self._store.of_kind(TRANSACTION) if not over(o) and repository_of(o) == target.identity]
        bases = {str(o["spec"][name]) for o in found for name in ("base", "restore") if o["spec"].get(name)}
        return Live(frozenset(str(o["metadata"]["uid"]) for o in found), frozenset(bases))

    def open_counts(self) -> Counter[str]:
        """Return how many transactions of each repository are not over, by its identity."""
        return Counter(repository_of(obj) for obj in self._store.of_kind(TRANSACTION) if not over(obj))


def _events(kept: Kept, old: Entry) -> list[EventDraft]:
    events = []
    if kept.pruned:
        names = ", ".join(kept.pruned[:_NAMED]) + (" …" if len(kept.pruned) > _NAMED else "")
        events.append(EventDraft("Pruned", f"{len(kept.pruned)} versions were destroyed by spec.retention: {names}"))
    told = old.kept.cleaned.kept if old.kept is not None else ()
    new = [phrase for phrase in kept.cleaned.kept if phrase not in told]
    if new:
        events.append(EventDraft("KeptForeign", "; ".join(new[:_NAMED])))
    return events
