"""Keys from Secrets, as a pure function: what is loaded and what the Secret holds, in; steps, out.

The dataset's property `org.hrdag.dsg:key` says which key it is known to have. It is written after the key was replaced,
so it may be one behind, and only the dataset itself can tell: `ReplaceKey` asks it first.
"""

from __future__ import annotations

from dataclasses import dataclass

from dsg.api.repository import ZfsStorage
from dsg.storage.keys import PREVIOUS, KeyNeed, Keys
from dsg.storage.repository_type import Cause, Finding, Problem, Step, Target
from dsg.storage.zfs import layout
from dsg.storage.zfs.interface import Dataset
from dsg.storage.zfs.observation import Observation, storage_of
from dsg.storage.zfs.steps import LoadKey, LoadKeyOf, ReplaceKey

LOCKED, LOADED = "Locked", "Loaded"
_STATES = {"available": LOADED, "unavailable": LOCKED}


def state(parent: Dataset) -> str:
    """Return whether a dataset's key is in memory: `LOADED` or `LOCKED`; "" for one that is not encrypted."""
    return _STATES.get(parent.value("keystatus") or "", "")


def from_secret(storage: ZfsStorage) -> bool:
    """Return whether the repository's key is in a Secret."""
    return storage.encryption is not None and storage.encryption.secret_ref is not None


def need(target: Target, observed: Observation) -> KeyNeed:
    """Return what planning needs of the target's Secret."""
    storage = storage_of(target)
    if not from_secret(storage) or observed.pool is None:
        return KeyNeed.NOTHING
    if observed.parent is None:
        return KeyNeed.NOTHING if target.existed else KeyNeed.ACCESS
    return {LOCKED: KeyNeed.ACCESS, LOADED: KeyNeed.COMPARISON}.get(state(observed.parent), KeyNeed.NOTHING)


def given(target: Target) -> Keys | Problem | None:
    """Return what is to be used of the target's Secret: None where none is named, a problem where it can't be had."""
    if not from_secret(storage_of(target)):
        return None
    if target.keys is None:
        return Problem("KeyUnavailable", f"the Secret of {target.identity} was not read for this look")
    return target.keys


def identifying(target: Target, keys: Keys) -> dict[str, str]:
    """Return the user property that says which key a dataset has."""
    return {layout.KEY: keys.current.fingerprint(target.identity)}


@dataclass(frozen=True, slots=True)
class KeyPlan:
    """What is to be done about a repository's key."""

    steps: tuple[Step, ...] = ()
    drift: tuple[Finding, ...] = ()
    problem: Problem | None = None
    """Why it stays locked."""


def plan(target: Target, storage: ZfsStorage, parent: Dataset) -> KeyPlan:
    """Return the steps to a dataset whose key is loaded and is the Secret's, or why it stays locked."""
    if state(parent) == LOCKED:
        return _unlocking(target, storage, parent)
    if state(parent) != LOADED or not isinstance(keys := target.keys, Keys) or not from_secret(storage):
        return KeyPlan()
    fingerprint = keys.current.fingerprint(target.identity)
    if parent.local(layout.KEY) != fingerprint:
        return KeyPlan((ReplaceKey(Cause.CHANGE, parent.name, keys.source, fingerprint, keys.current),))
    if keys.fits is not False:
        return KeyPlan()
    # It had this key once, and somebody has given it another by hand: after a reboot nobody could open it.
    finding = Finding(parent.name, "wrapping key", f"that of {keys.source}", "another")
    step = ReplaceKey(Cause.DRIFT, parent.name, keys.source, fingerprint, keys.current, findings=(finding,))
    return KeyPlan((step,) if target.spec.drift_policy == "Correct" else (), (finding,))


def _unlocking(target: Target, storage: ZfsStorage, parent: Dataset) -> KeyPlan:
    if not from_secret(storage):
        return KeyPlan((LoadKey(Cause.REVEAL, parent.name),))
    keys = given(target)
    if not isinstance(keys, Keys):
        return KeyPlan(problem=keys)
    tried = (keys.current,) if keys.previous is None else (keys.current, keys.previous)
    hint = f"put the key that opens it into the Secret's entry, or into the one with {PREVIOUS} after its name"
    return KeyPlan((LoadKeyOf(Cause.REVEAL, parent.name, keys.source, tried, hint),))
