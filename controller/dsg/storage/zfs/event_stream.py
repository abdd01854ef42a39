"""Events of the pools as zpool(8) prints them (`zpool events -H -v`), and a stream that follows them.

Each event is a line with time and class, then indented lines `name = value`, then an empty line. zpool(8) prints what
the kernel still remembers before what is new, and writes each event out as it comes, through a pipe too. Values are not
escaped; where one holds line breaks, the first line of each name counts, and those OpenZFS makes itself come first.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from dsg.storage.errors import CommandFailed
from dsg.storage.zfs.interface import ZfsEvent

_HEADER = re.compile(r"\w{3} [ \d]\d \d{4} \d\d:\d\d:\d\d\.\d+\t(?P<name>[a-z][\w.]*)")
_FIELD = re.compile(r" {8}(?P<key>\w+) = (?P<value>.*)")
_CLOSING = 5.0


@dataclass(frozen=True, slots=True)
class NumberedEvent:
    """An event with the number that the kernel gave it; numbers only grow while the module is loaded."""

    number: int
    event: ZfsEvent


def parse_events(lines: Iterable[str]) -> Iterator[NumberedEvent]:
    """Yield each event as soon as its last line is there. Lines that belong to none are passed over."""
    name, fields = "", dict[str, str]()
    for line in lines:
        header = _HEADER.fullmatch(line.rstrip("\n"))
        if header is not None:
            name, fields = header["name"], {}
            continue
        found = _FIELD.fullmatch(line.rstrip("\n"))
        if not name or found is None:
            continue
        fields.setdefault(found["key"], found["value"].strip().strip('"'))
        if found["key"] == "eid":
            number = _hexadecimal(found["value"])
            if number is not None:
                yield NumberedEvent(number, ZfsEvent(name, fields.get("pool", ""), fields.get("history_dsname", "")))
            name = ""


def _hexadecimal(text: str) -> int | None:
    try:
        return int(text.strip(), 16)
    except ValueError:
        return None


class FollowedEvents:
    """Events of a running `zpool events -f` that are newer than a given one (an `EventStream`)."""

    def __init__(
        self,
        child: subprocess.Popen[bytes],
        after: int,
        *,
        signal_group: Callable[[int, int], None] = os.killpg,
    ) -> None:
        self._child = child
        self._after = after
        self._signal_group = signal_group
        self._closed = threading.Event()
        self._iterated = False
        self._said = ""

    def __iter__(self) -> Iterator[ZfsEvent]:
        """Yield events as they come."""
        for numbered in parse_events(self._lines()):
            if numbered.number > self._after and not self._closed.is_set():
                yield numbered.event
        if not self._closed.is_set():
            code = self._child.wait()
            raise CommandFailed(f"`zpool events` ended by itself (exit code {code}): {self._said or 'no message'}")

    def _lines(self) -> Iterator[str]:
        stdout = self._child.stdout
        if stdout is None or self._closed.is_set():
            return
        self._iterated = True
        with stdout:
            for raw in stdout:
                line = raw.decode("utf-8", "backslashreplace")
                if not line.startswith(" ") and line.strip():
                    self._said = line.strip()
                yield line

    def close(self) -> None:
        """End the child; the iterating thread sees the end of its output."""
        if self._closed.is_set():
            return
        self._closed.set()
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                self._signal_group(self._child.pid, number)
            except ProcessLookupError:
                break
            try:
                self._child.wait(_CLOSING)
            except subprocess.TimeoutExpired:
                continue
            break
        if not self._iterated and self._child.stdout is not None:
            self._child.stdout.close()
