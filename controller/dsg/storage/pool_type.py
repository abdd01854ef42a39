"""What a storage kind can tell about the pools that a StoragePool declares, and what little it does for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from dsg.api.storagepool import ErrorCounts, ScanStatus, StoragePoolSpec
from dsg.storage.repository_type import Plan


@dataclass(frozen=True, slots=True)
class PoolTarget:
    """One StoragePool as it should be."""

    name: str
    spec: StoragePoolSpec


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """A pool's state in the terms of a StoragePool's status. Sizes are bytes."""

    guid: str
    health: str
    size: int
    free: int
    capacity_percent: int
    healthy: bool
    """Whether no device or data error is known."""
    trouble: str = ""
    """What is wrong, for a person; empty when healthy."""
    fragmentation_percent: int | None = None
    scan: ScanStatus | None = None
    scan_ended: int | None = None
    """Unix time of the end of the last finished scrub; None when there was none or the storage has no scrubs."""
    scrubs: bool = False
    """Whether this kind of storage has scrubs at all."""
    errors: ErrorCounts = field(default_factory=ErrorCounts)


class PoolType(Protocol):
    """One kind of storage. Errors are those of `dsg.storage.errors`."""

    def observe(self, targets: Sequence[PoolTarget]) -> Mapping[str, Any]:
        """Return what is there for each StoragePool, by name. The number of processes is constant."""

    def plan(self, target: PoolTarget, observed: Any) -> Plan:
        """Return the steps that make the declared root and mountRoot, or the problem that makes the pool unusable."""

    def apply(self, step: Any) -> None:
        """Take one step. Taking it a second time changes nothing."""

    def facts(self, observed: Any) -> PoolFacts | None:
        """Return the pool's state; None when there is no pool."""
