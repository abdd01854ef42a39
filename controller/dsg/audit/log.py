"""The audit log on disk: one writer, one line for each record, nothing acknowledged before it is durable.

A file of its own holds the lock, as the log itself is renamed when it has grown: `audit.jsonl` becomes
`audit.jsonl.000000000001`, by the sequence number of its first record. Nothing is ever removed here.

A crash can cut the last write short. What it left stays; the next start closes it off with a record that says what it
was. A write that fails while the process lives is taken back, since nobody was told that it succeeded.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from dsg.audit.actions import Action
from dsg.audit.errors import AuditError
from dsg.audit.record import MAX_LINE, Entry, Head, RecordError, Value, decode, digest, make
from dsg.audit.tail import Tail, tail_of

ROTATE_AT = 64 << 20
"""Bytes from which a file is closed and the next begun."""
_LOOK_BACK = 1 << 20
"""Bytes from the end in which the last record is looked for first."""
_TRY_AGAIN = 1 << 20
"""Bytes after which a rotation that failed is tried again."""
_MODE = 0o600


def rotated_name(name: str, first: int) -> str:
    """Return what a file is called once it is closed, by the sequence number of its first record."""
    return f"{name}.{first:012d}"


def rotated_files(path: Path) -> list[Path]:
    """Return the closed files of a log, oldest first."""
    pattern = re.compile(re.escape(path.name) + r"\.[0-9]{12}")
    return sorted(file for file in path.parent.glob(f"{path.name}.*") if pattern.fullmatch(file.name))


class AuditLog:
    """Writes one log. Safe for threads; a second process is kept out."""

    def __init__(
        self,
        path: Path,
        writer: str,
        node: str,
        *,
        rotate_at: int = ROTATE_AT,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        patience: float = 10.0,
        sync: Callable[[int], None] = os.fdatasync,
    ) -> None:
        """Open the log, or begin one. Raises AuditError, also when another process keeps it for `patience` seconds."""
        self.path = path
        self._writer = writer
        self._node = node
        self._rotate_at = rotate_at
        self._clock = clock
        self._sync = sync
        self._lock = threading.Lock()
        self._closed = False
        self._fd = self._guard = -1
        self._rotation_due = rotate_at
        self._durable_size = 0
        """Bytes of the file that are known to be on disk."""
        self._loose = bytearray()
        """What was written after them."""
        self._suspect = False
        """Whether what lies in the file after them may be something else."""
        self._directory_loose = True
        self._last = self._durable = Head()
        try:
            self._directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise AuditError(f"the directory of the audit log {path} can't be opened: {error.strerror}") from error
        try:
            self._guard = self._alone(patience)
            self._open()
        except OSError as error:
            self.close()
            raise AuditError(f"the audit log {path} can't be opened: {error.strerror or error}") from error
        except BaseException:
            self.close()
            raise

    # ---- what is asked of it

    @property
    def head(self) -> Head:
        """Return the last record that is durable: what may be told to others as this log's end."""
        with self._lock:
            return self._durable

    def append(self, entry: Entry, *, durable: bool = True) -> None:
        """Record an entry. Raises AuditError; then there is no record of it.

        With `durable`, it and all before it survive a power cut once this returns. Without, it survives the end of the
        process, and a later durable one takes it along.
        """
        with self._lock:
            if self._closed:
                raise AuditError(f"the audit log {self.path} is closed")
            try:
                self._require_in_place()
                self._mend()
                if self._size >= self._rotation_due:
                    self._rotate()
                before = self._last, len(self._loose)
                try:
                    self._write(entry)
                    if durable:
                        self._make_durable()
                except OSError:
                    self._last = before[0]
                    del self._loose[before[1] :]
                    self._suspect = True
                    self._mend()
                    raise
            except OSError as error:
                raise self._unwritable(error) from error

    def flush(self) -> None:
        """Make durable what was recorded so far. Raises AuditError."""
        with self._lock:
            if self._closed or self._durable == self._last:
                return
            try:
                self._mend()
                self._make_durable()
            except OSError as error:
                raise self._unwritable(error) from error

    def close(self) -> None:
        """Let go of the log; what was recorded is made durable as far as that goes."""
        if self._fd >= 0:
            with suppress(AuditError):
                self.flush()
        with self._lock:
            self._closed = True
            for number in (self._fd, self._guard, self._directory):
                if number >= 0:
                    os.close(number)
            self._fd = self._guard = self._directory = -1

    # ---- opening

    def _alone(self, patience: float) -> int:
        guard = self._open_file(f"{self.path.name}.lock", os.O_RDWR | os.O_CREAT)
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() >= deadline:
                    os.close(guard)
                    raise AuditError(
                        f"another process writes the audit log {self.path}; each process needs one of its own. "
                        "End the other one first"
                    ) from None
                time.sleep(0.05)
            else:
                return guard

    def _open(self) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._new_name, dir_fd=self._directory)
        self._fd = self._open_file(self.path.name, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        self._unlink_twin()
        self._durable_size = os.fstat(self._fd).st_size
        found = self._read_tail(self._fd, self._durable_size)
        self._first = self._first_of(self._fd) if found.head is not None else 0
        before = Tail(None, "", b"")
        if found.head is None and (older := rotated_files(self.path)):
            with older[-1].open("rb") as file:
                before = self._read_tail(file.fileno(), os.fstat(file.fileno()).st_size)
        head = found.head or before.head
        self._log = found.log or before.log or secrets.token_hex(16)
        self._last = self._durable = head or Head()
        torn = before.torn + found.torn
        if torn:
            self._repair(torn)
        elif found.head is None:
            self._write(Entry(Action.LOG_CONTINUED if head is not None else Action.LOG_BEGUN))
        self._make_durable()

    def _open_file(self, name: str, flags: int) -> int:
        return os.open(name, flags | os.O_CLOEXEC | os.O_NOFOLLOW, _MODE, dir_fd=self._directory)

    def _read_tail(self, fd: int, size: int) -> Tail:
        if size > _LOOK_BACK + MAX_LINE:
            start = size - _LOOK_BACK
            data = os.pread(fd, _LOOK_BACK, start)
            skipped = data.find(b"\n") + 1
            found = tail_of(data[skipped:])
            if skipped and found.head is not None:
                return found
        return tail_of(_read(fd, size))

    def _first_of(self, fd: int) -> int:
        line, newline, _ = os.pread(fd, MAX_LINE + 1, 0).partition(b"\n")
        try:
            return decode(line).seq if newline else 0
        except RecordError:
            return 0

    def _repair(self, torn: bytes) -> None:
        """Close off what a crash left, in one write with the record that tells of it."""
        closing = b"" if torn.endswith(b"\n") else b"\n"
        region = torn + closing
        details: dict[str, Value] = {"bytes": len(region), "sha256": hashlib.sha256(region).hexdigest()}
        self._write(Entry(Action.LOG_REPAIRED, details=details), before=closing)

    # ---- writing

    @property
    def _new_name(self) -> str:
        return f".{self.path.name}.new"

    @property
    def _size(self) -> int:
        return self._durable_size + len(self._loose)

    def _unwritable(self, error: OSError) -> AuditError:
        return AuditError(f"the audit log {self.path} can't be written: {error.strerror or error}")

    def _write(self, entry: Entry, before: bytes = b"") -> None:
        line = self._line(entry)
        data = before + line + b"\n"
        # First of all: what a failed write leaves is beyond what is known, and taken back.
        _write_all(self._fd, data)
        self._loose += data
        self._last = Head(self._last.sequence + 1, digest(line))
        if not self._first:
            self._first = self._last.sequence

    def _line(self, entry: Entry) -> bytes:
        return make(self._last, self._log, self._writer, self._node, self._clock(), entry)

    def _make_durable(self) -> None:
        try:
            if self._directory_loose:
                os.fsync(self._directory)
                self._directory_loose = False
            self._sync(self._fd)
        except OSError:
            self._suspect = True
            raise
        self._durable_size = self._size
        self._loose.clear()
        self._durable = self._last

    def _mend(self) -> None:
        """After a failure, write again all that is not durable.

        Linux takes pages whose writing failed for clean: a later fsync would succeed without them.
        """
        if self._suspect:
            os.ftruncate(self._fd, self._durable_size)
            _write_all(self._fd, bytes(self._loose))
            self._suspect = False

    def _require_in_place(self) -> None:
        """Raise AuditError where the file is no longer the one of the log's name: what is written would be lost."""
        try:
            found = os.stat(self.path.name, dir_fd=self._directory, follow_symlinks=False)
        except FileNotFoundError:
            found = None
        here = os.fstat(self._fd)
        if found is None or (found.st_dev, found.st_ino) != (here.st_dev, here.st_ino):
            raise AuditError(
                f"the audit log {self.path} was {'removed' if found is None else 'replaced'} while it was written. Put "
                "the former file back, or restart this process: then it goes on with the file that is there"
            )

    def _rotate(self) -> None:
        """Begin the next file, or go on with this one. Raises OSError where that leaves open what is durable."""
        self._make_durable()
        self._rotation_due = self._size + _TRY_AGAIN
        line = self._line(Entry(Action.LOG_CONTINUED))
        fd = -1
        try:
            fd = self._open_file(self._new_name, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC)
            _write_all(fd, line + b"\n")
            self._sync(fd)
            # Linked first, so that there is a file of the log's name at any moment.
            old = rotated_name(self.path.name, self._first)
            os.link(self.path.name, old, src_dir_fd=self._directory, dst_dir_fd=self._directory, follow_symlinks=False)
            os.rename(self._new_name, self.path.name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        except OSError:
            if fd >= 0:
                os.close(fd)
            self._unlink_twin()
            return
        os.close(self._fd)
        self._fd, self._durable_size = fd, len(line) + 1
        self._last = self._durable = Head(self._last.sequence + 1, digest(line))
        self._first = self._last.sequence
        self._rotation_due = self._rotate_at
        self._directory_loose = True
        self._make_durable()

    def _unlink_twin(self) -> None:
        """Take away the second name that an interrupted rotation gave to the file that is still written."""
        here = os.fstat(self._fd)
        for file in rotated_files(self.path)[-1:]:
            found = file.lstat()
            if (found.st_dev, found.st_ino) == (here.st_dev, here.st_ino):
                os.unlink(file.name, dir_fd=self._directory)


def _read(fd: int, size: int) -> bytes:
    found = bytearray()
    while piece := os.pread(fd, size - len(found), len(found)):
        found += piece
    return bytes(found)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
