"""The 15 states that a path can be in, in one table: what each means, what is done, and what people are told.

L is the entry of the working copy, C that of its last sync (the cache), R that of the repository's head. Two entries
are equal when kind, content and mode are: a time of modification alone is no change that stands against another
(docs/manifests.md). What becomes of such times is `walk.Times`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dsg.manifests import entries
from dsg.manifests.compare import AUTHORED, NOTHING, aspects
from dsg.manifests.entries import Entry

Local = entries.State
"""What stands in a working copy: an entry without author and version, which a directory does not say."""


class State(StrEnum):
    """A state, by DSG's name: L, C and R, each after an x where it is missing, and how those that are there compare."""

    ALL_EQUAL = "sLCR__all_eq"
    CHANGED_THERE = "sLCR__L_eq_C_ne_R"
    SAME_CHANGE = "sLCR__L_eq_R_ne_C"
    CHANGED_HERE = "sLCR__C_eq_R_ne_L"
    ALL_DIFFER = "sLCR__all_ne"
    DELETED_HERE = "sxLCR__C_eq_R"
    DELETED_HERE_CHANGED_THERE = "sxLCR__C_ne_R"
    SAME_ADDITION = "sLxCR__L_eq_R"
    BOTH_ADDED = "sLxCR__L_ne_R"
    DELETED_THERE = "sLCxR__L_eq_C"
    CHANGED_HERE_DELETED_THERE = "sLCxR__L_ne_C"
    ADDED_THERE = "sxLxCR__only_R"
    SAME_DELETION = "sxLCxR__only_C"
    ADDED_HERE = "sLxCxR__only_L"
    NOWHERE = "sxLxCxR__none"


class Action(StrEnum):
    """What a sync does about a path; a state has exactly one."""

    NOTHING = "nothing"
    UPLOAD = "upload"
    DOWNLOAD = "download"
    DELETE_REMOTE = "delete remote"
    DELETE_LOCAL = "delete local"
    UPDATE_CACHE = "update cache"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class Row:
    """One state and all that is said of it."""

    state: State
    pattern: str
    """For L, C and R in turn: "-" where it is missing, else a letter; equal entries have the same. The first letter
    is A, and a new one is the next, so each combination of presence and equality has one pattern.
    """
    action: Action
    meaning: str
    """What has happened since the last sync."""
    words: str
    """What people are shown of such a path: always what the sync will do, never only what is."""
    alias: str | None = None
    """DSG's own spelling, where it breaks DSG's rule for the names."""

    @property
    def blocks(self) -> bool:
        """Whether nothing at all is synced until a person has decided."""
        return self.action is Action.CONFLICT


