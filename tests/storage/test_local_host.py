"""This machine's file namespace: what the calls do to real directories, and what mount(8) says to them."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsg.storage import errors, file_paths
from dsg.storage.host import Mount, PathKind, PathState
from dsg.storage.local_host import LocalHost
from dsg.storage.mountinfo import MountEntry, parse_mountinfo
from dsg.storage.process import CommandRecord, Runner, RunnerPolicy

MOUNTINFO = rb"""22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
36 22 0:31 / /tank rw,relatime shared:13 - zfs tank rw,xattr,noacl,casesensitive
37 22 0:32 / /srv/dsg/.justice/g1 ro,nosuid,nodev,relatime shared:14 - zfs tank/dsg/justice/g1 ro,xattr,noacl
38 22 0:33 / /srv/with\040space\011tab\134slash rw,nosuid,nodev - zfs tank/with\040space rw,xattr
39 22 0:32 /data /srv/bound ro,relatime shared:14 - zfs tank/dsg/justice/g1 ro,xattr,noacl
40 22 0:34 / /srv/over rw - zfs tank/under rw
41 40 0:35 / /srv/over rw,relatime master:2 propagate_from:1 - tmpfs tmpfs rw,size=4k
42 22 0:36 / /tank/.zfs/snapshot/s1 ro,relatime - zfs tank@s1 ro,xattr
43 22 0:37 / /srv/superblock rw,relatime - zfs tank/readonly ro,xattr
cut off
"""


class Fake:
    """A host whose mounts are a file, and whose mount(8) and umount(8) are a script."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.records: list[CommandRecord] = []
        self.mountinfo = directory / "mountinfo"
        self.mountinfo.write_bytes(MOUNTINFO)
        program = directory / "mount"
        self.runner = Runner(RunnerPolicy(grace=0.2), observers=[self.records.append])
        self.host = LocalHost(
            self.runner, timeout=10, mountinfo=self.mountinfo, mount=str(program), umount=str(program)
        )
        self.says("exit 0")

    def says(self, script: str) -> None:
        program = self.directory / "mount"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    return Fake(tmp_path)


@pytest.fixture
def host() -> LocalHost:
    return LocalHost(Runner())


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="changes owners")


# ---- mounts


def test_mounts_are_the_datasets_in_mount_order(fake: Fake) -> None:
    assert list(fake.host.mounts()) == [
        Mount("tank", "/tank", read_only=False),
        Mount("tank/dsg/justice/g1", "/srv/dsg/.justice/g1", read_only=True),
        Mount("tank/with space", "/srv/with space\ttab\\slash", read_only=False),
        Mount("tank/under", "/srv/over", read_only=False),
        Mount("tank@s1", "/tank/.zfs/snapshot/s1", read_only=True),
        Mount("tank/readonly", "/srv/superblock", read_only=True),
    ]
    assert fake.records == []


def escaped(path: str) -> bytes:
    """Escape a path as the kernel does (mangle() in fs/seq_file.c)."""
    return b"".join(b"\\%03o" % byte if byte in b" \t\n\\" else bytes([byte]) for byte in path.encode())


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), st.booleans())
def test_any_directory_name_is_read_back(name: str, read_only: bool) -> None:
    line = b"1 2 0:3 / /%s %s - zfs tank/a rw\n" % (escaped(name), b"ro" if read_only else b"rw")
    assert parse_mountinfo(line) == [MountEntry(f"/{name}", "/", "zfs", "tank/a", read_only)]


def test_this_machines_own_mounts_are_read() -> None:
    entries = parse_mountinfo(Path("/proc/self/mountinfo").read_bytes())
    assert "/proc" in {entry.directory for entry in entries}


