"""Parts that take minutes to build, kept by the content of their recipe and built at most once at a time.

A result lives in `<cache>/<name>/<sha256 of the recipe>/`. It is built in a sibling folder and renamed when whole, so a
folder under its final name is always complete.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.errors import LabError
from lab.paths import cache_root
from lab.progress import stage

TAIL_LINES = 25


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


def cached(name: str, key: str, what: str, expected: str, build: Callable[[Path, Path], None]) -> Path:
    """Folder with the result, built now when missing.

    `build(folder, log)` fills an empty folder and writes what its commands say to the file `log`; `what` and `expected`
    make the progress line, for example "kube-apiserver from Go modules" and "about 7 minutes on two idle cores, once".
    Raises `LabError` naming the log and showing its end when the build fails; nothing half-built stays.
    """
    final = place(name, key)
    if final.is_dir():
        return final
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
