"""Adopting an older repository: each of its versions becomes one of a new Repository, oldest first.

All state is in the Repository's own history, which says in each version's message what it was made from. So whoever is
killed, the next run sees what is there and goes on; a transaction that was open ends by itself. Each version is proved
after its commit: the chain digest that the Repository shows is the one that follows from what was sent.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dsg.manifests.header import Header
from dsg.migration.examine import Examined, Item, Known, Rules, examine
from dsg.migration.findings import Finding, Kind, NotAdopted, blocking
from dsg.migration.growing import Growing, Interfered, of_bytes, of_file, state_of
from dsg.migration.provenance import DIRECTORY, Origin, compose, parse, record
from dsg.migration.source import OldVersion, Source
from dsg.migration.survey import live_findings, manifest_findings, nothing, read_version
from dsg.workcopy.errors import CommitStopped
from dsg.workcopy.remote import Remote
from dsg.workcopy.results import Phase, Progress, Watch

_NOTHING_SENT = "Nothing was sent"


class NotThisRepository(Exception):
    """The Repository holds what this migration did not put there."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a repository is adopted."""

    accept: frozenset[Kind] = frozenset()
    """Findings that a person has decided to live with."""
    reread: bool = False
    """Read also what is the same file as in the version before, by inode and times."""


@dataclass(frozen=True, slots=True)
class AdoptedVersion:
    """An older version that the Repository has now."""

    old: str
    """Its name; empty for a version that holds records alone."""
    new: str
    files: int = 0
    size: int = 0
    verified: int = 0
    """Files and links that were proved to be what the manifest says."""
    sent: int = 0
    """Bytes of content that had to be sent."""
    already: bool = False
    """An earlier run adopted it."""


@dataclass(slots=True)
class Adopted:
    """What came of it."""

    versions: list[AdoptedVersion] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    """Versions whose content is nowhere; what is left of their manifests is kept."""
    late: list[str] = field(default_factory=list)
    """Versions whose content turned up after newer ones had been adopted."""
    findings: list[Finding] = field(default_factory=list)
    """All that was found wrong, accepted or not."""
    notes: list[str] = field(default_factory=list)


Tell = Callable[[AdoptedVersion], None]


def verify(source: Source, rules: Rules, watch: Watch, *, reread: bool = False) -> tuple[list[Examined], Adopted]:
    """Read everything and say what is wrong; needs no Repository and sends nothing."""
    made = Adopted()
    findings, made.notes = manifest_findings(source)
    made.findings.extend(findings)
    made.findings.extend(live_findings(source, rules))
    known: Known = {}
    found: list[Examined] = []
    for version in source.versions:
        if version.content is None:
            made.gone.append(version.name)
            continue
        one = read_version(version, rules, known, watch, reread=reread)
        made.findings.extend(one.findings.all)
        made.versions.append(AdoptedVersion(version.name, "", len(one.items), one.size, one.verified))
        # What it holds is not needed any more.
        one.items = {}
        found.append(one)
    return found, made


def adopt(
    source: Source, remote: Remote, rules: Rules, options: Options, watch: Watch, tell: Tell = lambda _one: None
) -> Adopted:
    """Adopt all versions that the Repository does not have yet.

    Raises NotAdopted, NotThisRepository, Interfered, CommitStopped, SourceError, RemoteError, OSError. What was
    adopted before stays, and the next run goes on after it.
    """
    with tempfile.TemporaryDirectory(prefix="dsg-migrate-") as directory:
        return _Adopting(source, remote, rules, options, watch, tell, Path(directory)).run()


