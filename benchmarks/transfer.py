"""What it costs to bring files to a node and back, beside `cp` and `rsync` over ssh on the same machine.

All in one run: many small files for the first time, one large file for the first time, and the same file with one
hundredth changed. Both ends of everything run on this machine, so its processors do the work of two, and no network is
measured. A client of dsg is a process of its own; its server is `dsg-data-plane`. Sending includes what a sync does
before it (scan and list of changes), fetching what a clone does before it (the manifest). Times are the least of
several rounds; seconds depend on the machine, ratios within one run tell something. What was copied is compared byte by
byte in the end. Needs rsync; and sshd and ssh, without which rsync is run between two directories, by a process each.

    python -m benchmarks.transfer [--quick] [--files 20000] [--large 2147483648] [--rounds 3] [--directory DIR]
                                  [--sshd FILE] [--json FILE]
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO

from benchmarks.manifests import resident
from benchmarks.scan import make, make_large
from dsg.manifests import history, tree
from dsg.manifests.changes import Place, encode_change
from dsg.manifests.entries import Entry, File, FileState, State
from dsg.manifests.header import Commit, Header
from dsg.scan.scan import Scan
from dsg.scan.scope import Scope
from dsg.transfer.client import Connection, Endpoint, Identity, Outgoing, Reader, Wanted, Writer
from dsg.transfer.grants import Grant, read_server, write_grant
from dsg.workcopy.files import Files
from dsg.workcopy.nearby import Nearby

AUTHOR = "bench"
TICK = os.sysconf("SC_CLK_TCK")
PLACES = 8
"""Places in the large file at which it changes."""
LARGE_NAME = "recording.mkv"


@dataclass
class Cost:
    wall: float
    """Seconds."""
    here: float
    """Seconds of CPU of the side that is asked for it, with all its processes."""
    there: float = 0.0
    """Seconds of CPU of the server."""
    peak_here: int = 0
    """Peak of resident memory of the client of dsg, in bytes."""
    peak_there: int = 0
    """The same of the data plane; its peak since it started."""
    sent: int = 0
    """Bytes; of dsg those of bodies, of rsync what it says."""
    received: int = 0
    """Bytes."""
    note: str = ""

    def least(self, other: Cost) -> Cost:
        best = self if self.wall <= other.wall else other
        return Cost(
            best.wall,
            best.here,
            best.there,
            max(self.peak_here, other.peak_here),
            max(self.peak_there, other.peak_there),
            best.sent,
            best.received,
            best.note,
        )


# ---- processes


def processor_time(pid: int) -> float:
    """Return seconds of CPU of a process and of its children that ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICK


def peak_memory(pid: int) -> int:
    """Return the peak of resident memory of a process in bytes."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def ran(argv: list[str], server: int | None = None) -> tuple[Cost, str]:
    """Run a program; return its cost and what it printed."""
    before = processor_time(server) if server is not None else 0.0
    begun = time.perf_counter()
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{argv[0]} ended with {process.returncode}")
    # A daemon's children are counted when it has waited for them.
    time.sleep(0.2)
    there = processor_time(server) - before if server is not None else 0.0
    return Cost(wall, usage.ru_utime + usage.ru_stime, there), printed


@contextmanager
def running(argv: list[str], log: Path, port: int) -> Iterator[int]:
    """Run a server until it is not needed any more; yield its process when it takes connections."""
    with log.open("wb") as file:
        process = subprocess.Popen(argv, stdout=file, stderr=file)
    try:
        end = time.monotonic() + 30
        while True:
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"{argv[0]} does not listen: {log.read_text()}")
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.05)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


# ---- rsync over ssh


@dataclass
class Ssh:
    """How rsync reaches this machine as if it were another."""

    shell: str
    """Argument of `rsync -e`."""
    server: int
    """Process of sshd."""


@contextmanager
def ssh(folder: Path, sshd: str | None) -> Iterator[Ssh | None]:
    """Run sshd for this user on a free port; yield None where there is no sshd."""
    found = sshd or shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/sbin")
    if found is None or shutil.which("ssh") is None:
        yield None
        return
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    shutil.copy(folder / "user.pub", folder / "authorized")
    port = free_port()
    (folder / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
        "PasswordAuthentication no\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nPidFile none\n"
    )
    options = ["-p", str(port), "-i", str(folder / "user"), "-l", getpass.getuser(), "-o", "BatchMode=yes"]
    options += ["-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={folder}/known", "-o", "LogLevel=ERROR"]
    argv = [str(Path(found).resolve()), "-D", "-e", "-f", str(folder / "config")]
    with running(argv, folder / "sshd.log", port) as server:
        yield Ssh(" ".join(["ssh", *options]), server)


def rsync(source: Path, target: Path, over: Ssh | None, *, push: bool) -> Cost:
    """Copy a directory's content with rsync, to or from what is another machine to it."""
    target.mkdir(parents=True, exist_ok=True)
    argv = ["rsync", "-a", "--stats", "--no-human-readable"]
    if over is None:
        # As over a line: else rsync sends whole files between two directories.
        argv += ["--no-whole-file", f"{source}/", f"{target}/"]
    else:
        host = "127.0.0.1:"
        ends = [f"{source}/", f"{host}{target}/"] if push else [f"{host}{source}/", f"{target}/"]
        argv += ["-e", over.shell, *ends]
    cost, printed = ran(argv, over.server if over is not None else None)
    for name, pattern in (("sent", r"^Total bytes sent: (\d+)$"), ("received", r"^Total bytes received: (\d+)$")):
        found = re.search(pattern, printed, re.MULTILINE)
        setattr(cost, name, int(found[1]) if found else 0)
    return cost


