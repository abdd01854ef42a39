"""Load for power cuts, run inside a storage-node guest: `python -m tests.onzfs.load write|check`, settings on stdin.

`write` works on several repositories at once until the power goes. It says `ack REPOSITORY VERSION CHAIN` on stdout
when a version is committed and revealed, which is when a researcher would hear so. `check` is what a freshly started
operator does, and what a person would look at, after the power is back.
"""

from __future__ import annotations

import contextlib
import faulthandler
import itertools
import json
import logging
import os
import random
import secrets
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from dsg.manifests.header import Header
from dsg.storage.errors import Busy, NotFound
from dsg.transactions.metadata import Metadata
from dsg.transactions.transactor import Clashes, Done, Operation, Stopped, Transaction, Waiting
from tests.transactions.ground import Content, Ground, XfsGround, tree_digest
from tests.transactions.real import ZfsGround

KEEP_LAST = 6
SPEC: dict[str, Any] = {"retention": {"keepLast": KEEP_LAST}}
HOME = "load"
"""The dataset, below the pool, that the repositories are in."""
READS_TOLD = 10
PAUSE = 0.1
"""Seconds between two reads."""
WAIT = 0.2
"""Seconds until something that was in use is tried again."""
PATIENCE = 60.0
LARGEST = 200_000


@dataclass(frozen=True)
class Settings:
    """What the host asks for."""

    pool: str
    zfs: int
    """Number of repositories on OpenZFS."""
    xfs: str
    """Directory for one of type xfs; empty for none."""
    seed: int
    writers: int = 2
    """Per repository."""
    acked: dict[str, dict[str, str]] = field(default_factory=dict)
    """For `check`: every chain digest that was acknowledged, by repository and version."""
    checked: dict[str, int] = field(default_factory=dict)
    """For `check`: number of the newest version whose content was checked before."""


def grounds(settings: Settings) -> dict[str, Ground]:
    """Return the repositories, as a freshly started operator takes them up."""
    found: dict[str, Ground] = {}
    home = f"{settings.pool}/{HOME}"
    if settings.zfs:
        if subprocess.run(["zfs", "list", home], capture_output=True, check=False, timeout=60).returncode:
            subprocess.run(["zfs", "create", "-o", "mountpoint=none", home], check=True, timeout=60)
        Path("/srv/load").mkdir(parents=True, exist_ok=True)
    for number in range(settings.zfs):
        found[f"z{number}"] = ZfsGround(home, Path("/srv/load"), f"z{number}", **SPEC)
    if settings.xfs:
        found["x0"] = XfsGround(Path(settings.xfs), **SPEC)
    return found


_say = threading.Lock()


def say(text: str) -> None:
    """Write one line and see it off."""
    with _say:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def fault(where: str) -> None:
    """Tell of something that must never be, and end."""
    say(f"FAULT {where}: " + traceback.format_exc().replace("\n", " | "))
    os._exit(3)


class Shared:
    """One repository under load: its lock, as the operator has one, and what is known of it."""

    def __init__(self, name: str, ground: Ground) -> None:
        self.name, self.ground = name, ground
        self.lock = threading.Lock()
        self.live: dict[str, str] = {}
        """Bases of open transactions, by uid."""
        self.contents: dict[str, Content] = {}
        ground.now = datetime.now(UTC)
        header = ground.header()
        self.head = header.version if header is not None else ""
        if header is not None:
            self.contents[self.head] = ground.seen()

    def patiently(self, act: Any) -> Any:
        """Do something under the lock; what is in use by a reader is tried again."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with self.lock:
                    return act()
            except Busy:
                if time.monotonic() > deadline:
                    raise
            time.sleep(WAIT)


def edited(content: Content, writer: int, rng: random.Random) -> dict[str, bytes | str | None]:
    """Return changes of a writer's own files, and sometimes of the one that all of them write."""
    mine = [path for path in content if path.startswith(f"w{writer}/")]
    changes: dict[str, bytes | str | None] = {}
    for _ in range(rng.randint(1, 3)):
        changes[f"w{writer}/{rng.randint(0, 7)}/data"] = rng.randbytes(rng.choice((10, 5000, LARGEST)))
    if mine and rng.random() < 0.5:
        moved = rng.choice(mine)
        if moved not in changes:
            changes[f"w{writer}/{rng.randint(0, 7)}/moved"] = content[moved]
            changes[moved] = None
    if mine and rng.random() < 0.3:
        changes[f"w{writer}-newest"] = rng.choice(mine)
    if rng.random() < 0.1:
        changes["shared"] = b"by writer %d: %d" % (writer, rng.randint(0, 10**9))
    return changes


