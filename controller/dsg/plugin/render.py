"""What commands found and did, as documents for machines and as words for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.text import Text

from dsg.manifests.changes import Change, Gone
from dsg.manifests.entries import Entry, File, FileState, Link, LinkState
from dsg.manifests.header import Header
from dsg.plugin.output import Output
from dsg.plugin.text import count, local, nanoseconds, path_value, rfc3339, safe, size
from dsg.sync.plan import Conflict, Counts, Fetch, Move, Operation, Remember, Remove, SetAttributes
from dsg.sync.states import ROWS, Action, State
from dsg.sync.walk import Below
from dsg.workcopy.results import Done, Listing, Sent, Status, Undecided

SHOWN = 20
"""Paths that a text names before it counts the rest; -v names all."""
_STYLES = {
    Action.UPLOAD: "green",
    Action.DELETE_REMOTE: "red",
    Action.DOWNLOAD: "cyan",
    Action.DELETE_LOCAL: "magenta",
    Action.CONFLICT: "bold red",
}

# --- documents


def entry(what: Entry | FileState | LinkState | Below | None) -> dict[str, Any] | None:
    """Return what stands at a path."""
    if what is None:
        return None
    if isinstance(what, Below):
        return {"kind": "directory", "files": what.count, "size": what.size, "digest": what.digest}
    found: dict[str, Any] = {"path": path_value(what.path)}
    if isinstance(what, File | FileState):
        found |= {
            "kind": "file",
            "size": what.size,
            "mode": f"{what.mode:03o}",
            "modified": nanoseconds(what.mtime),
            "digest": what.digest,
        }
    else:
        found |= {"kind": "link", "target": path_value(what.target)}
    if isinstance(what, File | Link):
        found |= {"author": what.author, "version": what.version}
    return found


def header(what: Header) -> dict[str, Any]:
    """Return a version."""
    commit = what.commit
    return {
        "version": commit.version,
        "author": commit.author,
        "time": rfc3339(commit.time),
        "message": commit.message,
        "files": what.summary.entries,
        "size": what.summary.size,
        "tree": what.summary.tree,
        "chain": what.chain,
        "previous": commit.previous,
        "transaction": commit.transaction,
    }


def counts(what: Counts | None) -> dict[str, Any] | None:
    """Return how many paths are in which state; every state is there."""
    if what is None:
        return None
    return {
        "states": {state.value: what.states.get(state, 0) for state in State},
        "newTimesHere": what.new_times_here,
        "newTimesThere": what.new_times_there,
        "conflicts": what.conflicts,
    }


def conflict(what: Conflict) -> dict[str, Any]:
    """Return a question."""
    return {
        "path": path_value(what.path),
        "state": what.state.value,
        "inTheWay": what.in_the_way,
        "choices": [choice.value for choice in what.choices],
        "mine": entry(what.mine),
        "theirs": entry(what.theirs),
        "base": entry(what.cached),
    }


def change(what: Change) -> dict[str, Any]:
    """Return what would be sent of a path."""
    if isinstance(what, Gone):
        return {"path": path_value(what.path), "kind": "deleted"}
    found = entry(what.state) or {}
    return found | {"from": None if what.source is None else path_value(what.source)}


def operation(what: Operation) -> dict[str, Any]:
    """Return what would be done here with a path."""
    found: dict[str, Any] = {"path": path_value(what.path)}
    match what:
        case Move():
            return found | {"does": "move", "to": path_value(what.to)}
        case Remove():
            return found | {"does": "remove", "edited": what.edited}
        case Fetch():
            return found | {"does": "fetch", "entry": entry(what.entry), "replaces": what.replaces is not None}
        case SetAttributes():
            return found | {"does": "set attributes", "entry": entry(what.entry)}
        case Remember():
            return found | {"does": "note"}


def sent(what: Sent) -> dict[str, int]:
    """Return what a transaction brought."""
    return {
        "added": what.added,
        "changed": what.changed,
        "deleted": what.deleted,
        "files": what.files,
        "size": what.size,
    }


def done(what: Done) -> dict[str, Any]:
    """Return what a sync did."""
    return {
        "head": what.head or None,
        "committed": list(what.committed),
        "onto": what.onto or None,
        "counts": counts(what.counts),
        "sent": sent(what.sent),
        "fetched": what.fetched,
        "removed": what.removed,
        "attributes": what.attributes,
        "moved": _pairs(what.moved),
        "renamed": _pairs(what.renamed),
        "kept": [path_value(str(path)) for path in what.kept],
        "left": [{"path": path_value(one.path), "why": one.why} for one in what.left],
        "recovered": what.recovered or None,
        "notes": list(what.notes),
    }


def undecided(what: Undecided) -> dict[str, Any]:
    """Return the questions that a sync ended with."""
    return {
        "counts": counts(what.counts),
        "total": what.counts.conflicts,
        "conflicts": [conflict(one) for one in what.conflicts],
        "file": path_value(str(what.file)),
        "outdated": what.outdated or None,
        "before": None if what.before is None else done(what.before),
    }


def status(what: Status) -> dict[str, Any]:
    """Return how a working copy and its repository compare."""
    return {
        "base": what.base or None,
        "head": what.head or None,
        "counts": counts(what.counts),
        "interrupted": what.interrupted or None,
        "notes": list(what.notes),
    }


def listing(what: Listing) -> dict[str, Any]:
    """Return all that a sync would do."""
    return {
        **status(what.status),
        "conflicts": [conflict(one) for one in what.conflicts],
        "changes": [change(one) for one in what.changes],
        "operations": [operation(one) for one in what.operations],
        "saves": [path_value(path) for path in what.saves],
    }


def _pairs(pairs: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    return [{"from": path_value(old), "to": path_value(new)} for old, new in pairs]


# --- words


def tell_done(output: Output, what: Done, wire: int = 0) -> None:
    """Say what a sync did; `wire` is how many bytes really went to the data plane."""
    if what.recovered:
        output.note(what.recovered)
    if what.committed:
        line = Text("Committed ")
        line.append(", ".join(what.committed), style="bold green")
        line.append(f": {_counted(what.sent, wire)}")
        if what.onto:
            line.append(f", on top of {what.onto}, which others had committed meanwhile")
        output.line(line)
    here = [
        words
        for number, words in (
            (what.fetched, f"{count(what.fetched, 'file')} fetched"),
            (what.removed, f"{what.removed:,} removed"),
            (what.attributes, f"{what.attributes:,} with a new mode or time"),
        )
        if number
    ]
    if here:
        output.line(f"Here: {', '.join(here)}")
    _tell_paths(output, "Given a name that the repository admits", _arrows(what.renamed))
    _tell_paths(output, "Kept beside theirs", _arrows(what.moved))
    _tell_paths(output, "Copies kept of what is in no version", [safe(str(path)) for path in what.kept])
    _tell_paths(output, "Not touched", [f"{safe(one.path)}: {safe(one.why)}" for one in what.left], style="yellow")
    for note in what.notes:
        output.note(note, "yellow")
    if not what.head:
        output.line("The repository has no version yet")
    elif what.committed or here or what.left:
        output.line(f"In sync with {what.head}" if not what.left else f"In sync with {what.head}, but for the above")
    else:
        output.line(f"Everything is up to date with {what.head}")


def tell_undecided(output: Output, what: Undecided) -> None:
    """Say which questions there are, and how to decide them."""
    if what.before is not None:
        tell_done(output, what.before)
    if what.outdated:
        output.line(f"The decisions could not be used: {what.outdated}", "yellow")
    total = what.counts.conflicts
    output.line(f"{count(total, 'conflict')}: nothing was sent, fetched or deleted", "bold red")
    tell_conflicts(output, what.conflicts, total)
    output.line()
    output.line(f"Decide each in {what.file}, then run: kubectl dsg sync --continue")
    output.line("`kubectl dsg conflicts` shows them again; `kubectl dsg sync --abort` gives up the decisions.")


def tell_conflicts(output: Output, conflicts: Sequence[Conflict], total: int) -> None:
    """Name conflicts: the path, what each side did, who and when."""
    for one in conflicts:
        output.line()
        output.line(Text(safe(one.path), style="bold"))
        output.line(
            f"  {ROWS[one.state].meaning if not one.in_the_way else 'a file on one side, a directory on the other'}"
        )
        output.line(f"  mine    {_described(one.mine)}")
        output.line(f"  theirs  {_described(one.theirs)}")
        if one.theirs is None and one.cached is not None:
            output.line(f"          (last by {one.cached.author} in {one.cached.version})")
    if total > len(conflicts):
        output.line()
        output.line(f"and {total - len(conflicts):,} more")


def tell_status(output: Output, what: Status) -> None:
    """Say how a working copy and its repository compare."""
    if what.interrupted:
        output.line(what.interrupted[:1].upper() + what.interrupted[1:], "yellow")
    if what.base == what.head:
        output.line(f"On {what.head}, the newest version" if what.head else "The repository has no version yet")
    else:
        output.line(f"On {what.base or 'no version'}; the newest version is {what.head or 'none'}")
    if what.counts is not None:
        rows = what.counts.rows()
        for number, words in rows:
            output.line(Text(f"{number:>8,}  {words}", style=_style_of(words)))
        if not rows:
            output.line("Nothing to send or fetch")
    for note in what.notes:
        output.note(note, "yellow")


def _style_of(words: str) -> str:
    return next((_STYLES.get(row.action, "") for row in ROWS.values() if row.words == words), "")


def tell_listing(output: Output, what: Listing) -> None:
    """Say what a sync would do, path by path."""
    tell_status(output, what.status)
    if what.conflicts:
        tell_conflicts(output, what.conflicts, len(what.conflicts))
        return
    changes = [_change_line(one) for one in what.changes]
    _tell_paths(output, "To be sent", changes)
    operations = [_operation_line(one) for one in what.operations if not isinstance(one, Remember)]
    _tell_paths(output, "To be done here", operations)
    _tell_paths(output, "To be kept as copies", [safe(path) for path in what.saves])


def _change_line(what: Change) -> str:
    if isinstance(what, Gone):
        return f"delete  {safe(what.path)}"
    source = f"  (content of {safe(what.source)})" if what.source is not None and what.source != what.path else ""
    return f"send    {safe(what.path)}{source}"


def _operation_line(what: Operation) -> str:
    match what:
        case Move():
            return f"move    {safe(what.path)} to {safe(what.to)}"
        case Remove():
            return f"remove  {safe(what.path)}"
        case Fetch():
            return f"{'update ' if what.replaces is not None else 'fetch  '} {safe(what.path)}"
        case _:
            return f"touch   {safe(what.path)}"


def _tell_paths(output: Output, title: str, lines: Sequence[str], style: str = "") -> None:
    if not lines:
        return
    output.line(f"{title}:", style)
    shown = lines if output.verbose else lines[:SHOWN]
    for line in shown:
        output.line(f"  {line}")
    if len(lines) > len(shown):
        output.line(f"  and {len(lines) - len(shown):,} more (-v names all)")


def _arrows(pairs: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{safe(old)} -> {safe(new)}" for old, new in pairs]


def _counted(what: Sent, wire: int) -> str:
    words = ((what.added, "added"), (what.changed, "changed"), (what.deleted, "deleted"))
    text = ", ".join(f"{number:,} {word}" for number, word in words if number) or "nothing"
    if not what.files:
        return text
    # Of large files only what is new has to travel.
    of_which = f", of which {size(wire)} had to be sent" if 0 < wire < what.size * 0.9 else ""
    return f"{text} ({count(what.files, 'file')}, {size(what.size)}{of_which})"


def _described(what: Entry | FileState | LinkState | Below | None) -> str:
    if what is None:
        return "deleted"
    if isinstance(what, Below):
        return f"directory, {count(what.count, 'file')}, {size(what.size)}"
    by = f", by {what.author} in {what.version}" if isinstance(what, File | Link) else ", yours"
    if isinstance(what, File | FileState):
        when = local(datetime.fromtimestamp(what.mtime // 10**9, UTC), seconds=True)
        return f"file, {size(what.size)}, modified {when}{by}"
    return f"link to {safe(what.target)}{by}"
