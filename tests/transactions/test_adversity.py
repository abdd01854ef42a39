"""What can go wrong below a transaction on real OpenZFS: no space, quotas, a clock that jumps, the OOM killer."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dsg.storage.errors import OutOfSpace, QuotaExceeded
from dsg.transactions.transactor import Done, Operation, Waiting
from tests.reconcile.specs import POLICY
from tests.transactions.ground import Content, Ground
from tests.transactions.killing import check, killed
from tests.transactions.real import POOL, ZfsGround
from tests.transactions.rounds import At, Sync, step

pytestmark = pytest.mark.skipif(not POOL, reason="needs a pool, named by DSG_TEST_POOL")

MIB = 1 << 20
FIRST: Content = {"a": b"one", "b": b"two"}
SMALL: Content = {**FIRST, "c": b"three"}
CGROUPS = Path("/sys/fs/cgroup")


def large(mib: int, seed: int = 0) -> Content:
    """Return files of 2 MiB that no compression makes smaller."""
    return {f"large/{seed}-{n}": os.urandom(2 * MIB) for n in range(mib // 2)}


def goes_on(ground: Ground) -> None:
    """Check that the head is the first version and nothing else is left, and that the next one can be made."""
    ground.restart()
    ground.converge()
    ground.keep()
    check(ground, At("s1", FIRST), ["s1"])
    done = ground.sync("s1", FIRST, SMALL)
    assert isinstance(done, Done), done
    ground.keep()
    check(ground, At("s2", SMALL), ["s1", "s2"])
    assert ground.old("s1") == FIRST


@pytest.fixture
def small_pool(tmp_path: Path) -> Iterator[str]:
    """A pool of 112 MiB in a file."""
    disk = tmp_path / "disk"
    disk.touch()
    os.truncate(disk, 112 * MIB)
    subprocess.run(["zpool", "create", "-O", "mountpoint=none", "small", str(disk)], check=True, timeout=120)
    yield "small"
    subprocess.run(["zpool", "destroy", "-f", "small"], check=True, timeout=120)


@contextmanager
def filled(pool: str, directory: Path) -> Iterator[None]:
    """Leave no space in a pool; somebody else has taken it."""
    directory.mkdir()
    subprocess.run(["zfs", "create", "-o", "mountpoint=legacy", f"{pool}/other"], check=True, timeout=60)
    subprocess.run(["mount", "-t", "zfs", f"{pool}/other", str(directory)], check=True, timeout=60)
    chunk, file = os.urandom(MIB), os.open(directory / "f", os.O_WRONLY | os.O_CREAT)
    for size in (MIB, 1 << 12, 512):
        with pytest.raises(OSError, match="No space left on device"):
            while True:
                os.write(file, chunk[:size])
        subprocess.run(["zpool", "sync", pool], check=True, timeout=60)
    os.close(file)
    yield
    subprocess.run(["umount", str(directory)], check=True, timeout=60)
    subprocess.run(["zfs", "destroy", f"{pool}/other"], check=True, timeout=60)
    subprocess.run(["zpool", "sync", pool], check=True, timeout=60)


UNLIMITED = {"properties": {**POLICY, "compression": "off", "quota": "none", "refquota": "none"}}
LITTLE = {"properties": {**POLICY, "compression": "off", "quota": "12Mi", "refquota": "none"}}


def test_a_pool_that_is_full_while_content_comes_in(small_pool: str, tmp_path: Path) -> None:
    ground = ZfsGround(small_pool, tmp_path, storage=UNLIMITED)
    ground.init(FIRST)
    wanted = {**FIRST, **large(100)}
    transaction = ground.transaction(Operation.SYNC, wanted, base="s1")
    place = ground.transactor.stage(ground.target, transaction)
    assert isinstance(place, str)
    with pytest.raises(OutOfSpace, match=r"cannot write .*/incoming/.*No space left on device") as caught:
        ground.send(place, FIRST, wanted)
    print(caught.value)
    assert ground.seen() == FIRST
    ground.transactor.discard(ground.target, transaction)
    goes_on(ground)
    ground.destroy()


def test_a_pool_that_others_fill_before_the_commit(small_pool: str, tmp_path: Path) -> None:
    """Whatever step there is no space for, it says so; and the same transaction is committed once there is."""
    ground = ZfsGround(small_pool, tmp_path, storage=UNLIMITED)
    ground.init(FIRST)
    ground.keep()
    wanted = {**FIRST, **large(6)}
    transaction = ground.transaction(Operation.SYNC, wanted, base="s1")
    place = ground.transactor.stage(ground.target, transaction)
    assert isinstance(place, str)
    ground.send(place, FIRST, wanted)
    with filled(small_pool, tmp_path / "other"):
        said = ""
        try:
            result = ground.transactor.build(ground.target, transaction)
            assert result is None, result
            waiting = ground.transactor.commit(ground.target, transaction)
            assert isinstance(waiting, Waiting), waiting
            said = waiting.message
        except OutOfSpace as error:
            said = str(error)
        print(said)
        assert "space" in said
        assert ground.seen() == FIRST
        assert ground.versions() == ["s1"]
    ground.restart()
    assert ground.finish(transaction) == ground.transactor.committed(ground.target, transaction)
    ground.keep()
    check(ground, At("s2", wanted), ["s1", "s2"])
    ground.destroy()


def test_a_pool_that_is_full_between_building_and_the_commit(small_pool: str, tmp_path: Path) -> None:
    ground = ZfsGround(small_pool, tmp_path, storage=UNLIMITED)
    ground.init(FIRST)
    ground.keep()
    wanted = {**FIRST, **large(6)}
    transaction = ground.transaction(Operation.SYNC, wanted, base="s1")
    place = ground.transactor.stage(ground.target, transaction)
    assert isinstance(place, str)
    ground.send(place, FIRST, wanted)
    assert ground.transactor.build(ground.target, transaction) is None
    with filled(small_pool, tmp_path / "other"):
        try:
            result = ground.transactor.commit(ground.target, transaction)
            print(result)
            # Removing what was sent may have made room enough.
            assert isinstance(result, Done) or (isinstance(result, Waiting) and "space" in result.message), result
        except OutOfSpace as error:
            print(error)
            assert ground.versions() == ["s1"]
    ground.restart()
    done = ground.finish(transaction)
    assert isinstance(done, Done)
    ground.converge()
    ground.keep()
    check(ground, At("s2", wanted), ["s1", "s2"])
    ground.destroy()


def test_a_repository_that_reaches_its_quota(zfs_ground: Callable[..., ZfsGround]) -> None:
    ground = zfs_ground(storage=LITTLE)
    ground.init(FIRST)
    wanted = {**FIRST, **large(40)}
    transaction = ground.transaction(Operation.SYNC, wanted, base="s1")
    place = ground.transactor.stage(ground.target, transaction)
    assert isinstance(place, str)
    with pytest.raises(QuotaExceeded, match=r"cannot write .*/incoming/.*[Qq]uota exceeded") as caught:
        ground.send(place, FIRST, wanted)
    print(caught.value)
    assert ground.seen() == FIRST
    ground.transactor.discard(ground.target, transaction)
    goes_on(ground)


def test_a_transaction_that_reaches_its_limit(zfs_ground: Callable[..., ZfsGround]) -> None:
    ground = zfs_ground(transactions={"sizeLimit": "8Mi"})
    ground.init(FIRST)
    wanted = {**FIRST, **large(40)}
    transaction = ground.transaction(Operation.SYNC, wanted, base="s1")
    place = ground.transactor.stage(ground.target, transaction)
    assert isinstance(place, str)
    with pytest.raises(QuotaExceeded, match=r"cannot write .*/incoming/.*[Qq]uota exceeded") as caught:
        ground.send(place, FIRST, wanted)
    print(caught.value)
    assert ground.seen() == FIRST
    ground.transactor.discard(ground.target, transaction)
    goes_on(ground)


def test_a_transaction_that_reaches_its_limit_while_it_is_built(zfs_ground: Callable[..., ZfsGround]) -> None:
    """The same content at many paths is sent once, and copied when the version is built."""
    ground = zfs_ground(transactions={"sizeLimit": "8Mi"})
    ground.init(FIRST)
    one = os.urandom(MIB)
    wanted: Content = {**FIRST, **{f"copies/{n}": one for n in range(24)}}
    transaction = ground.transaction(Operation.SYNC, wanted, base="s1")
    place = ground.transactor.stage(ground.target, transaction)
    assert isinstance(place, str)
    ground.send(place, FIRST, wanted)
    with pytest.raises(QuotaExceeded, match=r"copies/.*[Qq]uota exceeded") as caught:
        ground.finish(transaction)
    print(caught.value)
    assert ground.seen() == FIRST
    ground.transactor.discard(ground.target, transaction)
    goes_on(ground)


def test_a_clock_that_jumps_back_by_a_day(zfs_ground: Callable[..., ZfsGround]) -> None:
    """The order of versions does not depend on clocks, and nothing is pruned by a time that can't be right."""

    def tell(seconds: float) -> None:
        time.clock_settime(time.CLOCK_REALTIME, seconds)

    ground = zfs_ground(retention={"keepLast": 3})
    begin, ticks = time.time(), time.monotonic()
    trees = [step(n) for n in range(6)]
    try:
        for n, tree in enumerate(trees):
            if n in {2, 4}:
                tell(time.time() - 86400)
            ground.now = datetime.now(UTC)
            before = trees[n - 1] if n else {}
            done = ground.sync(f"s{n}", before, tree) if n else ground.init(tree)
            assert isinstance(done, Done), done
            ground.keep(prune=False)
        ground.converge()
        check(ground, At("s6", trees[5]), [f"s{n}" for n in range(1, 7)])
        assert ground.old("s2") == trees[1]
        ground.keep()
        check(ground, At("s6", trees[5]), [f"s{n}" for n in range(1, 7)])
    finally:
        tell(begin + time.monotonic() - ticks)
    ground.now = datetime.now(UTC)
    ground.keep()
    check(ground, At("s6", trees[5]), [f"s{n}" for n in range(2, 7)])


