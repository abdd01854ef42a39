"""The file in which a person decides conflicts: written as text, edited, read strictly, and turned into a plan.

Only what follows `keep` may be edited. All else is compared with what stands there now, so a decision is never applied
to another file than the one that was looked at. Blank lines and lines that begin with # mean nothing.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import takewhile

from dsg.manifests.entries import Entry, EntryError, File, FileState, check_path, to_bytes, to_name
from dsg.manifests.lines import quote
from dsg.sync.beside import NoNameError, free_names
from dsg.sync.plan import Blocked, Choice, Conflict, Move, Plan, Ruling
from dsg.sync.sides import NeverSynced, NoVersion, Version
from dsg.sync.states import ROWS, Local
from dsg.sync.walk import Below

TITLE = "dsg conflicts 1"
"""The first line: name and version of the format."""
MAX_BLOCKS = 20_000
"""Conflicts that one file may hold. More have one cause, which is better removed than decided path by path."""

_UNDECIDED = "?"
_SHOWN = 10
_DIGITS = 16
"""Hexadecimal digits of a digest that are shown."""
_INVISIBLE = frozenset({"Cc", "Cf", "Co", "Cn", "Zl", "Zp"})
_HELP = """\
# Nothing was sent, fetched or deleted: you and others changed the same paths.
# Decide each below: put a word in place of ?, then run the sync again.
#   mine    the repository gets what you have, or loses what you deleted
#   theirs  you get what the repository has, or lose what was deleted there
#   both    theirs keeps the name, yours goes beside it under another one
# Whatever you choose, theirs stays in the repository's history, and a copy of yours is kept.
"""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a resolution file."""

    text: str
    line: int | None = None
    """From 1."""
    path: str | None = None

    def __str__(self) -> str:
        where = [f"line {self.line}"] if self.line is not None else []
        if self.path is not None:
            where.append(_name_json(self.path))
        return f"{', '.join(where)}: {self.text}" if where else self.text


class ResolutionError(ValueError):
    """A resolution file that can't be used. Nothing was changed anywhere. `problems` holds all that was found."""

    def __init__(self, problems: Iterable[Problem], advice: str) -> None:
        self.problems = tuple(problems)
        shown = "".join(f"\n  {problem}" for problem in self.problems[:_SHOWN])
        more = len(self.problems) - _SHOWN
        rest = f"\n  and {more} more" if more > 0 else ""
        super().__init__(f"the decisions about conflicts can't be used, nothing was changed:{shown}{rest}\n{advice}")


class OutdatedError(ResolutionError):
    """A resolution file about another state of affairs: a new one is needed."""


_EDIT = "Correct the file and run the sync again, or delete it to get a new one."
_ANEW = "Delete the file; the next sync writes a new one."


@dataclass(frozen=True, slots=True)
class Point:
    """A version, as the file names it."""

    version: str
    chain: str
    """Its chain digest."""


@dataclass(frozen=True, slots=True)
class Block:
    """What is said of one conflict, and the decision."""

    path: str
    what: str
    """What happened, in words, and the state."""
    mine: str
    """What this side has: kind, size, mode, time, digest, author."""
    theirs: str
    """What the repository has, likewise."""
    choices: tuple[Choice, ...]
    """What can be chosen."""
    choice: Choice | None
    """What was chosen; None for nothing yet."""
    line: int | None = field(default=None, compare=False)
    """Where the decision stands in the file that it was read from."""


@dataclass(frozen=True, slots=True)
class Resolutions:
    """A resolution file."""

    base: Point | None
    """The version of the last sync; None for none."""
    head: Point | None
    """The repository's head; None for none."""
    blocks: tuple[Block, ...]

    def decided(self, choices: Iterable[Choice | None]) -> Resolutions:
        """Return the file with these decisions, one for each block."""
        pairs = zip(self.blocks, choices, strict=True)
        return replace(self, blocks=tuple(replace(block, choice=choice) for block, choice in pairs))


