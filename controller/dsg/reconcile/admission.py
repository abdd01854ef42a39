"""Whether a Repository may be placed where it says: which StoragePool offers the place, and to whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dsg.api.repository import ZfsStorage
from dsg.api.rules import below
from dsg.api.storagepool import StoragePoolSpec, ZfsPoolStorage
from dsg.storage.repository_type import Problem, Target


@dataclass(frozen=True, slots=True)
class Offer:
    """One StoragePool, oldest first where they are sorted by `since` and name."""

    name: str
    since: str
    spec: StoragePoolSpec


def same_storage(offer: Offer, target: Target) -> bool:
    """Return whether a StoragePool is about the storage that a Repository names."""
    theirs, mine = offer.spec.storage, target.spec.storage
    if theirs.type != mine.type or theirs.node != mine.node:
        return False
    if isinstance(theirs, ZfsPoolStorage) and isinstance(mine, ZfsStorage):
        return theirs.pool == mine.pool
    return True


def _root(offer: Offer) -> str:
    storage = offer.spec.storage
    return storage.root if isinstance(storage, ZfsPoolStorage) else storage.directory


def _place(target: Target) -> str:
    storage = target.spec.storage
    return storage.dataset if isinstance(storage, ZfsStorage) else storage.directory


def contains(offer: Offer, target: Target) -> bool:
    """Return whether the Repository's place is directly below the StoragePool's root."""
    return same_storage(offer, target) and _place(target).rpartition("/")[0] == _root(offer)


def shadowed(offers: Iterable[Offer]) -> Mapping[str, str]:
    """Return the StoragePools whose root an older one offers already, each with the older one's name."""
    first: dict[tuple[str, str, str], str] = {}
    late: dict[str, str] = {}
    for offer in sorted(offers, key=lambda o: (o.since, o.name)):
        storage = offer.spec.storage
        key = (storage.type, storage.node, _root(offer))
        if key in first:
            late[offer.name] = first[key]
        else:
            first[key] = offer.name
    return late


def refusal(target: Target, offers: Iterable[Offer], labels: Mapping[str, str] | None) -> Problem | None:
    """Return why a Repository may not be placed where it says; None when it may.

    `labels` are those of its namespace; None while they are not known.
    """
    offers = list(offers)
    late = shadowed(offers)
    usable = [offer for offer in sorted(offers, key=lambda o: (o.since, o.name)) if offer.name not in late]
    alike = [offer for offer in usable if same_storage(offer, target)]
    storage, place = target.spec.storage, _place(target)
    if not alike:
        what = f"pool {storage.pool}" if isinstance(storage, ZfsStorage) else "xfs storage"
        return Problem("PoolNotDeclared", f"no StoragePool declares {what} on node {storage.node}")
    around = [offer for offer in alike if contains(offer, target)]
    if not around:
        roots = ", ".join(sorted(f"{_root(offer)} (StoragePool {offer.name})" for offer in alike))
        return Problem("OutsidePool", f"{place} must lie directly below a declared root: {roots}")
    offer = around[0]
    if not below(storage.mountpoint, offer.spec.storage.mount_root):
        return Problem(
            "OutsidePool",
            f"mountpoint {storage.mountpoint} must lie below {offer.spec.storage.mount_root}, the mountRoot of "
            f"StoragePool {offer.name}",
        )
    if labels is None or not offer.spec.namespace_selector.admits(dict(labels)):
        return Problem(
            "NamespaceNotAdmitted",
            f"StoragePool {offer.name} does not admit namespace {target.namespace}: its namespaceSelector does not "
            f"match the namespace's labels",
        )
    return None


SETTLE_SECONDS = 15.0
"""For how long a new Repository waits for its StoragePool and for its namespace's labels before a person must act."""

_MAY_COME = frozenset({"PoolNotDeclared", "OutsidePool", "NamespaceNotAdmitted"})


def patient(problem: Problem | None, *, existed: bool, age: float) -> Problem | None:
    """Return what is to be said of a refusal, when the Repository is `age` seconds old.

    Who applies a Repository, its StoragePool and its namespace together can't say in which order they are seen here. A
    moment's Ready=False would fail a sync wave of Argo CD and a Flux Kustomization that waits.
    """
    if problem is None or existed or age >= SETTLE_SECONDS or problem.reason not in _MAY_COME:
        return problem
    return Problem("AwaitingPool", f"{problem.reason}, unless that comes within moments: {problem.message}")