# ---- the OOM killer


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A control group with 400 MiB of memory, whose processes the OOM killer ends together, as systemd has it."""
    if not (CGROUPS / "cgroup.controllers").exists():
        subprocess.run(["mount", "-t", "cgroup2", "none", str(CGROUPS)], check=True, timeout=60)
    (CGROUPS / "cgroup.subtree_control").write_text("+memory")
    made = CGROUPS / f"dsg-{os.getpid()}"
    made.mkdir()
    (made / "memory.max").write_text(str(400 * MIB))
    (made / "memory.oom.group").write_text("1")
    yield made
    made.rmdir()


def eat() -> None:
    """Take memory until there is none."""
    eaten = []
    while True:
        eaten.append(bytearray(os.urandom(1 << 16) * 64))


@pytest.mark.parametrize("seed", range(4))
def test_the_oom_killer_ends_the_operator(seed: int, zfs_ground: Callable[..., ZfsGround], cgroup: Path) -> None:
    """In the middle of whatever it does then, commands that it has started included."""
    ground = zfs_ground()
    ground.init(step(1))
    ground.sync("s1", step(1), step(2))
    ground.keep(prune=False)
    now = At("s2", step(2))
    work = Sync(now, 3, {})
    work.prepare(ground)

    class InTheGroup:
        """A work whose process eats while it works."""

        def act(self, ground: Ground) -> None:
            (cgroup / "cgroup.procs").write_text(str(os.getpid()))
            threading.Timer(0.7 * seed, eat).start()
            work.act(ground)
            while True:
                time.sleep(1)

    assert killed(ground, InTheGroup(), 0) == ""
    assert "oom_kill 0" not in (cgroup / "memory.events").read_text()
    ground.restart()
    assert ground.seen() in (work.old.content, work.new.content)
    ground.converge()
    work.act(ground)
    check(ground, work.new, ["s1", "s2", "s3"])