def test_mounting_needs_a_directory_where_nothing_is_mounted(fake: Fake, tmp_path: Path) -> None:
    place = tmp_path / "place"
    with pytest.raises(errors.NotFound, match="create it first"):
        fake.host.mount("tank/a", str(place), read_only=True)
    place.mkdir()
    (tmp_path / "link").symlink_to(place)
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(errors.NotFound):
            fake.host.mount("tank/a", str(tmp_path / name), read_only=True)
    fake.mountinfo.write_text(f"1 2 0:3 / {place} rw - ext4 /dev/vda rw\n")
    with pytest.raises(errors.Busy, match="/dev/vda is mounted there"):
        fake.host.mount("tank/a", str(place), read_only=True)
    with pytest.raises(errors.InvalidValue):
        fake.host.mount("tank/a", "relative", read_only=True)
    with pytest.raises(errors.InvalidValue):
        fake.host.mount("--bind", str(tmp_path / "place"), read_only=True)
    assert fake.records == []


def test_mounts_are_made_without_devices_and_set_user_id(fake: Fake, tmp_path: Path) -> None:
    fake.says(f'printf "%s\\n" "$@" > {tmp_path}/arguments')
    place = tmp_path / "place"
    place.mkdir()
    for read_only, option in ((True, "ro"), (False, "rw")):
        fake.host.mount("tank/a", str(place), read_only=read_only)
        arguments = (tmp_path / "arguments").read_text().splitlines()
        assert f"{option},nodev,nosuid" in arguments
        assert arguments[-2:] == ["tank/a", str(place)]


def test_unmounting_and_remounting_need_a_dataset_on_top(fake: Fake) -> None:
    acts: list[Callable[[str], None]] = [
        fake.host.unmount,
        lambda path: fake.host.remount(path, read_only=True),
    ]
    for act in acts:
        with pytest.raises(errors.NotFound, match="nothing is mounted there"):
            act("/srv/nothing")
        with pytest.raises(errors.Busy, match=r"tmpfs \(tmpfs\) is mounted over it"):
            act("/srv/over")
        with pytest.raises(errors.InvalidValue):
            act("srv/dsg")
    assert fake.records == []
    fake.host.unmount("/srv/dsg/.justice/g1")
    fake.host.remount("/srv/dsg/.justice/g1", read_only=False)
    assert "remount,rw,nodev,nosuid" in fake.records[-1].argv
    assert fake.records[-1].argv[-2:] == ("tank/dsg/justice/g1", "/srv/dsg/.justice/g1")


MESSAGES: list[tuple[str, type[errors.StorageError]]] = [
    ("zfs_mount_at() failed: mountpoint or dataset is busy", errors.Busy),
    ("filesystem 'tank/a' is already mounted", errors.Busy),
    ("umount: /srv/a: target is busy.", errors.Busy),
    ("zfs_mount_at() failed: encryption key not loaded", errors.KeyUnavailable),
    ("filesystem 'tank/a' can not be mounted: Permission denied", errors.KeyUnavailable),
    ("filesystem 'tank/a' cannot be mounted, unable to open the dataset", errors.NotFound),
    (
        "filesystem 'tank/a' cannot be mounted at '/srv/a' due to canonicalization error: No such file or directory",
        errors.NotFound,
    ),
    ("umount: /srv/a: not mounted.", errors.NotFound),
    ("umount: /srv/a: no mount point specified.", errors.NotFound),
    (
        "filesystem 'tank/a' cannot be mounted using 'mount'.\nUse 'zfs set mountpoint=legacy' or 'zfs mount tank/a'.",
        errors.InvalidValue,
    ),
    ("filesystem 'tank/a' can not be mounted: Read-only file system", errors.ReadOnlyPool),
    ("zfs_mount_at() failed: Insufficient privileges", errors.PermissionDenied),
    ('mount: only root can use "--options" option\nmount: must be superuser to use mount.', errors.PermissionDenied),
    ("The ZFS modules cannot be auto-loaded.\nTry running 'modprobe zfs' as root", errors.ZfsUnavailable),
    ("mount: /srv/a: unknown filesystem type 'zfs'.", errors.ZfsUnavailable),
    ("mount: something new", errors.CommandFailed),
    ("", errors.CommandFailed),
]
"""As mount.zfs(8) of OpenZFS 2.3.9 and 2.1.11 and umount(8) of util-linux 2.41 said them."""