# ---- dsg


@dataclass
class DataPlane:
    """A running data plane."""

    folder: Path
    port: int
    server: int

    def client(self, way: str, *arguments: str) -> Cost:
        """Run a client in a process of its own."""
        argv = [sys.executable, "-m", "benchmarks.transfer", "--client", way, str(self.folder), str(self.port)]
        cost, printed = ran([*argv, *arguments], self.server)
        said = json.loads(printed)
        cost.sent, cost.received, cost.note = said["sent"], said["received"], said["note"]
        cost.peak_here = said["peak"]
        cost.peak_there = peak_memory(self.server)
        return cost


@contextmanager
def data_plane(folder: Path) -> Iterator[DataPlane]:
    (folder / "grants").mkdir(parents=True)
    (folder / "state").mkdir()
    port = free_port()
    argv = [sys.executable, "-m", "dsg.transfer.server.main", "--listen", f"127.0.0.1:{port}"]
    argv += ["--grants", str(folder / "grants"), "--state", str(folder / "state"), "--log-level", "warning"]
    with running(argv, folder / "log", port) as server:
        yield DataPlane(folder, port, server)


def granted(folder: Path, port: int, root: Path, mode: str) -> Connection:
    """Open a transaction as the operator would, and connect."""
    identity, uid = Identity.make(), str(uuid.uuid4())
    fingerprint = read_server(folder / "grants")
    assert fingerprint is not None
    grant = {"uid": uid, "namespace": "bench", "repository": "bench", "author": AUTHOR, "mode": mode}
    grant |= {"clientKey": identity.fingerprint, "root": str(root)}
    write_grant(folder / "grants", Grant.model_validate({**grant, "expires": time.time() + 3600}))
    return Connection.open(Endpoint(f"https://127.0.0.1:{port}", fingerprint), uid, identity)


def send(folder: Path, port: int, source: Path, stage: Path, basis: str | None) -> None:
    """Be the client of a first sync, or of one after a change; print what was sent."""
    begun = time.perf_counter()
    states: list[State] = list(Scan(source, Scope(["input"])))
    scanned = time.perf_counter()
    with granted(folder, port, stage, "write") as connection, ExitStack() as stack:
        writer = Writer(connection)
        nearby = stack.enter_context(Nearby(stack.enter_context(Files(source))))
        contents = (
            Outgoing(state.path, state.size, state.digest, partial(nearby.open, state.key), basis)
            for state in states
            if isinstance(state, FileState)
        )
        writer.send(contents, None, (encode_change(Place(state)) for state in states))
        sent = time.perf_counter()
        writer.complete()
        done = time.perf_counter()
        note = f"scan {scanned - begun:.2f} s, send {sent - scanned:.2f} s, complete {done - sent:.2f} s"
        tell(connection, note)


def fetch(folder: Path, port: int, root: Path, store: Path, basis: Path | None) -> None:
    """Be the client of a clone, or of a sync after a change; print what was received."""
    store.mkdir(parents=True)
    begun = time.perf_counter()
    with granted(folder, port, root, "read") as connection:
        reader = Reader(connection)
        header = reader.header()
        assert header is not None
        reader.prefetch_tree(header.summary.digest)
        known = time.perf_counter()
        opened = opener(basis) if basis is not None else None
        reader.fetch(
            (
                Wanted(entry.path, entry.size, entry.digest, opened)
                for entry in tree.entries(reader, header.summary)
                if isinstance(entry, File) and entry.size
            ),
            store,
        )
        tell(connection, f"manifest {known - begun:.2f} s, fetch {time.perf_counter() - known:.2f} s")


