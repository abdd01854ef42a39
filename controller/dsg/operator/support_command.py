"""`dsg-operator support`: one file that says how a storage node is, without secrets and without names of data."""

from __future__ import annotations

import json
import platform
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dsg.audit.errors import AuditError
from dsg.audit.log import rotated_files
from dsg.audit.verify import read_sources
from dsg.audit.verify import verify as follow
from dsg.storage.errors import StorageError
from dsg.storage.zfs.layout import USER_PROPERTIES
from dsg.telemetry.bundle import Bundle
from dsg.telemetry.names import HIDDEN, Names

if TYPE_CHECKING:
    from dsg.storage.process import Runner

LINES = 2000
"""Lines of each log that are taken, the last ones."""
_TIMEOUT = 20.0
_FIXED = frozenset(
    {"timestamp", "level", "logger", "node", "kind", "namespace", "name", "trace_id", "span_id", "version"}
)
"""Fields of log lines that hold no names of data."""
_PROGRAMS = ("dsg-operator", "dsg-data-plane", "dsg.transfer.server.main", "dsg.operator")
_VALUES = ("used", "available", "quota", "refquota", "compression", "readonly", "keystatus", "written", "creation")
_COMMANDS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("zfs/version.txt", "versions of OpenZFS", ("zfs", "version")),
    ("zfs/pools.txt", "pools and their devices", ("zpool", "list", "-v", "-p")),
    # Without -v, which names damaged files.
    ("zfs/status.txt", "state of the pools", ("zpool", "status", "-t")),
    ("zfs/datasets.txt", "datasets and versions", ("zfs", "list", "-t", "all", "-o", "name,used,refer,written,origin")),
    (
        "zfs/properties.txt",
        "properties that the operator reads and sets",
        ("zfs", "get", "-t", "filesystem", "-o", "name,property,value,source", ",".join((*_VALUES, *USER_PROPERTIES))),
    ),
)


def support(
    file: Annotated[Path, typer.Option("--output", "-o", help="File to write, a tar archive; must not be there yet.")],
    log: Annotated[list[Path] | None, typer.Option(help="Log file of a process; may be given several times.")] = None,
    audit: Annotated[list[Path] | None, typer.Option(help="Audit log; only whether it holds is told.")] = None,
    metrics: Annotated[
        list[str] | None, typer.Option(help="HOST:PORT of /metrics, /healthz and /readyz; several times.")
    ] = None,
    names: Annotated[bool, typer.Option("--names", help="Leave names of data files in.")] = False,
    list_only: Annotated[bool, typer.Option("--list", help="Only say what would be in it.")] = False,
) -> None:
    """Put into one file how this node is: options of the processes, pools, datasets, mounts, the logs' ends, metrics.

    What looks like a password, token or key is replaced, and so are names of data files. Look through it before you
    send it.
    """
    # Where the operator's packages are missing, `dsg-operator` must still be able to say so.
    from dsg.storage.process import Runner
    from dsg.telemetry.logs import configure

    configure("warning")
    bundle = gather(Runner(), log or [], audit or [], metrics or [], names=names)
    for line in bundle.about:
        typer.echo(line)
    for name, what, count in bundle.listing:
        typer.echo(f"{count:>9}  {name}: {what}")
    if list_only:
        return
    try:
        bundle.write(file)
    except OSError as error:
        typer.echo(f"dsg-operator: {file} can't be written: {error.strerror}", err=True)
        raise typer.Exit(2) from None
    typer.echo(f"written: {file}")


