"""All versions of an older repository at a glance: manifests one after the other, and the tree beside its snapshots."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from dsg.manifests.entries import LinkState, to_bytes
from dsg.migration.examine import YOUNG, Examined, Known, Rules, examine
from dsg.migration.findings import Finding, Kind
from dsg.migration.source import OldVersion, Source
from dsg.scan.problems import Problems
from dsg.scan.scope import Scope
from dsg.scan.walk import Walk
from dsg.workcopy.results import Phase, Progress, Watch


def manifest_findings(source: Source) -> tuple[list[Finding], list[str]]:
    """Return what is wrong with manifests, and what can't be known."""
    findings: list[Finding] = []
    notes = list(source.notes)
    for version, kind, message in chain_findings(source.versions):
        if kind is None:
            notes.append(f"{version.name}: {message}")
        else:
            findings.append(Finding(version.name, kind, "", message))
    return findings, notes


def read_version(version: OldVersion, rules: Rules, known: Known, watch: Watch, *, reread: bool) -> Examined:
    """Read all content of a version. With `reread`, also what did not change since another was read."""
    done = [0, 0]

    def tell(files: int, size: int) -> None:
        done[0], done[1] = done[0] + files, done[1] + size
        watch(Progress(Phase.SCANNING, *done))

    if reread:
        known.clear()
    return examine(version, rules, read=True, known=known, tell=tell)


def nothing(_files: int, _size: int) -> None:
    """Tell nobody."""


def chain_findings(versions: tuple[OldVersion, ...]) -> Iterator[tuple[OldVersion, Kind | None, str]]:
    """Yield what is wrong with manifests by themselves and one after the other; None for what can't be known."""
    by_name = {one.name: one for one in versions}
    last: OldVersion | None = None
    for version in versions:
        manifest = version.manifest
        if manifest is None:
            continue
        for problem in manifest.problems:
            yield version, Kind.MANIFEST, f"its manifest: {problem}"
        if version.others:
            yield version, Kind.MANIFEST, f"there are {len(version.others) + 1} manifests of it that differ"
        before = by_name.get(manifest.previous)
        if manifest.previous and (before is None or before.manifest is None):
            yield version, None, f"its snapshot hash can't be checked: the manifest of {manifest.previous} is gone"
        else:
            stated = before.manifest.snapshot_hash if before is not None and before.manifest is not None else ""
            if manifest.snapshot_hash != manifest.chained(stated):
                yield version, Kind.CHAIN, f"its snapshot hash {manifest.snapshot_hash or 'none'} does not follow"
        known = before is not None and before.manifest is not None
        if last is not None and manifest.previous != last.name and (known or not manifest.previous):
            yield version, Kind.CHAIN, f"it follows {manifest.previous or 'nothing'}, and {last.name} comes before it"
        last = version


def live_findings(source: Source, rules: Rules) -> list[Finding]:
    """Return how the tree itself differs from its newest snapshot, by sizes, times and link targets.

    DSG could fail between sending files and writing the manifest; then the tree alone has them.
    """
    newest = next((one for one in reversed(source.versions) if one.content is not None), None)
    if newest is None or newest.content is None or newest.content == source.root or not source.with_tree:
        return []
    tree, snapshot = _outline(source.root, rules.scope), _outline(newest.content, rules.scope)
    found: list[Finding] = []
    for path in sorted(tree.keys() | snapshot.keys(), key=to_bytes):
        if tree.get(path) != snapshot.get(path):
            what = "lacks" if path not in tree else "has" if path not in snapshot else "has another version of"
            found.append(Finding("tree", Kind.LIVE, path, f"the tree {what} {path!r}, beside {newest.name}"))
    return found


def _outline(root: Path, scope: Scope) -> dict[str, object]:
    walk = Walk(root, scope, Problems(), settled_before=time.time_ns() - YOUNG)
    return {
        one.path: one.target if isinstance(one, LinkState) else (one.status.st_size, one.status.st_mtime_ns)
        for one in walk
    }