def opener(path: Path) -> Callable[[], BinaryIO]:
    return lambda: path.open("rb")


def tell(connection: Connection, note: str) -> None:
    traffic = connection.traffic
    print(json.dumps({"sent": traffic.sent, "received": traffic.received, "peak": resident("VmHWM"), "note": note}))


def as_version(root: Path) -> None:
    """Give a tree the manifest and history of a version."""
    nodes, segments = root / ".dsg/nodes", root / ".dsg/history"
    nodes.mkdir(parents=True)
    segments.mkdir()
    entries: Iterator[Entry] = (state.signed(AUTHOR, "s1") for state in Scan(root, Scope(["input"])))

    def put(digest: str, raw: bytes) -> None:
        (nodes / digest).write_bytes(raw)

    summary = tree.build(entries, put)
    header = Header(Commit("s1", None, AUTHOR, datetime(2026, 1, 1, tzinfo=UTC), "first", "bench"), summary)
    name, raw = history.append(NoHistory(), header)
    (segments / name).write_bytes(raw)


class NoHistory:
    def read(self, segment: str) -> bytes | None:
        return None


# ---- cases


@dataclass
class Tools:
    """What copies."""

    over: Ssh | None
    plane: DataPlane

    @property
    def rsync_name(self) -> str:
        return "rsync over ssh" if self.over is not None else "rsync, no ssh"


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def check_equal(source: Path, copy: Path) -> None:
    """Compare what rsync copied."""
    subprocess.run(["diff", "-r", "--no-dereference", "--exclude=.dsg", str(source), str(copy)], check=True)


def check_contents(source: Path, contents: Path) -> None:
    """Compare files with contents that are named by their digests."""
    for state in Scan(source, Scope(["input"])):
        if isinstance(state, FileState) and state.size:
            one, other = source / state.path, contents / state.digest
            subprocess.run(["cmp", str(one), str(other)], check=True)
            break
    wanted = {state.digest for state in Scan(source, Scope(["input"])) if isinstance(state, FileState) and state.size}
    # The store verified each; what counts is that none is missing and none is half.
    if not wanted <= {path.name for path in contents.iterdir()}:
        raise SystemExit(f"{contents} lacks contents of {source}")


def stage_in(folder: Path, base: Path | None = None) -> Path:
    """Make a stage, with the files of a base version."""
    fresh(folder)
    (folder / ".dsg/incoming").mkdir(parents=True)
    if base is not None:
        shutil.copytree(base / "input", folder / "input")
    return folder


def first_time(work: Path, source: Path, tools: Tools) -> dict[str, Callable[[], Cost]]:
    """Return the ways to copy a tree that is not there yet; sending and fetching are told apart."""
    copies = work / "copies"

    def copied() -> Cost:
        fresh(copies / "cp")
        copies.mkdir()
        return ran(["cp", "-a", str(source), str(copies / "cp")])[0]

    def pushed() -> Cost:
        cost = rsync(source, fresh(copies / "push"), tools.over, push=True)
        check_equal(source, copies / "push")
        return cost

    def pulled() -> Cost:
        cost = rsync(source, fresh(copies / "pull"), tools.over, push=False)
        check_equal(source, copies / "pull")
        return cost

    def sent() -> Cost:
        cost = tools.plane.client("send", str(source), str(stage_in(copies / "stage")), "")
        check_contents(source, copies / "stage/.dsg/incoming")
        return cost

    def fetched() -> Cost:
        cost = tools.plane.client("fetch", str(source), str(fresh(copies / "store")), "")
        check_contents(source, copies / "store")
        return cost

    name = tools.rsync_name
    return {
        "cp -a": copied,
        f"send: {name}": pushed,
        "send: dsg": sent,
        f"fetch: {name}": pulled,
        "fetch: dsg": fetched,
    }


def changed(work: Path, old: Path, new: Path, tools: Tools) -> dict[str, Callable[[], Cost]]:
    """Return the ways to copy a large file where the old one is."""
    copies = work / "copies"

    def with_old(name: str) -> Path:
        fresh(copies / name)
        shutil.copytree(old / "input", copies / name / "input")
        # Same size, and perhaps the same second: rsync must not take it for the same file.
        os.utime(copies / name / "input" / LARGE_NAME, (1, 1))
        return copies / name

    def pushed() -> Cost:
        target = with_old("push")
        cost = rsync(new, target, tools.over, push=True)
        check_equal(new, target)
        return cost

    def pulled() -> Cost:
        target = with_old("pull")
        cost = rsync(new, target, tools.over, push=False)
        check_equal(new, target)
        return cost

    def sent() -> Cost:
        stage = stage_in(copies / "stage", old)
        cost = tools.plane.client("send", str(new), str(stage), f"input/{LARGE_NAME}")
        check_contents(new, stage / ".dsg/incoming")
        return cost

    def fetched() -> Cost:
        basis = old / "input" / LARGE_NAME
        cost = tools.plane.client("fetch", str(new), str(fresh(copies / "store")), str(basis))
        check_contents(new, copies / "store")
        return cost

    name = tools.rsync_name
    return {f"send: {name}": pushed, "send: dsg": sent, f"fetch: {name}": pulled, "fetch: dsg": fetched}


