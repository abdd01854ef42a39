"""The end of a log as it is found at a start: the last record, and what comes after it that is none. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from dsg.audit.record import Head, Record, RecordError, decode, digest


@dataclass(frozen=True, slots=True)
class Tail:
    """How some bytes of a log end."""

    head: Head | None
    """The last record that continues what is before it; None where there is none."""
    log: str
    """The log's name; "" without a record."""
    torn: bytes
    """What comes after that record, of a write that a crash cut short; b"" usually."""


def tail_of(data: bytes) -> Tail:
    """Look at the last bytes of a log, from the begin of a line on."""
    head: Head | None = None
    name = ""
    end = position = 0
    while (newline := data.find(b"\n", position)) >= 0:
        line = data[position:newline]
        position = newline + 1
        record = _record(line)
        if record is None:
            continue
        follows = head is None or (record.seq, record.prev) == (head.sequence + 1, head.digest)
        if follows:
            head, name, end = Head(record.seq, digest(line)), record.log, position
    return Tail(head, name, data[end:])


def _record(line: bytes) -> Record | None:
    try:
        return decode(line)
    except RecordError:
        return None
