"""Whether a working copy is what it should be: every file is read again, and all that dsg keeps is checked."""

from __future__ import annotations

from collections.abc import Iterator

from dsg.manifests import history, tree
from dsg.manifests.digest import Summary
from dsg.manifests.entries import EntryError, File, FileState
from dsg.manifests.history import HistoryError
from dsg.manifests.nodes import NodeError, NodeMissing
from dsg.scan.scan import Progress as Scanned
from dsg.scan.scan import Scan
from dsg.sync.names import NameRules, check
from dsg.sync.states import same
from dsg.workcopy.base import Base, State
from dsg.workcopy.errors import NoVersionYet
from dsg.workcopy.layout import Layout
from dsg.workcopy.lock import locked
from dsg.workcopy.origin import Origin, read_origin
from dsg.workcopy.prepare import Reading
from dsg.workcopy.remote import Remote
from dsg.workcopy.results import Finding, Phase, Progress, Validated, Watch
from dsg.workcopy.sync import nobody

_BATCH = 1000


def validate(layout: Layout, watch: Watch = nobody) -> Validated:
    """Check the record of the last sync, and read every file that is as it was then.

    A file whose size, mode and time are those of the last sync and whose content is not was damaged, or changed by
    somebody who set the time back; what else differs are edits. Raises NoVersionYet where nothing was ever synced,
    Busy, ScanFailed, Damaged.
    """
    origin = read_origin(layout)
    with locked(layout):
        base = Base(layout.base)
        state = base.state()
        if state is None:
            raise NoVersionYet(f"{layout.root} was never synced; there is nothing to compare it with. Sync it first")
        findings = list(_record(base, state, origin))
        if any(finding.path == "" for finding in findings):
            return Validated(state.header.version, 0, 0, tuple(findings), 0)
        return _contents(layout, base, state, findings, watch)


def validate_head(layout: Layout, remote: Remote) -> Validated:
    """Check the repository's head: that its history is whole and holds the last sync, and that its manifest is whole.

    Contents are not read: who keeps the repository scrubs them. Raises NoVersionYet, RemoteError.
    """
    origin = read_origin(layout)
    said = remote.repository().head
    if said is None:
        raise NoVersionYet("the repository has no version yet; there is nothing to check")
    base = Base(layout.base)
    state = base.state()
    findings: list[Finding] = []
    with Reading(remote) as reading:
        reader = reading.of(said.version)
        header = reader.header()
        if (header.version, header.chain) != (said.version, said.digest):
            findings.append(Finding("", f"the head should be {said.version} of digest {said.digest}, but is {header}"))
        try:
            history.verify(reader, said.version, said.digest)
            if state is not None:
                version = state.header.version
                there = next(history.headers(reader, version, version))
                if there.chain != state.header.chain:
                    findings.append(Finding("", f"{version} in its history is not the one that was synced here"))
        except (HistoryError, EntryError) as error:
            findings.append(Finding("", str(error)))
        try:
            for entry in tree.entries(reader, header.summary):
                findings.extend(_names(entry.path, origin))
        except (NodeError, NodeMissing) as error:
            findings.append(Finding("", str(error)))
    return Validated(header.version, 0, 0, tuple(findings), 0)


def _record(base: Base, state: State, origin: Origin) -> Iterator[Finding]:
    trees: list[Summary] = [state.tree] if state.plain else [state.tree, state.header.summary]
    for root in trees:
        try:
            tree.verify(base, root)
        except (NodeError, NodeMissing) as error:
            yield Finding("", f"{error}; the next sync fetches it again where the repository has it")
            return
    try:
        history.verify(base, state.header.version, state.header.chain)
    except HistoryError as error:
        yield Finding("", str(error))
    for entry in base.entries(state.tree):
        yield from _names(entry.path, origin)


def _names(path: str, origin: Origin) -> Iterator[Finding]:
    for problem in check(path, NameRules(origin.name_rules)):
        yield Finding(path, f"the name is not admitted any more: {problem}")


def _contents(layout: Layout, base: Base, state: State, findings: list[Finding], watch: Watch) -> Validated:
    def tell(progress: Scanned) -> None:
        watch(Progress(Phase.SCANNING, progress.files + progress.links, progress.size))

    # Without the stat cache, which would say of a damaged file what it was.
    scan = Scan(layout.root, state.synced.scope(), progress=tell)
    cached = iter(base.cached(state).read())
    entry = next(cached, None)
    edited = files = size = 0
    for local in scan:
        while entry is not None and entry.key < local.key:
            edited += 1
            entry = next(cached, None)
        if isinstance(local, FileState):
            files, size = files + 1, size + local.size
        if entry is None or entry.key != local.key:
            edited += 1
            continue
        if not same(local, entry):
            untouched = (
                isinstance(local, FileState)
                and isinstance(entry, File)
                and (local.size, local.mtime, local.mode) == (entry.size, entry.mtime, entry.mode)
            )
            if untouched:
                text = (
                    "its content is another than at the last sync, though size and time are the same: it is damaged, "
                    f"or was changed and its time set back. `kubectl dsg fetch` brings what {state.header.version} "
                    "has"
                )
                findings.append(Finding(local.path, text))
            else:
                edited += 1
        entry = next(cached, None)
    edited += sum(1 for _ in cached) + (entry is not None)
    return Validated(state.header.version, files, size, tuple(findings), edited)