def change(path: Path) -> None:
    """Change one hundredth of a file, at PLACES places."""
    size = path.stat().st_size
    length = size // 100 // PLACES
    source = random.Random(size)
    with path.open("r+b") as file:
        for place in range(PLACES):
            file.seek(size // PLACES * place + source.randrange(size // PLACES - length))
            file.write(source.randbytes(length))


def measure(work: Path, ways: dict[str, Callable[[], Cost]], rounds: int) -> dict[str, Cost]:
    found: dict[str, Cost] = {}
    for _ in range(rounds):
        for name, way in ways.items():
            cost = way()
            found[name] = found[name].least(cost) if name in found else cost
            fresh(work / "copies")
            # What is written later, by the system, must not cost the next one.
            os.sync()
    return found


def show(title: str, found: dict[str, Cost]) -> None:
    """Print a table; ratios of dsg are to the way above it."""
    print(title)
    above: Cost | None = None
    for name, cost in found.items():
        text = f"  {name:24} {cost.wall:7.2f} s  cpu {cost.here:6.2f} + {cost.there:6.2f} s"
        if name.endswith("dsg") and above is not None:
            ratio = (cost.here + cost.there) / (above.here + above.there)
            text += f"  x{cost.wall / above.wall:.2f} (cpu x{ratio:.2f})"
        else:
            text += " " * 19
        if cost.peak_there:
            text += f"  {cost.peak_here / 2**20:.0f} + {cost.peak_there / 2**20:.0f} MiB"
        if cost.sent or cost.received:
            text += f"  sent {cost.sent:,}, received {cost.received:,}"
        print(f"{text}  {cost.note}".rstrip(), flush=True)
        above = cost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="2,000 files, 128 MiB, one round")
    parser.add_argument("--files", type=int)
    parser.add_argument("--large", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--directory", type=Path, help="where files are made (default: the system's)")
    parser.add_argument("--sshd", help="sshd, where it is not installed in its usual place")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--client", nargs=6, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        way, folder, port, one, two, basis = options.client
        if way == "send":
            send(Path(folder), int(port), Path(one), Path(two), basis or None)
        else:
            fetch(Path(folder), int(port), Path(one), Path(two), Path(basis) if basis else None)
        return
    files = options.files if options.files is not None else (2_000 if options.quick else 20_000)
    large = options.large if options.large is not None else (128 << 20 if options.quick else 1 << 31)
    rounds = options.rounds or (1 if options.quick else 3)
    figures: dict[str, dict[str, Cost]] = {}
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.directory)))
        (work / "ssh").mkdir()
        over = stack.enter_context(ssh(work / "ssh", options.sshd))
        if over is None:
            print("There is no sshd: rsync runs between two directories, and is compared without encryption.")

        def case(title: str, ways: Callable[[Tools], dict[str, Callable[[], Cost]]]) -> None:
            # A server for each case, so that its peak of memory is that of the case.
            with data_plane(Path(tempfile.mkdtemp(dir=work))) as plane:
                figures[title] = measure(work, ways(Tools(over, plane)), rounds)
            show(title, figures[title])

        if files:
            small = work / "small"
            small.mkdir()
            make(small, files)
            as_version(small)
            case(f"{files:,} small files, first time", lambda tools: first_time(work, small, tools))
            shutil.rmtree(small)
        if large:
            old, new = work / "old", work / "new"
            old.mkdir()
            make_large(old, large)
            as_version(old)
            case(f"one file of {large:,} bytes, first time", lambda tools: first_time(work, old, tools))
            shutil.copytree(old / "input", new / "input")
            change(new / "input" / LARGE_NAME)
            as_version(new)
            case(f"one file of {large:,} bytes, 1 % changed", lambda tools: changed(work, old, new, tools))
    if options.json:
        plain = {title: {name: asdict(cost) for name, cost in found.items()} for title, found in figures.items()}
        options.json.write_text(json.dumps(plain, indent=2) + "\n")


if __name__ == "__main__":
    main()