def applied(content: Content, changes: dict[str, bytes | str | None]) -> Content:
    """Return a tree with changes."""
    return {path: what for path, what in {**content, **changes}.items() if what is not None}


def write_one(shared: Shared, writer: int, rng: random.Random) -> None:
    """Open one transaction and bring it to an end of some kind."""
    ground = shared.ground
    uid = f"tx-{secrets.token_hex(8)}"
    with shared.lock:
        ground.now = datetime.now(UTC)
        head = shared.head
        before = shared.contents.get(head, {})
        older = {version: tree for version, tree in list(shared.contents.items())[-4:] if version != head}
        shared.live[uid] = head
    changes: dict[str, bytes | str | None] = {}
    restore = rng.choice(sorted(older)) if older and rng.random() < 0.1 else ""
    if not head:
        operation, changes = Operation.INIT, {"readme": b"load", f"w{writer}/0/data": rng.randbytes(100)}
    else:
        operation = Operation.RESTORE if restore else Operation.SYNC
        changes = {} if restore else edited(before, writer, rng)
    wanted = older[restore] if restore else applied(before, changes)
    tree = None if restore else tree_digest(wanted)
    transaction = Transaction(uid, operation, f"writer-{writer}", "load", head, restore, tree)
    try:
        place = shared.patiently(lambda: ground.transactor.stage(ground.target, transaction))
        if isinstance(place, Stopped):
            assert place.reason in {"AlreadyInitialized", "BaseGone"}, place
            return
        if not restore:
            ground.send(place, before, wanted)
        if rng.random() < 0.1:
            return
        finish(shared, transaction, changes, wanted)
    finally:
        shared.live.pop(uid, None)

        def tidy() -> None:
            ground.transactor.discard(ground.target, transaction)
            ground.keep(set(shared.live), {base for base in shared.live.values() if base})

        shared.patiently(tidy)


