"""What a chain of records proves, and what it can't.

Each line carries the digest of the one before, so whatever is changed, removed, inserted or moved shows at the line
after it. That the last lines were removed, or all of it was written anew, shows only against a head that is known from
elsewhere: each operator tells its head in its log and its Lease.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dsg.audit.actions import Action
from dsg.audit.errors import AuditError
from dsg.audit.record import MAX_LINE, NOTHING_BEFORE, Head, Record, RecordError, decode, digest

MOST_FINDINGS = 20
_OPENING = frozenset({Action.LOG_BEGUN, Action.LOG_CONTINUED, Action.LOG_REPAIRED})
"""What the first record of a file can be."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One place where the chain does not hold."""

    file: str
    line: int
    """From 1."""
    problem: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.problem}"


@dataclass(slots=True)
class Verified:
    """What was found."""

    findings: list[Finding] = field(default_factory=list)
    """Where it does not hold, first things first; at most 20."""
    notes: list[str] = field(default_factory=list)
    """What is well and yet worth knowing."""
    records: int = 0
    first: int = 0
    """Sequence number of the first record."""
    head: Head = field(default_factory=Head)
    last_time: str = ""
    logs: set[str] = field(default_factory=set)

    @property
    def whole(self) -> bool:
        """Whether the chain holds from its first record to its last."""
        return not self.findings


@dataclass(frozen=True, slots=True)
class Source:
    """One file of a log: its lines, with their newlines as far as they have them."""

    name: str
    lines: Iterable[bytes]


def read_sources(files: Sequence[Path]) -> list[Source]:
    """Return files as sources, in the order of what they hold, whatever order they are named in. Raises AuditError."""
    keyed = []
    for file in files:
        try:
            with file.open("rb") as opened:
                start = opened.read(MAX_LINE * 4)
        except OSError as error:
            raise AuditError(f"{file} can't be read: {error.strerror}") from error
        keyed.append((_first(start), str(file), file))
    return [Source(str(file), _lines(file)) for _, _, file in sorted(keyed, key=lambda one: one[:2])]


def _first(start: bytes) -> int:
    for line in start.split(b"\n"):
        try:
            return decode(line).seq
        except RecordError:
            continue
    return 0


def _lines(file: Path) -> Iterator[bytes]:
    try:
        with file.open("rb") as opened:
            while line := opened.readline(2 * MAX_LINE):
                yield line
    except OSError as error:
        raise AuditError(f"{file} can't be read: {error.strerror}") from error


def verify(sources: Iterable[Source], expect: Head | None = None) -> Verified:
    """Follow the chain through files in their order. `expect` is a head that is known from elsewhere, of any time."""
    return _Walk(expect).over(sources)


class _Walk:
    def __init__(self, expect: Head | None) -> None:
        self._found = Verified()
        self._expect = expect
        self._met = expect is None or expect == Head()
        self._begun = False
        self._log = ""
        self._torn = hashlib.sha256()
        self._torn_bytes = 0
        self._torn_at: tuple[str, int] | None = None
        self._problem = ""
        self._opening = True
        self._at = ("", 0)

    def over(self, sources: Iterable[Source]) -> Verified:
        for source in sources:
            number, self._opening = 0, True
            for number, raw in enumerate(source.lines, 1):
                self._at = (source.name, number)
                self._line(raw)
                if len(self._found.findings) >= MOST_FINDINGS:
                    self._found.notes.append("there may be more; the rest was not looked at")
                    return self._found
            if not number:
                self._found.notes.append(f"{source.name} is empty")
        self._end()
        return self._found

    def _line(self, raw: bytes) -> None:
        line = raw.removesuffix(b"\n")
        if not raw.endswith(b"\n"):
            self._unreadable(raw, "ends within a line")
            return
        try:
            record = decode(line)
        except RecordError as error:
            self._unreadable(raw, str(error))
            return
        self._record(record, line)

    def _unreadable(self, raw: bytes, problem: str) -> None:
        self._torn.update(raw)
        self._torn_bytes += len(raw)
        self._torn_at = self._torn_at or self._at
        self._problem = problem

    def _record(self, record: Record, line: bytes) -> None:
        found = self._found
        self._settle_torn(record)
        if self._opening and record.action not in _OPENING:
            self._say("a file does not begin like this: what was before it in the file was removed")
        self._opening = False
        if not self._begun:
            self._begin(record)
        else:
            self._follow(record)
        self._begun, self._log = True, record.log
        found.logs.add(record.log)
        found.head = Head(record.seq, digest(line))
        found.records += 1
        found.last_time = record.time
        if self._expect is not None and found.head.sequence == self._expect.sequence:
            if found.head == self._expect:
                self._met = True
            else:
                self._say(f"record {record.seq} is another than the one that was expected: the log was rewritten")
                self._met = True

    def _begin(self, record: Record) -> None:
        self._found.first = record.seq
        first = record.seq == 1
        if first != (record.prev == NOTHING_BEFORE):
            self._say("the first record's number and what it follows do not fit together")
        elif not first:
            self._found.notes.append(
                f"begins with record {record.seq}; nothing is known of the {record.seq - 1} before it, which are in "
                "files that were not named"
            )

    def _follow(self, record: Record) -> None:
        before = self._found.head
        if record.log != self._log:
            self._say(f"is of log {record.log}, and the records before it are of log {self._log}")
        elif record.seq > before.sequence + 1:
            gap = record.seq - before.sequence - 1
            self._say(f"record {record.seq} comes after record {before.sequence}: {gap} missing between them")
        elif record.seq <= before.sequence:
            self._say(f"record {record.seq} comes after record {before.sequence}: inserted, repeated or moved")
        elif record.prev != before.digest:
            self._say(
                f"record {record.seq} does not follow the record before it as that reads now: one of them was changed"
            )

    def _settle_torn(self, record: Record) -> None:
        """Compare what could not be read with what the record after it says of it."""
        if self._torn_at is None:
            if record.action == Action.LOG_REPAIRED:
                self._say("tells of bytes before it that are no record, and there are none: they were removed")
            return
        said = (record.details.get("bytes"), record.details.get("sha256"))
        name, line = self._torn_at
        if record.action == Action.LOG_REPAIRED and said == (self._torn_bytes, self._torn.hexdigest()):
            self._found.notes.append(
                f"{name}, line {line}: a crash left {self._torn_bytes} bytes that are no record; closed off by "
                f"record {record.seq}"
            )
        else:
            self._found.findings.append(Finding(name, line, f"is no record: {self._problem}"))
        self._torn, self._torn_bytes, self._torn_at = hashlib.sha256(), 0, None

    def _end(self) -> None:
        if self._torn_at is not None:
            name, line = self._torn_at
            text = f"the end is no record: {self._problem}. A crash that no start has closed off yet, or it was cut"
            self._found.findings.append(Finding(name, line, text))
        if not self._begun and not self._found.findings:
            self._say("holds no record")
        if not self._met and self._expect is not None:
            end = self._found.head.sequence
            if self._expect.sequence > end:
                self._say(f"ends with record {end}; record {self._expect.sequence}, which was expected, was cut off")
            else:
                self._say(f"record {self._expect.sequence}, which was expected, is not in these files")

    def _say(self, problem: str) -> None:
        self._found.findings.append(Finding(*self._at, problem))
