"""What a repository type can do: observe many repositories at once, plan purely, apply small idempotent steps.

A new type is one module that implements `RepositoryType` (storage/zfs/repository.py, storage/xfs/repository.py). The
planning methods are pure: they read their arguments alone and can be called anywhere, a dry run included.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from dsg.api.repository import RepositorySpec, StorageStatus
from dsg.storage.keys import KeyNeed, Keys


@dataclass(frozen=True, slots=True)
class Problem:
    """Why the plan stops short; `reason` stands in `dsg.api.reasons`."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Target:
    """One repository as it should be."""

    namespace: str
    name: str
    uid: str
    """metadata.uid of the Repository object."""
    spec: RepositorySpec
    existed: bool = False
    """Whether the object's status says that the data has existed; it is then never created anew."""
    keys: Keys | Problem | None = None
    """What its Secret holds, or why that can't be had; None where it was not read for this look."""

    @property
    def identity(self) -> str:
        """Return what is written on disk to say whose data it is: `namespace/name`."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One hand-made difference between what was declared and what was found."""

    subject: str
    """Dataset or path."""
    field: str
    """Property or attribute."""
    wanted: str
    found: str

    def __str__(self) -> str:
        """Return the difference as a person reads it: from what to what."""
        return f"{self.field} of {self.subject}: {self.found} → {self.wanted}"


class Cause(StrEnum):
    """Why a step is taken."""

    CREATE = "create"
    """The repository is new."""
    ADOPT = "adopt"
    """Existing data is taken over."""
    CHANGE = "change"
    """The spec changed."""
    DRIFT = "drift"
    """Somebody changed policy on the node by hand."""
    REVEAL = "reveal"
    """Mounts and links have to be made again, after a reboot for example."""
    REMOVE = "remove"
    """The object is being deleted."""


class Step(Protocol):
    """One idempotent act, as a value that describes itself."""

    @property
    def cause(self) -> Cause:
        """Return why it is taken."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Return the hand-made differences that it sets back; empty when it does not correct drift."""

    def describe(self) -> str:
        """Return what the step does, in one line, for dry runs, spans and logs."""


@dataclass(frozen=True, slots=True)
class StepBase(ABC):
    """What the steps of all repository types share; how one is taken is its own kind's matter."""

    cause: Cause
    findings: tuple[Finding, ...] = field(default=(), kw_only=True)

    @abstractmethod
    def describe(self) -> str:
        """Return what the step does, in one line."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done, as data: nothing has happened yet."""

    steps: tuple[Step, ...] = ()
    drift: tuple[Finding, ...] = ()
    """Every hand-made difference, whether or not a step corrects it."""
    problem: Problem | None = None
    """Set when the steps, even if all succeed, do not lead to what was declared."""

    @property
    def reported(self) -> tuple[Finding, ...]:
        """Return the differences that no step corrects."""
        corrected = {finding for step in self.steps for finding in step.findings}
        return tuple(finding for finding in self.drift if finding not in corrected)


@dataclass(frozen=True, slots=True)
class Outline:
    """What was seen of a repository's versions: enough to tell whether anything has changed or is to be cleaned."""

    generation: str = ""
    """The generation that carries the head; "" where there is none."""
    version: str = ""
    """The version that it carries, where that is recorded beside it."""
    root: str = ""
    """Directory of the head's tree; "" while it can't be read."""
    others: tuple[str, ...] = ()
    """What lies beside the head: other generations, parts of transactions, foreign things."""
    doubtful: str = ""
    """What suggests that the head was written to past the transactions; "" when nothing does."""


class RepositoryType(Protocol):
    """One kind of storage. Errors are those of `dsg.storage.errors`."""

    def observe(self, targets: Sequence[Target]) -> Mapping[str, Any]:
        """Return what is there for each target, by identity. The number of processes does not grow with the targets."""

    def key_need(self, target: Target, observed: Any) -> KeyNeed:
        """Return what planning needs of the target's Secret."""

    def key_fits(self, target: Target, observed: Any, keys: Keys) -> bool:
        """Try whether a target's open repository has the current key; nothing changes. One process."""

    def plan(self, target: Target, observed: Any) -> Plan:
        """Return the steps from what was observed to what the target asks for."""

    def plan_release(self, target: Target, observed: Any, now: str) -> Plan:
        """Return the steps that let go of a repository and keep its data; `now` is an RFC 3339 time."""

    def plan_destroy(self, target: Target, observed: Any) -> Plan:
        """Return the steps that destroy a repository's data; a problem names what is not the repository's own.

        `observed` comes from `inventory`.
        """

    def inventory(self, target: Target) -> Any:
        """Return everything that is there for one target, versions and holds included."""

    def apply(self, step: Any) -> None:
        """Take one step. Taking it a second time changes nothing."""

    def status(self, target: Target, observed: Any) -> StorageStatus:
        """Return what the Repository's status says of the storage."""

    def outline(self, target: Target, observed: Any) -> Outline:
        """Return what was seen of the repository's versions."""

    def whereabouts(self, target: Target, observed: Any) -> str:
        """Return where the data is, as a sentence for the Event that is the last trace of a deleted object."""