class _Adopting:
    def __init__(
        self,
        source: Source,
        remote: Remote,
        rules: Rules,
        options: Options,
        watch: Watch,
        tell: Tell,
        directory: Path,
    ) -> None:
        self._source, self._remote, self._rules, self._options = source, remote, rules, options
        self._watch, self._tell = watch, tell
        self._repository = Growing(remote, directory / "base", self._recognize, watch)
        self._known: Known = {}
        self._made = Adopted()
        self._done: dict[str, str] = {}
        """By the older version's name: the new one's."""

    def run(self) -> Adopted:
        self._repository.look()
        self._check_provenance()
        last = max((int(name[1:]) for name in self._done), default=0)
        waiting: list[OldVersion] = []
        for version in self._source.versions:
            if version.name in self._done:
                self._made.versions.append(AdoptedVersion(version.name, self._done[version.name], already=True))
            elif version.content is None:
                self._made.gone.append(version.name)
            elif version.number < last:
                self._made.late.append(version.name)
            else:
                waiting.append(version)
        self._survey(waiting)
        for version in waiting:
            # Another run may be under way.
            if version.name not in self._done:
                self._one(version)
            else:
                self._made.versions.append(AdoptedVersion(version.name, self._done[version.name], already=True))
        self._records()
        return self._made

    # ---- what is there

    def _recognize(self, header: Header) -> None:
        origin = parse(header.commit.message)
        if origin is None:
            raise NotThisRepository(
                f"version {header.version} of the Repository, by {header.commit.author}, was made by no migration. "
                "Nothing more is sent: what people make comes after all that is adopted. Migrate into a Repository of "
                "its own"
            )
        if not origin.version:
            return
        old = next((one for one in self._source.versions if one.name == origin.version), None)
        if old is None or not _same_version(origin, old):
            raise NotThisRepository(
                f"version {header.version} of the Repository was made from {origin.version} with hash "
                f"{origin.hash or 'none'}, which {self._source.root} does not have. Nothing more is sent: it is "
                "another repository, or its history was replaced"
            )
        self._done[origin.version] = header.version

    def _check_provenance(self) -> None:
        for name in ("manifests/s1-sync.json.lz4", "adopted/s1.json", "push.log"):
            if not self._rules.scope.covers(f"{DIRECTORY}/{name}"):
                raise NotThisRepository(
                    f"the Repository does not sync {DIRECTORY}/{name}, where what is known of older versions goes. "
                    f"{_NOTHING_SENT}. Add {DIRECTORY} to spec.dataDirs, and let spec.ignore spare it"
                )

    def _survey(self, waiting: list[OldVersion]) -> None:
        """Look at all that is to be adopted before anything is sent."""
        findings, self._made.notes = manifest_findings(self._source)
        adopting = {version.name for version in waiting}
        found = [one for one in findings if one.version in adopting] + live_findings(self._source, self._rules)
        for number, version in enumerate(waiting):
            self._watch(Progress(Phase.SCANNING, number, 0, len(waiting)))
            one = examine(version, self._rules, read=False, tell=nothing)
            found.extend(one.findings.all)
            if any(name == DIRECTORY or name.startswith(f"{DIRECTORY}/") for name in one.items):
                found.append(
                    Finding(version.name, Kind.NAME, DIRECTORY, f"it has {DIRECTORY!r} itself, which is needed here")
                )
        self._made.findings.extend(one for one in found if one.kind in {Kind.MANIFEST, Kind.CHAIN, Kind.LIVE})
        stopped = list(blocking(found, self._options.accept))
        if stopped:
            raise NotAdopted(stopped, _NOTHING_SENT)

    # ---- one version

    def _one(self, version: OldVersion) -> None:
        found = read_version(version, self._rules, self._known, self._watch, reread=self._options.reread)
        self._made.findings.extend(found.findings.all)
        stopped = list(found.findings.blocking(self._options.accept))
        if stopped:
            raise NotAdopted(stopped, self._so_far(version.name))
        kept = self._kept()
        wanted = kept | found.items | self._files_until(version, kept)
        name = f"{DIRECTORY}/adopted/{version.name}.json"
        wanted[name] = of_bytes(name, self._record(found))
        manifest = version.manifest
        origin = Origin(
            version.name,
            version.record.author,
            version.record.time,
            manifest.snapshot_hash if manifest is not None else "",
            manifest.entries_hash if manifest is not None else "",
            tuple(tag.name for tag in version.tags),
        )
        try:
            new, sent = self._repository.commit(wanted, compose(version.record.message, origin), version.name)
        except (CommitStopped, Interfered):
            if version.name not in self._done:
                raise
            new, sent = self._done[version.name], 0
        self._done[version.name] = new
        made = AdoptedVersion(version.name, new, len(found.items), found.size, found.verified, sent)
        self._made.versions.append(made)
        self._tell(made)

    def _so_far(self, name: str) -> str:
        before = [one for one in self._made.versions if not one.already]
        what = f"{before[-1].old} and what comes before it was adopted" if before else _NOTHING_SENT
        return f"{what}; {name} was not"

    def _kept(self) -> dict[str, Item]:
        """Return what the head knows of older versions."""
        entries = self._repository.entries()
        return {one.path: Item(state_of(one)) for one in entries if one.path.startswith(f"{DIRECTORY}/")}

    def _files_until(self, version: OldVersion, kept: dict[str, Item]) -> dict[str, Item]:
        """Return what is known of the repository as a whole, and the manifests of versions up to one.

        Manifests that the head has stay as they are.
        """
        found: dict[str, Item] = {}
        for name, content in self._source.files.items():
            item = of_bytes(f"{DIRECTORY}/{name}", content)
            found[item.state.path] = item
        for one in self._source.versions:
            if one.number > version.number:
                break
            files = [*one.others.items(), *([one.manifest_file] if one.manifest_file is not None else [])]
            for name, path in files:
                where = f"{DIRECTORY}/manifests/{name}"
                if where not in kept:
                    found[where] = of_file(where, path)
        return found

    def _record(self, found: Examined) -> bytes:
        version, kinds = found.version, (Kind.MISSING, Kind.OUTSIDE, Kind.REFUSED)
        manifest = version.manifest
        about = [one.message for one in manifest_findings(self._source)[0] if one.version == version.name]
        return record(
            [
                ("version", version.name),
                ("author", version.record.author or None),
                ("time", version.record.time.isoformat() if version.record.time is not None else None),
                ("message", version.record.message),
                ("tags", [{"name": one.name, "message": one.message} for one in version.tags]),
                ("manifest", version.manifest_file[0] if version.manifest_file is not None else None),
                ("entriesHash", {"stated": manifest.entries_hash, "computed": manifest.computed} if manifest else None),
                ("snapshotHash", manifest.snapshot_hash if manifest else None),
                ("manifestProblems", about),
                ("entries", len(found.items)),
                ("bytes", found.size),
                ("verified", found.verified),
                ("mismatched", [{"path": p, "stated": s, "found": f} for p, (s, f) in found.mismatched.items()]),
                ("unlisted", found.unlisted),
                *((str(kind), [one.path for one in found.findings.of(kind)]) for kind in kinds),
                ("renamed", found.renamed),
            ]
        )

    def _records(self) -> None:
        """Bring what is known of older versions up to date, where no version did: a tag of later, a manifest."""
        if self._repository.head is None or not self._source.versions:
            return
        wanted = {entry.path: Item(state_of(entry)) for entry in self._repository.entries()}
        new_files = self._files_until(self._source.versions[-1], wanted)
        changed = {
            path: item for path, item in new_files.items() if path not in wanted or wanted[path].state != item.state
        }
        if not changed:
            return
        wanted |= changed
        new, sent = self._repository.commit(
            wanted, compose("Records of the older repository", Origin("")), "the records"
        )
        made = AdoptedVersion("", new, len(wanted), sent=sent)
        self._made.versions.append(made)
        self._tell(made)


def _same_version(origin: Origin, old: OldVersion) -> bool:
    """Tell whether what a version says of its origin fits an older version.

    By hashes; where one of them has none, because its manifest was found since or lost, by the time.
    """
    manifest = old.manifest
    stated = (manifest.snapshot_hash, manifest.entries_hash) if manifest is not None else ("", "")
    said = (origin.hash, origin.entries)
    if any(stated) and any(said):
        return stated == said
    return None in {origin.time, old.record.time} or origin.time == old.record.time