TABLE: tuple[Row, ...] = (
    Row(State.ALL_EQUAL, "AAA", Action.NOTHING, "nobody changed it", "unchanged"),
    Row(State.CHANGED_THERE, "AAB", Action.DOWNLOAD, "others changed it", "changed by others: will be updated here"),
    Row(
        State.SAME_CHANGE,
        "ABA",
        Action.UPDATE_CACHE,
        "both sides changed it to the same",
        "changed in the same way by you and others: will be noted",
    ),
    Row(State.CHANGED_HERE, "ABB", Action.UPLOAD, "you changed it", "changed by you: will be sent"),
    Row(
        State.ALL_DIFFER,
        "ABC",
        Action.CONFLICT,
        "both sides changed it, differently",
        "CONFLICT: changed by you and, differently, by others",
    ),
    Row(
        State.DELETED_HERE,
        "-AA",
        Action.DELETE_REMOTE,
        "you deleted it",
        "deleted by you: will be deleted in the repository",
    ),
    Row(
        State.DELETED_HERE_CHANGED_THERE,
        "-AB",
        Action.CONFLICT,
        "you deleted it, others changed it",
        "CONFLICT: deleted by you, changed by others",
    ),
    Row(
        State.SAME_ADDITION,
        "A-A",
        Action.UPDATE_CACHE,
        "both sides added the same, or this working copy was never synced",
        "the same here and in the repository: will be noted",
    ),
    Row(
        State.BOTH_ADDED,
        "A-B",
        Action.CONFLICT,
        "both sides added it, differently",
        "CONFLICT: added by you and, differently, by others",
    ),
    Row(
        State.DELETED_THERE,
        "AA-",
        Action.DELETE_LOCAL,
        "others deleted it",
        "deleted by others: will be deleted here",
    ),
    Row(
        State.CHANGED_HERE_DELETED_THERE,
        "AB-",
        Action.CONFLICT,
        "you changed it, others deleted it",
        "CONFLICT: changed by you, deleted by others",
    ),
    Row(
        State.ADDED_THERE,
        "--A",
        Action.DOWNLOAD,
        "others added it",
        "added by others: will be fetched",
        "sxLCxR__only_R",
    ),
    Row(
        State.SAME_DELETION,
        "-A-",
        Action.UPDATE_CACHE,
        "both sides deleted it",
        "deleted by you and by others: will be noted",
        "sxLCRx__only_C",
    ),
    Row(State.ADDED_HERE, "A--", Action.UPLOAD, "you added it", "added by you: will be sent"),
    Row(State.NOWHERE, "---", Action.NOTHING, "there is no such path", "not there"),
)
"""Every state, numbered from 1 as DSG does."""

ROWS: dict[State, Row] = {row.state: row for row in TABLE}
"""The table by state."""

_BY_PATTERN = {row.pattern: row.state for row in TABLE}


def same(one: Entry | Local, other: Entry | Local) -> bool:
    """Tell whether two entries of one path are equal: kind, content and mode, whatever their times and authors."""
    found = aspects(one, other)
    return found is NOTHING or not found & AUTHORED


def classify(local: Local | None, cached: Entry | None, remote: Entry | None) -> State:
    """Return the state of a path whose entries are L, C and R; None where there is none."""
    return _BY_PATTERN[pattern(local, cached, remote)]


def pattern(local: Local | None, cached: Entry | None, remote: Entry | None) -> str:
    """Return which of L, C and R are there and which of them are equal, as `Row.pattern` writes it."""
    if local is None:
        if cached is None:
            return "---" if remote is None else "--A"
        if remote is None:
            return "-A-"
        return "-AA" if same(cached, remote) else "-AB"
    if cached is None:
        if remote is None:
            return "A--"
        return "A-A" if same(local, remote) else "A-B"
    kept = same(local, cached)
    if remote is None:
        return "AA-" if kept else "AB-"
    if same(cached, remote):
        return "AAA" if kept else "ABB"
    if kept:
        return "AAB"
    return "ABA" if same(local, remote) else "ABC"


def find(name: str) -> State | None:
    """Return the state of a name, DSG's misspelled ones included; None when there is none of that name."""
    return next((row.state for row in TABLE if name in {row.state.value, row.alias}), None)


def reference() -> str:
    """Return the table in Markdown, as it stands in docs/sync.md."""
    lines = [
        "| # | state | L | C | R | equal | has happened since the last sync | sync does | people read |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for number, row in enumerate(TABLE, 1):
        name = f"`{row.state}`" + (f" (DSG: `{row.alias}`)" if row.alias else "")
        there = " | ".join("" if mark == "-" else "✓" for mark in row.pattern)
        action = f"**{row.action}**" if row.blocks else row.action.value
        lines.append(
            f"| {number} | {name} | {there} | {_equality(row.pattern)} | {row.meaning} | {action} | {row.words} |"
        )
    return "".join(f"{line}\n" for line in lines)


def _equality(pattern: str) -> str:
    names: dict[str, list[str]] = {}
    for name, mark in zip("LCR", pattern, strict=True):
        if mark != "-":
            names.setdefault(mark, []).append(name)
    if sum(map(len, names.values())) < len("LC"):
        return ""
    return " ≠ ".join("=".join(equal) for equal in names.values())
