"""The first line of a manifest: which version it is, who made it, what its entries come to, and what came before."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from dsg.manifests.digest import Summary, chain_digest
from dsg.manifests.entries import EntryError, check_author, check_digest, version_number
from dsg.manifests.lines import LineError, expect_fields, not_canonical, parse, quote, text

FORMAT = "dsg-manifest/1"
"""Name and version of the format. A reader refuses every other one."""
MAX_MESSAGE = 4096
"""Characters, as in a SyncTransaction."""

_TRANSACTION = re.compile("[0-9a-zA-Z-]{1,64}")
_FIELDS = (
    "format",
    "version",
    "previous",
    "author",
    "time",
    "message",
    "transaction",
    "entries",
    "size",
    "tree",
    "digest",
    "chain",
)


@dataclass(frozen=True, slots=True)
class Commit:
    """What is said of a version beside what it holds. EntryError when a value is not valid."""

    version: str
    """Name of the version: s1, s2 and so on."""
    previous: str | None
    """Chain digest of the version before; None where a history begins, which s1 always is."""
    author: str
    """Who committed it."""
    time: datetime
    """When, in UTC and whole seconds. Clocks jump, so times need not rise from version to version."""
    message: str
    """Why, for the log."""
    transaction: str
    """Identity of the transaction that made the version: 1 to 64 letters, digits and hyphens."""

    def __post_init__(self) -> None:
        if version_number(self.version) == 1 and self.previous is not None:
            raise EntryError("version s1 names a previous version; there is none")
        if self.previous is not None:
            check_digest(self.previous, "previous chain digest")
        check_author(self.author)
        if self.time.utcoffset() != timedelta(0) or self.time.microsecond:
            raise EntryError(f"time {self.time.isoformat()} must be in UTC and whole seconds")
        if len(self.message) > MAX_MESSAGE:
            raise EntryError(f"the message has {len(self.message)} characters; {MAX_MESSAGE} are allowed")
        try:
            self.message.encode()
        except UnicodeEncodeError:
            raise EntryError("the message holds lone surrogates, which are no characters") from None
        if not _TRANSACTION.fullmatch(self.transaction):
            raise EntryError(f"transaction {self.transaction!r} is not 1 to 64 letters, digits and hyphens")


@dataclass(frozen=True, slots=True)
class Header:
    """A version's header."""

    commit: Commit
    """Who, when and why."""
    summary: Summary
    """What the entries come to."""

    @property
    def version(self) -> str:
        """Name of the version."""
        return self.commit.version

    @property
    def chain(self) -> str:
        """Chain digest: one value that stands for this version and its whole history."""
        return chain_digest(f"{self._stem()}}}\n".encode())

    def encode(self) -> bytes:
        """Return the line, newline included."""
        return f'{self._stem()},"chain":"{self.chain}"}}\n'.encode()

    def _stem(self) -> str:
        commit, summary = self.commit, self.summary
        previous = "null" if commit.previous is None else f'"{commit.previous}"'
        return (
            f'{{"format":"{FORMAT}","version":"{commit.version}","previous":{previous},'
            f'"author":{quote(commit.author)},"time":"{_format_time(commit.time)}","message":{quote(commit.message)},'
            f'"transaction":"{commit.transaction}",'
            f'"entries":{summary.entries},"size":{summary.size},"tree":"{summary.tree}","digest":"{summary.digest}"'
        )


def decode_header(raw: bytes) -> Header:
    """Return the header of a line with its newline. LineError unless it is exactly what `Header.encode` makes.

    The chain digest is part of that: a header that was altered anywhere is refused.
    """
    fields = parse(raw)
    if fields.get("format") != FORMAT:
        raise LineError(f"format is {fields.get('format')!r}; this dsg reads {FORMAT} (a newer one may read it)")
    expect_fields(fields, _FIELDS)
    try:
        commit = Commit(
            text(fields, "version"),
            None if fields["previous"] is None else text(fields, "previous"),
            text(fields, "author"),
            _parse_time(text(fields, "time")),
            text(fields, "message"),
            text(fields, "transaction"),
        )
        summary = Summary(fields["entries"], fields["size"], text(fields, "tree"), text(fields, "digest"))
    except EntryError as error:
        raise LineError(str(error)) from None
    header = Header(commit, summary)
    chain = text(fields, "chain")
    if chain != header.chain:
        raise LineError(f"the header of {header.version} says chain {chain}, its fields give {header.chain}")
    right = header.encode()
    if right != raw:
        raise LineError(not_canonical(raw, right))
    return header


def _format_time(time: datetime) -> str:
    # RFC 3339 has years of four digits; strftime's %Y pads them on some systems only, isoformat on all.
    return time.replace(tzinfo=None).isoformat() + "Z"


def _parse_time(value: str) -> datetime:
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        raise LineError(f"time {value!r} is not written like 2026-01-31T12:00:00Z") from None