@pytest.mark.parametrize(("text", "expected"), MESSAGES)
def test_what_mount_says_becomes_a_typed_error(
    fake: Fake, tmp_path: Path, text: str, expected: type[errors.StorageError]
) -> None:
    (tmp_path / "said").write_text(text)
    fake.says(f"cat {tmp_path}/said >&2; exit 32")
    with pytest.raises(errors.StorageError) as caught:
        fake.host.unmount("/tank")
    assert type(caught.value) is expected
    assert str(caught.value).startswith("cannot unmount tank from /tank: ")
    assert "\n" not in str(caught.value)


def test_a_mount_that_hangs_is_a_timeout(tmp_path: Path) -> None:
    fake = Fake(tmp_path)
    fake.says("sleep 60")
    host = LocalHost(fake.runner, timeout=0.2, mountinfo=fake.mountinfo, umount=str(tmp_path / "mount"))
    with pytest.raises(errors.CommandTimeout):
        host.unmount("/tank")


# ---- directories and owners


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_directories_get_the_mode_asked_for_whatever_the_umask(host: LocalHost, tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        host.make_directory(str(tmp_path / "a/b/c"), mode=0o2750)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a/b/c").stat().st_mode) == 0o2750
    assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) == 0o755


def test_a_parent_may_be_a_link_and_the_last_component_may_not(host: LocalHost, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    host.make_directory(str(tmp_path / "link/below"), mode=0o755)
    assert (tmp_path / "real/below").is_dir()
    with pytest.raises(errors.AlreadyExists):
        host.make_directory(str(tmp_path / "link"), mode=0o755)
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(errors.StorageError):
        host.make_directory(str(tmp_path / "dangling/below"), mode=0o755)
    assert not (tmp_path / "nowhere").exists()


def test_threads_that_need_the_same_parents_do_not_fall_over_each_other(host: LocalHost, tmp_path: Path) -> None:
    for round_number in range(20):
        names = [f"{tmp_path}/{round_number}/a/b/c/{n}" for n in range(8)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda name: host.make_directory(name, mode=0o755), names))
        assert all(Path(name).is_dir() for name in names)