def gather(runner: Runner, logs: list[Path], audits: list[Path], metrics: list[str], *, names: bool) -> Bundle:
    """Return the bundle. What can't be looked at is named in it with the reason."""
    bundle = Bundle("dsg-operator support")
    outputs = {name: _output(runner, argv) for name, _, argv in _COMMANDS}
    mounts = _mounts()
    hider = None if names else Names({*_known(outputs.values()), *(directory for _, directory in mounts)})

    bundle.add("versions.txt", "versions of dsg, Python and the system", _versions())
    bundle.add("processes.txt", "options of the processes of dsg that run here", _processes())
    for name, what, _ in _COMMANDS:
        bundle.add(name, what, outputs[name])
    bundle.add("mounts.txt", "what is mounted from ZFS", "".join(f"{source} {place}\n" for source, place in mounts))
    for number, path in enumerate(logs):
        bundle.add(f"logs/{number}-{path.name}", f"the last {LINES} lines of {path}", _log(path, hider))
    for number, path in enumerate(audits):
        bundle.add(f"audit/{number}-{path.name}.txt", f"whether the chain of {path} holds", _audit(path))
    for address in metrics:
        for page in ("metrics", "healthz", "readyz"):
            folder = address.replace(":", "-").strip("[]")
            bundle.add(f"http/{folder}/{page}.txt", f"http://{address}/{page}", _fetched(address, page))
    bundle.about = [
        f"Made by dsg {installed_version('dsg')} on {platform.node()}. What looks like a password, token or key was "
        "replaced.",
        "Names of data files are in it, as asked for with --names."
        if names
        else f"Names of data files were replaced by {HIDDEN}. Names of datasets and Repositories are in it.",
    ]
    return bundle


def _output(runner: Runner, argv: tuple[str, ...]) -> str:
    try:
        done = runner.run(argv, timeout=_TIMEOUT)
    except StorageError as error:
        return f"not looked at: {error}\n"
    return (done.stdout + done.stderr).decode(errors="backslashreplace")


def _known(outputs: Iterable[str]) -> Iterator[str]:
    """Yield every dataset and snapshot that ZFS lists, and what it calls by `namespace/name`."""
    for text in outputs:
        for line in text.splitlines():
            yield from (word for word in line.split() if "/" in word or "@" in word)


def _versions() -> str:
    return (
        f"dsg {installed_version('dsg')}\npython {sys.version.split()[0]}\n"
        f"{platform.system()} {platform.release()} {platform.machine()}\n"
    )


def _processes() -> str:
    found = []
    for folder in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        try:
            argv = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        words = [word.decode(errors="backslashreplace") for word in argv if word]
        if any(Path(word).name in _PROGRAMS for word in words[:4]) or any(word in _PROGRAMS for word in words[:6]):
            found.append(f"{folder.name} {' '.join(words)}")
    return "\n".join(found) + "\n" if found else "none\n"


def _mounts() -> list[tuple[str, str]]:
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="backslashreplace").splitlines()
    except OSError:
        return []
    fields = [line.split(" ") for line in lines]
    return [(field[0], field[1]) for field in fields if len(field) > 2 and field[2] == "zfs"]  # noqa: PLR2004


def _tail(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="backslashreplace") as file:
            return "".join(deque(file, LINES))
    except OSError as error:
        return f"not looked at: {error.strerror}\n"


def _log(path: Path, hider: Names | None) -> str:
    lines = _tail(path).splitlines()
    return "".join(f"{line if hider is None else _hidden(line, hider)}\n" for line in lines)


def _hidden(line: str, hider: Names) -> str:
    """Return a log line without names of data; of one in JSON only the values can have any."""
    try:
        fields = json.loads(line)
    except ValueError:
        return hider.hide(line)
    if not isinstance(fields, dict):
        return hider.hide(line)
    return json.dumps({key: value if key in _FIXED else _walk(value, hider) for key, value in fields.items()})


def _walk(value: object, hider: Names) -> object:
    match value:
        case str():
            return hider.hide(value)
        case list():
            return [_walk(item, hider) for item in value]
        case dict():
            return {key: _walk(item, hider) for key, item in value.items()}
    return value


def _audit(path: Path) -> str:
    try:
        found = follow(read_sources([*rotated_files(path), path]))
    except AuditError as error:
        return f"not looked at: {error}\n"
    lines = [f"broken: {finding}" for finding in found.findings] + [f"note: {note}" for note in found.notes]
    return "\n".join([*lines, f"{found.records} records, head {found.head}, holds: {found.whole}", ""])


def _fetched(address: str, page: str) -> str:
    import urllib3

    try:
        answer = urllib3.request("GET", f"http://{address}/{page}", timeout=5.0, retries=False)
    except urllib3.exceptions.HTTPError as error:
        return f"not looked at: {error}\n"
    return f"{answer.status}\n{answer.data.decode(errors='backslashreplace')}"
