"""Grants: what a transaction may read or write, and how the operator tells the data plane.

The operator writes one file for each open transaction into a directory, `UID.json`, and removes it when the transaction
is over. The data plane looks at the file with each request, so it needs no API server and no credentials, and a grant
that is gone ends what is under way. In the same directory the data plane says, in `server.json`, by which certificate
clients tell it.

A file takes its place by rename(2), so nobody reads half of one. No file holds a secret: a client is known by its
certificate, and only that one's digest stands here.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from dsg.api.base import Model

SERVER_FILE = "server.json"
"""Where the data plane says who it is."""
UID_PATTERN = "[0-9a-zA-Z][0-9a-zA-Z-]{0,63}"
FINGERPRINT_PATTERN = "[0-9a-f]{64}"

_UID = re.compile(UID_PATTERN, re.ASCII)
_FINGERPRINT = re.compile(FINGERPRINT_PATTERN, re.ASCII)
_SUFFIX = ".json"
_RESERVED = SERVER_FILE.removesuffix(_SUFFIX)
_MODE = 0o644
"""Others than the writer read a file here, whatever the umask; nothing in it is secret."""
_MAX_FILE = 65536
"""Bytes of a file here; a grant has far fewer."""

Fingerprint = Annotated[str, Field(pattern=f"^{FINGERPRINT_PATTERN}$")]
"""SHA-256 of a certificate's DER encoding, in hexadecimal."""


class GrantError(Exception):
    """A grant, or what the data plane says of itself, that can't be read or written. The message says which and why."""


class Grant(Model):
    """What one transaction may do on this node, and for how long."""

    uid: Annotated[str, Field(pattern=f"^{UID_PATTERN}$")]
    """The transaction's identity; the file has its name."""
    namespace: Annotated[str, Field(min_length=1, max_length=253)]
    """Namespace of the repository."""
    repository: Annotated[str, Field(min_length=1, max_length=253)]
    """Name of the repository."""
    author: Annotated[str, Field(min_length=1, max_length=256)]
    """Whose transaction it is; work is shared out fairly between authors."""
    client_key: Fingerprint
    """SHA-256 of the client certificate's DER encoding; no other certificate may use the grant."""
    mode: Literal["read", "write"]
    """`read`: contents of the tree are served. `write`: contents are taken for the stage."""
    root: Annotated[str, Field(pattern=r"^/[^\x00]*$", max_length=4095)]
    """Absolute directory: the tree of the version to be read, or the stage's."""
    version: Annotated[str, Field(pattern="^s[1-9][0-9]*$")] | None = None
    """The version that is read, or that the stage was made from; only told to the client."""
    expires: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """When it ends, if its file is not removed before: seconds since 1970."""
    size_limit: Annotated[int, Field(ge=0)] | None = None
    """Bytes that may be sent in all; absent where only the file system sets a limit."""


class _Server(Model):
    certificate_fingerprint: Fingerprint
    """SHA-256 of the data plane's certificate."""


def is_uid(text: str) -> bool:
    """Return whether a text can be the identity of a grant."""
    return _UID.fullmatch(text) is not None and text != _RESERVED


def write_grant(directory: Path, grant: Grant) -> None:
    """Write a grant, in place of an earlier one of its uid. Raises GrantError."""
    if not is_uid(grant.uid):
        raise GrantError(f"no grant can have the uid {grant.uid!r}: its file would be the data plane's own")
    _replace(directory, f"{grant.uid}{_SUFFIX}", grant.model_dump(by_alias=True, exclude_none=True))


def remove_grant(directory: Path, uid: str) -> None:
    """Remove a grant; one that is not there is no error. Raises GrantError."""
    _require_uid(uid)
    path = directory / f"{uid}{_SUFFIX}"
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        text = f"cannot remove the grant {path}: {error.strerror}. The data plane honours it until it expires"
        raise GrantError(text) from error


