"""Keys from Secrets, read when a pass needs them, and kept no longer than the pass.

There is no watch: the right to watch Secrets is the right to read all of them. Without its key a repository is of no
use, so its Secret is read at every look. While its key is loaded, the Secret only tells whether the key was replaced;
then it is read when the object has changed or a look was asked for, and else every five minutes, so that what reading
costs does not grow with how often ZFS or a watch calls for a look.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from dsg.api.names import RECONCILE_REQUESTED
from dsg.api.reasons import ConditionType
from dsg.api.repository import SecretEntry, StorageStatus, ZfsStorage
from dsg.reconcile.cluster import ClusterError, Forbidden, Gone, Raw, Secrets
from dsg.reconcile.conditions import State
from dsg.storage.keys import PREVIOUS, KeyNeed, Keys, WrappingKey, WrongLength
from dsg.storage.repository_type import Problem, Target

COMPARE_EVERY = timedelta(minutes=5)
"""How long a replaced key may go unseen when nobody asks for a look."""
TRY_EVERY = timedelta(days=1)
"""How long it may go unseen that somebody has given a repository another key by hand. To see it takes a process."""


_NOTHING = ""
"""Stands for a state of the object that none has, so that the next look is another one."""


@dataclass(frozen=True, slots=True)
class _Read:
    """When a Secret was last read, for which state of the object, and what was wrong with it. Never a key."""

    time: datetime
    asked: str
    problem: Problem | None


def entry_of(target: Target) -> SecretEntry | None:
    """Return the entry of a Secret that a repository's key is in; None where it is not in a Secret."""
    storage = target.spec.storage
    if not isinstance(storage, ZfsStorage) or storage.encryption is None:
        return None
    return storage.encryption.secret_ref


def keys_in(data: Mapping[str, str], entry: SecretEntry, namespace: str) -> Keys | Problem:
    """Return the keys that a Secret holds under an entry, or why there are none. No message shows any of them."""
    source = f"Secret {namespace}/{entry.name}, entry {entry.key}"
    current = _key(data, entry.key, source)
    previous = _key(data, entry.key + PREVIOUS, source + PREVIOUS) if entry.key + PREVIOUS in data else None
    if isinstance(current, Problem):
        return current
    return previous if isinstance(previous, Problem) else Keys(source, current, previous)


def _key(data: Mapping[str, str], entry: str, source: str) -> WrappingKey | Problem:
    if entry not in data:
        return Problem("KeyUnavailable", f"{source} does not exist; put the repository's raw key of 32 bytes there")
    try:
        return WrappingKey(base64.b64decode(data[entry], validate=True))
    except binascii.Error:
        return Problem("KeyInvalid", f"{source} is no base64, which the API server should have refused")
    except WrongLength as error:
        advice = "a line break at the end counts, and text such as hexadecimal is no raw key"
        return Problem("KeyInvalid", f"{source} is no key: {error}; {advice}")


class Keyring:
    """Reads Secrets for repositories. Not for use by several threads at once."""

    def __init__(self, secrets: Secrets | None, clock: Callable[[], datetime]) -> None:
        """Without `secrets`, every repository whose key is in one stays locked and says so."""
        self._secrets = secrets
        self._clock = clock
        self._last: dict[str, _Read] = {}
        self._tried: dict[str, tuple[datetime, str]] = {}

    def keys(self, target: Target, obj: Raw, need: KeyNeed) -> Keys | Problem | None:
        """Return what a repository's Secret holds, or why that can't be had; None when it is not to be read now.

        Raises ClusterError when the API server does not answer and the key is needed.
        """
        entry = entry_of(target)
        if entry is None or need is KeyNeed.NOTHING:
            return None
        asked, now, last = _asked(obj), self._clock(), self._last.get(target.uid)
        settled = last is not None and last.problem is None and last.asked == asked and now - last.time < COMPARE_EVERY
        if need is KeyNeed.COMPARISON and settled:
            return None
        try:
            found = self._read(target, entry)
        except ClusterError:
            if need is KeyNeed.COMPARISON:
                return None
            raise
        self._last[target.uid] = _Read(now, asked, found if isinstance(found, Problem) else None)
        return found

    def _read(self, target: Target, entry: SecretEntry) -> Keys | Problem:
        where = f"Secret {target.namespace}/{entry.name}"
        if self._secrets is None:
            return Problem("KeyForbidden", f"this operator was started without a way to read {where}")
        try:
            data = self._secrets.secret(target.namespace, entry.name)
        except Gone:
            text = f"{where} does not exist; create it with the repository's raw key of 32 bytes"
            return Problem("KeyUnavailable", text)
        except Forbidden:
            text = f"the node's operator may not get {where}; bind a Role for this one Secret, or the ClusterRole"
            return Problem("KeyForbidden", f"{text} dsg-operator-secrets, to it in namespace {target.namespace}")
        return keys_in(data, entry, target.namespace)

    def trial_due(self, target: Target, obj: Raw) -> bool:
        """Return whether it is time to try if the key still is the repository's; it then counts as tried.

        It is at the first look of this process, when the object has changed or a look was asked for, and each day.
        """
        asked, now = _asked(obj), self._clock()
        time, before = self._tried.get(target.uid, (now, None))
        if before == asked and now - time < TRY_EVERY:
            return False
        self._tried[target.uid] = (now, asked)
        return True

    def unsettled(self, target: Target) -> None:
        """Have the next look read and try again: this one did not come to its end."""
        if (last := self._last.get(target.uid)) is not None:
            self._last[target.uid] = replace(last, asked=_NOTHING)
        self._tried.pop(target.uid, None)

    def problem(self, target: Target) -> Problem | None:
        """Return what was wrong with a repository's Secret when it was last read."""
        last = self._last.get(target.uid)
        return last.problem if last is not None else None

    def forget(self, present: set[str]) -> None:
        """Drop what is known of objects that are gone; `present` are uids."""
        self._last = {uid: read for uid, read in self._last.items() if uid in present}
        self._tried = {uid: tried for uid, tried in self._tried.items() if uid in present}


def lock_state(target: Target, storage: StorageStatus | None, keyring: Keyring) -> State | None:
    """Return what the condition Unlocked says of an encrypted repository; None when that is not known."""
    if not isinstance(target.spec.storage, ZfsStorage) or target.spec.storage.encryption is None:
        return None
    if storage is None or not storage.key:
        return None
    if storage.key == "Locked":
        text = (
            f"the key of {storage.location} is not in memory: nothing of it can be read or written, and nothing is lost"
        )
        return State(ConditionType.UNLOCKED, False, "KeyLocked", text)
    if (problem := keyring.problem(target)) is not None:
        text = f"the key is in memory, and would not be found again after a reboot: {problem.message}"
        return State(ConditionType.UNLOCKED, True, "KeyAtRisk", text)
    return State(ConditionType.UNLOCKED, True, "KeyLoaded", f"the key of {storage.location} is in memory")


def _asked(obj: Raw) -> str:
    metadata = obj["metadata"]
    return f"{metadata.get('generation', 0)} {(metadata.get('annotations') or {}).get(RECONCILE_REQUESTED, '')}"