def finish(shared: Shared, transaction: Transaction, changes: dict[str, bytes | str | None], wanted: Content) -> None:
    """Verify, commit, reveal, and acknowledge."""
    ground = shared.ground
    result: Any = ground.transactor.build(ground.target, transaction)
    if isinstance(result, Stopped):
        assert result.reason == "BaseGone", result
        return
    if result is not None:
        assert isinstance(result, Done), result
        return

    def commit() -> Any:
        found = ground.transactor.commit(ground.target, transaction)
        if not isinstance(found, Done) or found.header is None:
            return found
        ground.transactor.reveal(ground.target)
        onto = found.onto
        after = wanted if not onto else applied(shared.contents[onto], changes)
        if onto and not changes:
            # A restore was put on top of others' changes: read what came of it.
            after = ground.seen()
        assert tree_digest(after) == found.header.summary.tree, f"{found} is not what was sent"
        shared.contents[found.version] = after
        for old in list(shared.contents)[: -KEEP_LAST // 2]:
            del shared.contents[old]
        shared.head = found.version
        say(f"ack {shared.name} {found.version} {found.header.chain}")
        return found

    result = shared.patiently(commit)
    while isinstance(result, Waiting):
        time.sleep(WAIT)
        result = shared.patiently(commit)
    if isinstance(result, Clashes):
        say(f"conflict {shared.name}")
    elif isinstance(result, Stopped):
        assert result.reason in {"AlreadyInitialized", "BaseGone"}, result


def write_for_ever(shared: Shared, writer: int, seed: str) -> None:
    rng = random.Random(seed)
    try:
        while True:
            write_one(shared, writer, rng)
    except BaseException:
        fault(f"writer {writer} of {shared.name}")


@contextlib.contextmanager
def opened(path: str) -> Iterator[str]:
    """Hold a version open through the public path, and return the directory that it turned out to be."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield os.readlink(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def read_for_ever(name: str, ground: Any, mountpoint: str) -> None:
    """Check again and again that the public path shows exactly one whole version, never an older one than before."""
    newest = 0
    # The writers are to have most of the node.
    os.nice(10)
    for number in itertools.count(1):
        time.sleep(PAUSE)
        try:
            with opened(mountpoint) as root:
                try:
                    header = ground.check(root)
                except (NotFound, AssertionError, FileNotFoundError):
                    # An xfs version that was pruned while it was read has left its place; nothing else may.
                    if isinstance(ground, XfsGround) and ("/.open/" in root or not Path(root).exists()):
                        say(f"pruned {name}")
                        continue
                    raise
                version = int(header.version[1:])
                assert version >= newest, f"version {version} was seen after {newest}"
                newest = version
        except BaseException:
            fault(f"reader of {name}")
        if number % READS_TOLD == 0:
            say(f"read {name} {READS_TOLD}")


def write(settings: Settings) -> None:
    """Write and read until the power goes."""
    found = grounds(settings)
    everything = {name: Shared(name, ground) for name, ground in found.items()}
    for name, ground in found.items():
        rng = random.Random(f"{settings.seed} {name} first")
        while ground.header() is None:
            write_one(everything[name], 0, rng)
    parent = os.getpid()
    for name, ground in found.items():
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            assert os.getppid() == parent
            read_for_ever(name, ground, ground.target.spec.storage.mountpoint)
    for name, shared in everything.items():
        for number in range(settings.writers):
            seed = f"{settings.seed} {name} {number}"
            threading.Thread(target=write_for_ever, args=(shared, number, seed), daemon=True).start()
    say("ready")
    while True:
        time.sleep(60)


# ---- after the power is back


def check(settings: Settings) -> None:
    """Take the repositories up again and check them; one line of JSON for each says what was found."""
    structlog_silent()
    if settings.xfs and Path(settings.xfs, "srv").exists():
        before_anything(Path(settings.xfs))
    for name, ground in grounds(settings).items():
        say("checked " + json.dumps({"name": name, **checked(name, ground, settings)}))


def before_anything(directory: Path) -> None:
    """On type xfs a reader sees the head as soon as the file system is mounted."""
    ground = XfsGround.__new__(XfsGround)
    from dsg.storage.local_trees import LocalTrees

    ground.trees = LocalTrees()
    public = directory / "srv" / "justice"
    if public.exists() and Metadata(ground.trees, str(public.resolve())).header() is not None:
        ground.check(str(public.resolve()))


def checked(name: str, ground: Ground, settings: Settings) -> dict[str, Any]:
    """Check one repository: nothing acknowledged is lost, nothing half-done is there, and it goes on."""
    ground.now = datetime.now(UTC)
    acked = settings.acked.get(name, {})
    kept = ground.keep()
    assert kept.cleaned.kept == kept.cleaned.waits == (), kept
    ground.converge()
    ground.leftovers()
    head = ground.check(ground.public()) if ground.header() is not None else None
    history: dict[str, Header] = {}
    if head is not None:
        found = list(Metadata(ground.trees, ground.public()).since(""))
        history = {header.version: header for header in found}
        assert [header.version for header in found] == [f"s{n}" for n in range(len(found), 0, -1)], "history has gaps"
        for newer, older in itertools.pairwise(found):
            assert newer.commit.previous == older.chain
    for version, chain in acked.items():
        assert version in history, f"{version} was acknowledged and is lost"
        assert history[version].chain == chain, f"{version} is another one than was acknowledged"
    there = ground.versions()
    assert there == list(history)[: len(there)][::-1], "versions on disk are not the newest of the history"
    assert len(there) >= min(KEEP_LAST, len(history)), "retention would have kept more"
    since = settings.checked.get(name, 0)
    verified = [version for version in there if int(version[1:]) > since]
    for version in verified:
        ground.old(version)
    unacknowledged = len(history) - max([int(version[1:]) for version in acked], default=0)
    shared = Shared(name, ground)
    goes_on(shared)
    ground.leftovers()
    assert ground.versions()[-1] == f"s{len(history) + 1}"
    return {"versions": len(history), "verified": len(verified), "unacknowledged": unacknowledged}


def goes_on(shared: Shared) -> None:
    """Make one more version."""
    ground, base = shared.ground, shared.head
    before = shared.contents.get(base, {})
    wanted = {**before, "after-the-cut": f"{time.time()}".encode()}
    operation = Operation.SYNC if base else Operation.INIT
    uid = f"tx-{secrets.token_hex(8)}"
    result = ground.run(Transaction(uid, operation, "ana", "after", base, "", tree_digest(wanted)), before, wanted)
    assert isinstance(result, Done), result
    assert result.header is not None
    assert ground.seen() == wanted
    say(f"ack {shared.name} {result.version} {result.header.chain}")
    ground.transactor.discard(ground.target, Transaction(uid, operation, "ana", "after", base))
    ground.keep()


def structlog_silent() -> None:
    """Keep command lines out of the channel."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def main() -> None:
    """Run one of the two commands."""
    faulthandler.enable()
    structlog_silent()
    settings = Settings(**json.loads(sys.stdin.read()))
    {"write": write, "check": check}[sys.argv[1]](settings)


if __name__ == "__main__":
    main()
