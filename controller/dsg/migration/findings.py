"""What is found wrong with an older version, and which of it a person may accept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What can be wrong. The value is the word for `--accept`."""

    MANIFEST = "manifest"
    """The manifest disagrees with itself, or there are several of one version."""
    CHAIN = "chain"
    """The manifest does not follow from the one before."""
    MISMATCH = "mismatch"
    """A file's content, or a link's target, is not what the manifest says."""
    MISSING = "missing"
    """The manifest lists it, and it is not there."""
    UNLISTED = "unlisted"
    """It is there, and the manifest does not list it."""
    UNVERIFIED = "unverified"
    """Nothing says what it should be: no manifest, or no hash in it."""
    OUTSIDE = "outside"
    """The manifest lists it, and the new Repository does not sync it (`dataDirs`, `ignore`)."""
    REFUSED = "refused"
    """No version can hold it: a link out of the repository, a socket, a reserved name."""
    LIVE = "live"
    """The tree itself is not what its newest snapshot is: people have changed it since, or a sync was interrupted."""
    NAME = "name"
    """The new Repository does not admit its name."""
    UNREADABLE = "unreadable"
    """It could not be read, or changed while it was read."""


MEANING = {
    Kind.MANIFEST: "the version is adopted; the manifest is kept as it is",
    Kind.CHAIN: "the version is adopted; the manifest is kept as it is",
    Kind.MISMATCH: "what is there is taken, and both hashes are recorded",
    Kind.MISSING: "the version is adopted without it",
    Kind.UNLISTED: "it is taken",
    Kind.UNVERIFIED: "it is taken as it is",
    Kind.OUTSIDE: "the version is adopted without it",
    Kind.REFUSED: "the version is adopted without it",
    Kind.LIVE: "the snapshot is adopted, and not what the tree has beside it",
}
"""What accepting each kind means; the others can't be accepted."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong."""

    version: str
    kind: Kind
    path: str
    """Which path it is about; empty for the version as a whole."""
    message: str


class Findings:
    """Collects what is wrong with one version."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.all: list[Finding] = []

    def add(self, kind: Kind, path: str, message: str) -> None:
        """Take one."""
        self.all.append(Finding(self.version, kind, path, message))

    def of(self, kind: Kind) -> list[Finding]:
        """Return those of a kind."""
        return [one for one in self.all if one.kind is kind]

    def blocking(self, accepted: Collection[Kind]) -> Iterator[Finding]:
        """Yield those that keep the version from being adopted."""
        return blocking(self.all, accepted)


def blocking(findings: Iterable[Finding], accepted: Collection[Kind]) -> Iterator[Finding]:
    """Yield findings that nobody has accepted, or can accept."""
    return (one for one in findings if one.kind not in accepted or one.kind not in MEANING)


_SHOWN = 20


class NotAdopted(Exception):
    """Findings that keep versions from being adopted."""

    def __init__(self, found: list[Finding], state: str) -> None:
        lines = [f"  {one.version}: {one.message}" for one in found[:_SHOWN]]
        if len(found) > _SHOWN:
            lines.append(f"  and {len(found) - _SHOWN} more")
        counts = Counter(one.kind for one in found)
        advice = [f"--accept {kind}: {MEANING[kind]}" for kind in counts if kind in MEANING]
        if Kind.NAME in counts:
            advice.append("--normalize gives names that are admitted, and spec.nameRules: posix admits what Linux does")
        super().__init__(
            f"the older repository is not as its manifests say: {sum(counts.values())} findings "
            f"({', '.join(f'{count} {kind}' for kind, count in counts.items())}). {state}\n" + "\n".join(lines)
        )
        self.found = tuple(found)
        self.advice = "Look into each. What you decide to live with: " + "; ".join(advice) if advice else ""