@as_root
def test_owners_are_set_on_what_stands_there_and_never_behind_a_link(host: LocalHost, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("dir")
    (tmp_path / "file").touch(mode=0o600)
    host.set_owner(str(tmp_path / "dir"), uid=12, gid=34, mode=0o2770)
    assert host.stat(str(tmp_path / "dir")) == PathState(PathKind.DIRECTORY, 12, 34, 0o2770)
    for name in ("link", "file"):
        with pytest.raises(errors.InvalidValue):
            host.set_owner(str(tmp_path / name), uid=1, gid=1, mode=0o777)
    assert host.stat(str(tmp_path / "dir")) == PathState(PathKind.DIRECTORY, 12, 34, 0o2770)
    with pytest.raises(errors.NotFound):
        host.set_owner(str(tmp_path / "none"), uid=1, gid=1, mode=0o777)


def test_stat_of_every_kind(host: LocalHost, tmp_path: Path) -> None:
    (tmp_path / "file").touch(mode=0o640)
    (tmp_path / "link").symlink_to("no/where")
    os.mkfifo(tmp_path / "fifo")
    states = {name: host.stat(str(tmp_path / name)) for name in ("file", "link", "fifo", "none", "file/below")}
    file, link, fifo = states["file"], states["link"], states["fifo"]
    assert file is not None
    assert (file.kind, file.mode, file.uid) == (PathKind.OTHER, 0o640, os.geteuid())
    assert link is not None
    assert (link.kind, link.target) == (PathKind.LINK, "no/where")
    assert fifo is not None, "and a pipe without a reader does not block"
    assert states["none"] is None
    assert states["file/below"] is None
    with pytest.raises(errors.InvalidValue):
        host.stat("relative")
    with pytest.raises(errors.InvalidValue):
        host.stat("/nul\0")


def test_looking_changes_nothing(host: LocalHost, tmp_path: Path) -> None:
    """An access time that moves is a change of the dataset."""
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir/file").touch()
    os.utime(tmp_path / "dir", (1, 2))
    before = os.stat(tmp_path / "dir")
    assert host.stat(str(tmp_path / "dir")) is not None
    after = os.stat(tmp_path / "dir")
    assert (after.st_atime_ns, after.st_ctime_ns) == (before.st_atime_ns, before.st_ctime_ns)


def test_removing_takes_what_is_empty(host: LocalHost, tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("a")
    with pytest.raises(errors.HasDependents):
        host.remove_directory(str(tmp_path / "a"))
    for name in ("file", "link"):
        with pytest.raises(errors.AlreadyExists):
            host.remove_directory(str(tmp_path / name))
    host.remove_directory(f"{tmp_path}/a/b/")
    host.remove_directory(f"{tmp_path}/a")
    host.remove_directory(f"{tmp_path}/a")
    assert sorted(os.listdir(tmp_path)) == ["file", "link"]


def test_calls_leave_no_descriptors_behind(host: LocalHost, tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        host.make_directory(str(tmp_path / "a/b"), mode=0o755)
        host.point_link(str(tmp_path / "a/link"), "x")
        host.point_link(str(tmp_path / "a/link"), "y")
        host.stat(str(tmp_path / "a/link"))
        host.stat(str(tmp_path / "a"))
        host.remove_link(str(tmp_path / "a/link"))
        host.remove_directory(str(tmp_path / "a/b"))
        with pytest.raises(errors.StorageError):
            host.point_link(str(tmp_path / "none/link"), "x")
    assert len(os.listdir("/proc/self/fd")) == before


# ---- links


def test_an_interrupted_swap_leaves_the_old_link_and_the_next_one_mends_it(
    host: LocalHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / "link"
    host.point_link(str(link), "old")

    def cut(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", cut)
        with pytest.raises(KeyboardInterrupt):
            host.point_link(str(link), "new")
    assert os.readlink(link) == "old"
    host.point_link(str(link), "new")
    assert os.readlink(link) == "new"
    assert os.listdir(tmp_path) == ["link"]


def test_a_link_that_is_right_already_is_left_alone(host: LocalHost, tmp_path: Path) -> None:
    link = tmp_path / "link"
    host.point_link(str(link), "target")
    before = os.lstat(link)
    host.point_link(str(link), "target")
    assert os.lstat(link).st_ino == before.st_ino


def test_nothing_that_came_meanwhile_is_replaced(
    host: LocalHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody puts a file there between the look and the change."""
    path = tmp_path / "public"
    real = file_paths.stat_path

    def look(looked: str) -> PathState | None:
        found = real(looked)
        path.write_text("evidence")
        return found

    monkeypatch.setattr(file_paths, "stat_path", look)
    with pytest.raises(errors.AlreadyExists):
        host.point_link(str(path), "target")
    assert path.read_text() == "evidence"


def test_errors_of_the_system_are_typed(host: LocalHost, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    cases: list[tuple[type[errors.StorageError], Callable[[], object]]] = [
        (errors.NotFound, lambda: host.point_link(str(tmp_path / "none/link"), "x")),
        (errors.InvalidValue, lambda: host.make_directory(str(tmp_path / ("x" * 300)), mode=0o755)),
        (errors.InvalidValue, lambda: host.stat(str(tmp_path / "loop/below"))),
        (errors.Busy, lambda: host.remove_directory("/proc")),
    ]
    for expected, act in cases:
        with pytest.raises(expected) as caught:
            act()
        assert str(caught.value).startswith("cannot ")
        assert caught.value.subject.startswith("/")


# ---- snapshots


def test_a_snapshot_is_mounted_read_only_whatever_is_asked(fake: Fake, tmp_path: Path) -> None:
    directory = tmp_path / "old"
    directory.mkdir()
    for read_only in (True, False):
        fake.host.mount("tank@s1", str(directory), read_only=read_only)
        assert "ro,nodev,nosuid" in fake.records[-1].argv
    with pytest.raises(errors.InvalidValue, match="tank@s1 is a snapshot"):
        fake.host.remount("/tank/.zfs/snapshot/s1", read_only=False)
    fake.says("echo 'zfs_mount_at() failed: directory is not empty' >&2; exit 2")
    with pytest.raises(errors.Busy):
        fake.host.mount("tank@s1", str(directory), read_only=True)
