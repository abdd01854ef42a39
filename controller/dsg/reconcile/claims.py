"""Which Repository has a place: of two that overlap, the older one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from dsg.api.repository import RepositorySpec, ZfsStorage


@dataclass(frozen=True, slots=True)
class Claimant:
    """One Repository that wants places; `since` is its creation time (RFC 3339), `uid` breaks ties."""

    identity: str
    uid: str
    since: str
    spec: RepositorySpec


@dataclass(frozen=True, slots=True)
class Overlap:
    """A place that somebody older has."""

    place: str
    holder: str
    """Identity of the older Repository."""


def places(spec: RepositorySpec) -> Iterator[tuple[str, str]]:
    """Yield the places a spec claims, as namespace and path."""
    storage = spec.storage
    if isinstance(storage, ZfsStorage):
        yield "dataset", storage.dataset
    else:
        yield "path", storage.directory
    yield "path", storage.mountpoint


def _above(path: str) -> Iterator[str]:
    while path:
        yield path
        path = path.rpartition("/")[0]


def overlaps(claimants: Iterable[Claimant]) -> Mapping[str, Overlap]:
    """Return for each Repository (by identity) that comes too late which place is taken, and by whom.

    Places overlap when they are the same or one contains the other. Costs are linear in the number of Repositories.
    """
    taken: dict[tuple[str, str], str] = {}
    """Claimed places, each with who has it."""
    contains: dict[tuple[str, str], str] = {}
    """Everything above a claimed place, each with one who has something below."""
    late: dict[str, Overlap] = {}
    for claimant in sorted(claimants, key=lambda c: (c.since, c.uid)):
        wanted = list(places(claimant.spec))
        for space, path in wanted:
            holder = next((taken[space, above] for above in _above(path) if (space, above) in taken), None)
            holder = holder or contains.get((space, path))
            if holder is not None:
                late[claimant.identity] = Overlap(path, holder)
                break
        else:
            for space, path in wanted:
                taken[space, path] = claimant.identity
                for above in _above(path):
                    contains.setdefault((space, above), claimant.identity)
    return late
