"""Parts that take minutes to build, kept by the content of their recipe and built at most once at a time.

A result lives in `<cache>/<name>/<sha256 of the recipe>/`. It is built in a sibling folder and renamed when whole, so a
folder under its final name is always complete.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.errors import LabError
from lab.paths import cache_root
from lab.progress import stage

TAIL_LINES = 25
_KEY = re.compile("[0-9a-f]{64}")


def recipe_key(files: Iterable[Path], *extra: str) -> str:
    """SHA-256 over the names, execute bits and contents of `files`, and over `extra` texts (settings, versions)."""
    total = hashlib.sha256()
    for file in sorted(files, key=lambda f: f.name):
        content = file.read_bytes()
        head = f"file {file.name} {os.access(file, os.X_OK):d} {len(content)}\n"
        total.update(head.encode() + content)
    for text in extra:
        data = text.encode()
        total.update(f"text {len(data)}\n".encode() + data)
    return total.hexdigest()


def folder_key(folder: Path, *extra: str) -> str:
    """`recipe_key` over every file directly inside `folder`."""
    return recipe_key((f for f in folder.iterdir() if f.is_file()), *extra)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path` (made when missing); waits for another process that holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with stage(f"waiting for another process that holds {path}"):
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def place(name: str, key: str) -> Path:
    """Where the result of recipe `key` of part `name` is, or would be."""
    return cache_root() / name / key


def found(name: str, key: str) -> Path | None:
    """The result of recipe `key` when it is built, else None. Looking counts as use, for `prune`."""
    folder = place(name, key)
    if not folder.is_dir():
        return None
    try:
        os.utime(folder)
    except PermissionError:
        # Somebody else's cache, read only: its owner prunes it.
        return folder
    return folder


def prune(days: float, keep: Iterable[Path] = ()) -> list[Path]:
    """Remove results that nothing has used for `days` days, except `keep`, and their logs; returns what went.

    What a node of a stopped lab is layered on counts as used only when it is in `keep`.
    """
    limit = time.time() - days * 86400
    kept = {folder.resolve() for folder in keep}
    gone = []
    for folder in sorted(cache_root().glob("*/*/")):
        if not _KEY.fullmatch(folder.name) or folder.resolve() in kept:
            continue
        with locked(folder.with_name(f"{folder.name}.lock")):
            if folder.stat().st_mtime < limit:
                shutil.rmtree(folder)
                folder.with_name(f"{folder.name}.log").unlink(missing_ok=True)
                gone.append(folder)
    return gone


def cached(name: str, key: str, what: str, expected: str, build: Callable[[Path, Path], None]) -> Path:
    """Folder with the result, built now when missing.

    `build(folder, log)` fills an empty folder and writes what its commands say to the file `log`; `what` and `expected`
    make the progress line, for example "kube-apiserver from Go modules" and "about 7 minutes on two idle cores, once".
    Raises `LabError` naming the log and showing its end when the build fails; nothing half-built stays.
    """
    if folder := found(name, key):
        return folder
    final = place(name, key)
    with locked(final.with_name(f"{key}.lock")):
        if final.is_dir():
            return final
        temporary = final.with_name(f"{key}.partial")
        log = final.with_name(f"{key}.log")
        if temporary.exists():
            shutil.rmtree(temporary)
        temporary.mkdir(parents=True)
        log.write_text("")
        try:
            with stage(f"building {what}", expected):
                build(temporary, log)
        except BaseException as error:
            shutil.rmtree(temporary, ignore_errors=True)
            if isinstance(error, (subprocess.SubprocessError, OSError)):
                raise LabError(
                    f"building {what} failed: {error}\nThe log is {log}; it ends:\n{tail(log)}\n"
                    "Nothing was kept; the next call builds it again."
                ) from error
            raise
        temporary.rename(final)
        return final


def run_logged(argv: list[str], log: Path, timeout: float, cwd: Path | None = None, **environment: str) -> None:
    """Run a command with all its output appended to `log`; `timeout` in seconds.

    Raises `subprocess.CalledProcessError` or `subprocess.TimeoutExpired`.
    """
    with log.open("ab") as out:
        out.write(f"+ {' '.join(argv)}\n".encode())
        out.flush()
        subprocess.run(
            argv,
            cwd=cwd,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=True,
        )


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a log, indented; a note when it is missing or empty."""
    try:
        content = log.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return "  (there is no log)"
    return "\n".join(f"  {line}" for line in content[-lines:]) or "  (the log is empty)"