def grants_in(directory: Path) -> list[str]:
    """Return the uids of all grants in a directory, in order; none where there is no directory. Raises GrantError."""
    try:
        names = [path.name for path in directory.iterdir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise GrantError(f"cannot list the grants in {directory}: {error.strerror}") from error
    return sorted(name.removesuffix(_SUFFIX) for name in names if _is_grant(name))


def read_grant(directory: Path, uid: str) -> Grant | None:
    """Return a grant whether expired or not; None where there is none. Raises GrantError."""
    _require_uid(uid)
    path = directory / f"{uid}{_SUFFIX}"
    raw = _read(path)
    return None if raw is None else _parse(path, uid, raw)


def write_server(directory: Path, fingerprint: str) -> None:
    """Say by which certificate clients tell the data plane. Raises GrantError."""
    if not _FINGERPRINT.fullmatch(fingerprint):
        raise GrantError(f"{fingerprint!r} is no SHA-256 fingerprint of 64 hexadecimal digits")
    said = _Server(certificate_fingerprint=fingerprint)
    _replace(directory, SERVER_FILE, said.model_dump(by_alias=True))


def read_server(directory: Path) -> str | None:
    """Return the fingerprint of the data plane's certificate; None where none has started. Raises GrantError."""
    path = directory / SERVER_FILE
    raw = _read(path)
    if raw is None:
        return None
    try:
        return _Server.model_validate_json(raw).certificate_fingerprint
    except ValidationError as error:
        raise GrantError(f"{path} does not say who the data plane is: {_why(error)}") from error


def sign_of_life(directory: Path) -> None:
    """Say that the data plane lives, by the time of the file that says who it is. Raises GrantError."""
    path = directory / SERVER_FILE
    try:
        os.utime(path, follow_symlinks=False)
    except OSError as error:
        raise GrantError(f"cannot set the time of {path}: {error.strerror}") from error


def last_sign(directory: Path) -> float | None:
    """Return when the data plane last said that it lives, in seconds since 1970; None where it can't be told."""
    try:
        return os.lstat(directory / SERVER_FILE).st_mtime
    except OSError:
        return None


class Grants:
    """The grants of a directory, as they are now. Any number of threads may ask.

    A file that is as it was is not read again: told by inode, size and times, which change with each rename into its
    place.
    """

    def __init__(self, directory: Path, *, clock: Callable[[], float] = time.time) -> None:
        """`clock` gives seconds since 1970."""
        self._directory = directory
        self._clock = clock
        self._known: dict[str, tuple[tuple[int, int, int, int], Grant]] = {}
        self._guard = threading.Lock()

    def find(self, uid: str) -> Grant | None:
        """Return a grant; None where there is none, or it has expired. Raises GrantError for one that can't be read."""
        grant = self._current(uid) if is_uid(uid) else None
        return grant if grant is not None and self._clock() < grant.expires else None

    def _current(self, uid: str) -> Grant | None:
        # This is asked for with each file that is stored; pathlib would take longer than the kernel.
        path = f"{self._directory}/{uid}{_SUFFIX}"
        try:
            found = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            with self._guard:
                self._known.pop(uid, None)
            return None
        except OSError as error:
            raise GrantError(f"cannot look at the grant {path}: {error.strerror}") from error
        mark = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        with self._guard:
            known = self._known.get(uid)
        if known is not None and known[0] == mark:
            return known[1]
        grant = read_grant(self._directory, uid)
        if grant is not None:
            # A file that was replaced meanwhile has another mark, and is read again next time.
            with self._guard:
                self._known[uid] = (mark, grant)
        return grant


def _is_grant(name: str) -> bool:
    return name.endswith(_SUFFIX) and is_uid(name.removesuffix(_SUFFIX))


def _require_uid(uid: str) -> None:
    if not is_uid(uid):
        raise GrantError(f"{uid!r} is no uid of a transaction: 1 to 64 letters, digits and hyphens")


def _parse(path: Path, uid: str, raw: bytes) -> Grant:
    try:
        grant = Grant.model_validate_json(raw)
    except ValidationError as error:
        raise GrantError(f"the grant {path} is not valid: {_why(error)}") from error
    if grant.uid != uid:
        raise GrantError(f"the grant {path} says that it is for {grant.uid}; a grant's file has the name of its uid")
    return grant


def _why(error: ValidationError) -> str:
    """Return the first problem in words; a value of the file is not repeated."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]


def _read(path: Path) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise GrantError(f"cannot read {path}: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "rb") as file:
            raw = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise GrantError(f"cannot read {path}: {error.strerror}") from error
    if len(raw) > _MAX_FILE:
        raise GrantError(f"{path} has more than the {_MAX_FILE} bytes that a grant can have")
    return raw


def _replace(directory: Path, name: str, said: dict[str, object]) -> None:
    path = directory / name
    aside = directory / f".{name}.{secrets.token_hex(8)}"
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(descriptor, _MODE)
                file.write(json.dumps(said, ensure_ascii=True, sort_keys=True).encode() + b"\n")
            aside.replace(path)
        except BaseException:
            with suppress(OSError):
                aside.unlink()
            raise
    except OSError as error:
        raise GrantError(f"cannot write {path}: {error.strerror}") from error