def draft(blocked: Blocked, author: str) -> Resolutions:
    """Return a file with all conflicts, undecided; `author` is who has the working copy.

    ResolutionError when there are more than a file may hold.
    """
    _check_number(blocked)
    return Resolutions(
        _point(blocked.sides.cached),
        _point(blocked.sides.remote),
        tuple(_block(conflict, author) for conflict in blocked.conflicts()),
    )


def write(resolutions: Resolutions) -> str:
    """Return the text of a file."""
    lines = [TITLE, f"base: {_point_text(resolutions.base)}", f"head: {_point_text(resolutions.head)}", ""]
    parts = ["\n".join(lines), "\n", _HELP]
    for block in resolutions.blocks:
        choice = _UNDECIDED if block.choice is None else block.choice.value
        parts.append(
            f"\npath: {_name_json(block.path)}\n"
            f"  what: {block.what}\n"
            f"  mine: {block.mine}\n"
            f"  theirs: {block.theirs}\n"
            f"  keep ({_choices_text(block.choices)}): {choice}\n"
        )
    return "".join(parts)


def parse(text: str) -> Resolutions:
    """Return the file of a text. ResolutionError names line and path of the first thing that is not as it must be.

    Editors may add a byte order mark, blanks at the ends of lines, or Windows' line ends; all else counts.
    """
    lines = _Lines(text)
    number, line = lines.take("the title")
    if line != TITLE:
        raise _wrong(f"is {line[:60]!r}, not {TITLE!r}: no resolution file of this dsg", number)
    base = _read_point(lines, "base: ")
    head = _read_point(lines, "head: ")
    blocks: dict[str, Block] = {}
    while lines.more():
        block = _read_block(lines)
        if block.path in blocks:
            raise _wrong("comes twice; a path has one decision", block.line, block.path)
        if len(blocks) == MAX_BLOCKS:
            raise _wrong(f"is one more than the {MAX_BLOCKS} conflicts that a file may hold", block.line, block.path)
        blocks[block.path] = block
    return Resolutions(base, head, tuple(blocks.values()))


def apply(blocked: Blocked, resolutions: Resolutions, author: str) -> Plan:
    """Return the plan that the decisions make of a blocked sync; `author` is who has the working copy.

    Raises OutdatedError when the file is about another base or head, or about other files than stand there now, and
    ResolutionError when not each conflict is decided, a decision is about no conflict, or there is no name for `both`.
    """
    _check_number(blocked)
    _check_points(blocked, resolutions)
    said = {block.path: block for block in resolutions.blocks}
    outdated: list[Problem] = []
    problems: list[Problem] = []
    choices: dict[bytes, Choice] = {}
    for conflict in blocked.conflicts():
        block = said.pop(conflict.path, None)
        if block is None:
            problems.append(Problem("is in conflict, and the file does not have it", path=conflict.path))
            continue
        outdated.extend(_differences(block, _block(conflict, author)))
        if block.choice is None:
            text = f"is not decided; put {_choices_text(conflict.choices)} in place of {_UNDECIDED}"
            problems.append(Problem(text, block.line, block.path))
        elif block.choice not in conflict.choices:
            problems.append(Problem(_not_a_choice(block.choice, conflict.choices), block.line, block.path))
        else:
            choices[conflict.key] = block.choice
    problems.extend(Problem("is in no conflict now", block.line, block.path) for block in said.values())
    if outdated:
        raise OutdatedError(outdated, _ANEW)
    if problems:
        raise ResolutionError(problems, _EDIT)
    ruling = Ruling(choices, _names(blocked, choices, author))
    plan = Plan(blocked.sides, blocked.counts, blocked.obstacles, ruling)
    if ruling.names:
        _check_moves(plan)
    plan.require_room()
    return plan


def _check_moves(plan: Plan) -> None:
    """Refuse a move to a path that is too long, as can be in a directory, or that is not synced."""
    for operation in takewhile(lambda one: isinstance(one, Move), plan.operations()):
        if isinstance(operation, Move):
            why = ""
            try:
                check_path(operation.to)
            except EntryError as error:
                why = str(error)
            if not why and not plan.sides.covers(operation.to):
                why = f"{operation.to!r} would not be synced"
            if why:
                text = f"can't be kept beside theirs: {why}; choose mine or theirs"
                raise ResolutionError([Problem(text, path=operation.path)], _EDIT)


def _check_number(blocked: Blocked) -> None:
    number = blocked.counts.conflicts
    if number > MAX_BLOCKS:
        text = (
            f"{number} paths are in conflict, more than the {MAX_BLOCKS} that can be decided one by one. So many have "
            "one cause, such as modes or line ends that were changed everywhere, or a lost record of the last sync"
        )
        raise ResolutionError([Problem(text)], "Find it and undo it here; or clone anew and bring your changes there.")


def _check_points(blocked: Blocked, resolutions: Resolutions) -> None:
    for name, said, now in (
        ("last sync", resolutions.base, _point(blocked.sides.cached)),
        ("head", resolutions.head, _point(blocked.sides.remote)),
    ):
        if said != now:
            text = f"the file is about {_version_text(said)} as the {name}, which is {_version_text(now)} now"
            if said is not None and now is not None and said.version == now.version:
                text = f"the file is about another {said.version} as the {name} than there is now"
            raise OutdatedError([Problem(text)], _ANEW)


def _differences(said: Block, now: Block) -> Iterator[Problem]:
    for name, one, other in (
        ("mine", said.mine, now.mine),
        ("theirs", said.theirs, now.theirs),
        ("what", said.what, now.what),
        ("keep", _choices_text(said.choices), _choices_text(now.choices)),
    ):
        if one != other:
            text = f"has changed since the file was written, or {name!r} was edited: {one!r} there, {other!r} now"
            yield Problem(text, said.line, said.path)


def _names(blocked: Blocked, choices: dict[bytes, Choice], author: str) -> dict[bytes, str]:
    paths = [to_name(key) for key, choice in choices.items() if choice is Choice.BOTH]
    try:
        return {to_bytes(path): name for path, name in free_names(paths, author, blocked.sides.paths).items()}
    except NoNameError as error:
        raise ResolutionError([Problem(str(error))], _EDIT) from None


def _point(side: Version | NeverSynced | NoVersion) -> Point | None:
    return Point(side.header.version, side.header.chain) if isinstance(side, Version) else None


def _version_text(point: Point | None) -> str:
    return "none" if point is None else point.version


def _point_text(point: Point | None) -> str:
    return "none" if point is None else f"{point.version} {point.chain}"


def _choices_text(choices: tuple[Choice, ...]) -> str:
    return ", ".join(choices[:-1]) + f" or {choices[-1]}"


def _not_a_choice(word: str, choices: tuple[Choice, ...]) -> str:
    return f"can't be decided by {word[:40]!r}; write {_choices_text(choices)}"


def _block(conflict: Conflict, author: str) -> Block:
    return Block(
        conflict.path,
        _what(conflict),
        _describe(conflict.mine, f"by {_shown(author)} (you)", "deleted by you"),
        _theirs(conflict),
        conflict.choices,
        None,
    )


def _what(conflict: Conflict) -> str:
    if conflict.in_the_way:
        return "a file or link on one side, a directory on the other (path_in_the_way)"
    return f"{ROWS[conflict.state].meaning} ({conflict.state})"


def _theirs(conflict: Conflict) -> str:
    theirs = conflict.theirs
    by = "" if theirs is None or isinstance(theirs, Below) else f"by {_shown(theirs.author)} in {theirs.version}"
    last = conflict.cached
    before = f" (last by {_shown(last.author)} in {last.version})" if last is not None else ""
    return _describe(theirs, by, f"deleted{before}")


def _describe(what: Entry | Local | Below | None, by: str, missing: str) -> str:
    if what is None:
        return missing
    if isinstance(what, Below):
        text = f"directory, {what.count} files or links, {what.size} bytes, blake3 {what.digest[:_DIGITS]}"
    elif isinstance(what, File | FileState):
        text = (
            f"file, {what.size} bytes, mode {what.mode:03o}, modified {_time(what.mtime)}, "
            f"blake3 {what.digest[:_DIGITS]}"
        )
    else:
        text = f"link to {_name_json(what.target)}"
    return f"{text}, {by}" if by else text


def _time(mtime: int) -> str:
    seconds, nanoseconds = divmod(mtime, 10**9)
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    return f"{moment.replace(tzinfo=None).isoformat()}.{nanoseconds:09d}Z"


def _shown(text: str) -> str:
    """Return a string as JSON in which nothing is invisible or reads backwards."""
    return "".join(_escaped(c) if unicodedata.category(c) in _INVISIBLE else c for c in quote(text))


def _escaped(character: str) -> str:
    return json.dumps(character)[1:-1]


def _name_json(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        return f'{{"hex":"{to_bytes(name).hex()}"}}'
    return _shown(name)


class _Lines:
    """The lines that mean something, with their numbers."""

    def __init__(self, text: str) -> None:
        numbered = enumerate(text.removeprefix("\ufeff").split("\n"), 1)
        kept = ((number, line.rstrip(" \t\r")) for number, line in numbered)
        self._lines = [(number, line) for number, line in kept if line and not line.startswith("#")]
        self._end = text.count("\n") + 1
        self._next = 0

    def more(self) -> bool:
        return self._next < len(self._lines)

    def take(self, what: str, path: str | None = None) -> tuple[int, str]:
        if not self.more():
            raise _wrong(f"the file ends where {what} should be", self._end, path)
        self._next += 1
        return self._lines[self._next - 1]

    def field(self, prefix: str, path: str | None = None) -> tuple[int, str]:
        number, line = self.take(f"{prefix.strip()!r}", path)
        if not line.startswith(prefix):
            raise _wrong(f"begins with {line[:40]!r} where {prefix!r} should be", number, path)
        return number, line[len(prefix) :]


def _wrong(text: str, line: int | None, path: str | None = None) -> ResolutionError:
    return ResolutionError([Problem(text, line, path)], _EDIT)


def _read_point(lines: _Lines, prefix: str) -> Point | None:
    number, value = lines.field(prefix)
    if value == "none":
        return None
    version, blank, digest = value.partition(" ")
    if not blank:
        raise _wrong(f"{prefix.strip()} says {value[:80]!r}, not a version and its chain digest", number)
    return Point(version, digest)


def _read_block(lines: _Lines) -> Block:
    number, said = lines.field("path: ")
    path = _read_path(said, number)
    what = lines.field("  what: ", path)[1]
    mine = lines.field("  mine: ", path)[1]
    theirs = lines.field("  theirs: ", path)[1]
    number, keep = lines.field("  keep (", path)
    allowed, end, word = keep.partition("): ")
    choices = next((c for c in _OFFERS if _choices_text(c) == allowed), None)
    if choices is None or not end:
        raise _wrong(f"'keep' offers {allowed[:60]!r}, which was never written", number, path)
    word = word.strip().lower()
    if word == _UNDECIDED:
        return Block(path, what, mine, theirs, choices, None, number)
    if word not in {choice.value for choice in choices}:
        raise _wrong(_not_a_choice(word, choices), number, path)
    return Block(path, what, mine, theirs, choices, Choice(word), number)


_OFFERS = ((Choice.MINE, Choice.THEIRS), tuple(Choice))


def _read_path(said: str, number: int) -> str:
    try:
        value = json.loads(said)
        if isinstance(value, dict):
            value = to_name(bytes.fromhex(value["hex"]))
        check_path(value)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise _wrong(f"{said[:80]!r} is no path as dsg writes it", number) from None
    if _name_json(value) != said:
        raise _wrong(f"{said[:80]!r} is not written as dsg writes it, {_name_json(value)}", number)
    path: str = value
    return path
