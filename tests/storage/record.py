"""Record what OpenZFS prints: run as root on a node with OpenZFS and nothing else to lose.

    python -m tests.storage.record tests/storage/data

makes file-backed pools of its own in /var/tmp, runs the commands of this project and of `refusals` on them, and writes
`openzfs-VERSION.json`: under a name for each, its argv, exit code, stdout and stderr. The tests read such files.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dsg.storage.zfs import commands
from dsg.storage.zfs.commands import Command
from dsg.storage.zfs.interface import DatasetKind
from tests.storage import refusals
from tests.storage.values import BYTES, PROPERTIES, USER_VALUES

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
PLACE = Path("/var/tmp")
EVERYTHING = tuple(DatasetKind)


def run(*argv: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    """Run what only prepares."""
    return subprocess.run(argv, check=check, timeout=120, capture_output=True, env=ENVIRONMENT, cwd="/")


def until(*argv: str) -> None:
    """Run what works only once something else has ended, such as a resilver."""
    deadline = time.monotonic() + 60
    while (done := run(*argv, check=False)).returncode:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{argv}: {done.stderr!r}")
        time.sleep(1)


class Recorder:
    """Gathers outputs by name."""

    def __init__(self) -> None:
        self.entries: dict[str, dict[str, object]] = {}

    def record(self, name: str, command: Command, prefix: Sequence[str] = ()) -> None:
        """Run a command and keep what it left."""
        done = subprocess.run(
            [*prefix, *command.argv],
            check=False,
            input=command.stdin,
            timeout=120,
            capture_output=True,
            env=ENVIRONMENT,
            cwd="/",
        )
        self.entries[name] = {
            "argv": command.argv,
            "exit_code": done.returncode,
            "stdout": done.stdout.decode("utf-8", "surrogateescape"),
            "stderr": done.stderr.decode("utf-8", "surrogateescape"),
        }

    def pools(self, name: str, *, json_too: bool) -> None:
        """Keep both commands about pools, in both forms where there are two."""
        for form in (False, True) if json_too else (False,):
            suffix = "json" if form else "text"
            self.record(f"{name}/list.{suffix}", commands.list_pools(json=form))
            self.record(f"{name}/status.{suffix}", commands.pool_status(json=form))


def images(*names: str, size: str = "128M") -> list[str]:
    """Make fresh sparse files for pools."""
    paths = [str(PLACE / f"{name}.img") for name in names]
    for path in paths:
        Path(path).unlink(missing_ok=True)
        run("truncate", "-s", size, path)
    return paths


def create_pool(name: str, *words: str) -> None:
    """Create a pool that no boot imports."""
    run("zpool", "create", "-f", "-o", "cachefile=none", "-O", "mountpoint=legacy", name, *words)


def keys() -> None:
    """Write the key files that `refusals` names."""
    Path(refusals.KEY).write_bytes(bytes(range(32)))
    Path(f"{refusals.KEY}.other").write_bytes(bytes(reversed(range(32))))
    Path(f"{refusals.KEY}.short").write_bytes(b"short")


def furnish() -> None:
    """Make the datasets that `refusals` and the readings are about."""
    keys()
    create_pool("dsgrec", *images("dsgrec", size="256M"))
    for name in ("a", "b", "b/c", "m"):
        run("zfs", "create", f"dsgrec/{name}")
    run("zfs", "create", "-s", "-V", "8M", "dsgrec/vol")
    for name in ("e", "locked"):
        encryption = ["-o", "encryption=on", "-o", "keyformat=raw", "-o", f"keylocation=file://{refusals.KEY}"]
        run("zfs", "create", *encryption, f"dsgrec/{name}")
    run("zfs", "unload-key", "dsgrec/locked")
    run("zfs", "snapshot", "dsgrec/a@1")
    run("zfs", "clone", "dsgrec/a@1", "dsgrec/clone")
    run("zfs", "bookmark", "dsgrec/a@1", "dsgrec/a#mark")
    for tail in "123":
        run("zfs", "snapshot", "-o", f"dsg.test:tail={tail}", f"dsgrec/b@{tail}")
    run("zfs", "hold", "t", "dsgrec/b@2")
    run("zfs", "hold", "second tag", "dsgrec/b@2")
    run("zfs", "clone", "dsgrec/a@1", "dsgrec/collision")
    run("zfs", "snapshot", "dsgrec/collision@1")
    for name, value in USER_VALUES.items():
        subprocess.run(["zfs", "set", f"dsg.test:{name}=".encode() + value, "dsgrec/b"], check=True, timeout=60)
    run("zfs", "set", "compression=lz4", "quota=64M", "dsgrec/b")
    for name in ("e", "m", "b"):
        (PLACE / f"dsgrec-{name}").mkdir(exist_ok=True)
        run("mount", "-t", "zfs", "-o", "nodev,nosuid,ro", f"dsgrec/{name}", str(PLACE / f"dsgrec-{name}"))


def readings(recorder: Recorder, *, json_too: bool) -> None:
    """Record reads of the tree in each form."""
    for form in (False, True) if json_too else (False,):
        suffix = "json" if form else "text"
        wanted = commands.properties_to_read([name for name in PROPERTIES if not form or name != BYTES])
        tree = commands.get(["dsgrec"], wanted, EVERYTHING, None, json=form)
        some = commands.get(["dsgrec/b", "dsgrec/none", "dsgnone/x", "dsgrec/a"], wanted, EVERYTHING, 1, json=form)
        nothing = commands.get(["dsgrec/a"], wanted, [DatasetKind.VOLUME], 1, json=form)
        recorder.record(f"get/tree.{suffix}", tree)
        recorder.record(f"get/missing.{suffix}", some)
        recorder.record(f"get/nothing.{suffix}", nothing)
        odd = commands.get(["dsgrec/b"], commands.properties_to_read([BYTES]), [DatasetKind.FILESYSTEM], 0, json=form)
        recorder.record(f"get/bytes.{suffix}", odd)
    recorder.record("holds", commands.holds([f"dsgrec/b@{tail}" for tail in "123"]))
    recorder.record("holds/missing", commands.holds(["dsgrec/b@2", "dsgrec/b@9"]))
    recorder.record("load-key/loaded", commands.load_key("dsgrec/e"))
    recorder.record("destroy/no-such-snapshots", commands.destroy_snapshots("dsgrec/b", ["8", "9"]))


PROGRAMS = {
    "nothing": "",
    "nil": "return nil",
    "table": "return {1, 2, true, {x = 'é \\n\\t\\\"q\\\"'}}",
    "arguments": "return (...).argv",
    "astral": "return 'a🗂b'",
    "error": "error('boom')",
    "object": "error({code = 7})",
    "syntax": "local x = ; return",
    "endless": "while true do end",
    "two values": "return 1, 2",
    "memory": "local t = {} while true do t[#t + 1] = string.rep('x', 1000) .. #t end",
}


def programs(recorder: Recorder) -> None:
    """Record what channel programs return and how they fail."""
    for name, source in PROGRAMS.items():
        recorder.record(f"program/{name}", commands.program("dsgrec", source, ["x", "-n", "é"], sync=False))


def changes(recorder: Recorder, *, json_too: bool) -> None:
    """Record what is refused, and the events so far."""
    for verb, arguments, _ in refusals.REFUSALS:
        prefix = ("env", "-C", str(PLACE / "dsgrec-m")) if arguments == "dsgrec/m" else ()
        recorder.record(f"{verb} {arguments}", refusals.command(verb, arguments), prefix)
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    for line in refusals.WITHOUT_PERMISSION:
        verb, _, arguments = line.partition(" ")
        recorder.record(f"nobody/{line}", refusals.command(verb, arguments), nobody)
    events = commands.events(follow=False)
    recorder.record("events", replace(events, arguments=(*events.arguments, refusals.POOL)))
    for name in ("e", "m", "b"):
        run("umount", str(PLACE / f"dsgrec-{name}"))
    run("zpool", "export", "dsgrec")
    run("zpool", "import", "-o", "readonly=on", "-o", "cachefile=none", "-d", str(PLACE), "dsgrec")
    recorder.pools("readonly", json_too=json_too)
    for line in refusals.ON_READ_ONLY_POOL:
        verb, _, arguments = line.partition(" ")
        recorder.record(f"readonly/{line}", refusals.command(verb, arguments))


DIFFERENT_NAMES = (b"with space", b"line\nbreak", b"tab\there", b"back\\slash", b"\\0040", b"bad\xff", "é 🗂".encode())


def differences(recorder: Recorder) -> None:
    """Record what differs between a snapshot and a clone, and between a former head and the new one."""
    create_pool("dsgdif", *images("dsgdif"))
    place, clone = PLACE / "dsgdif a", PLACE / "dsgdif-b"
    for directory in (place, clone):
        directory.mkdir(exist_ok=True)
    run("zfs", "create", "dsgdif/a")
    run("zfs", "create", "dsgdif/other")
    run("mount", "-t", "zfs", "dsgdif/a", str(place))
    for name in ("old", "gone", "became", "linked", "same", "open", "attribute"):
        (place / name).write_text(name)
    (place / "dir").mkdir()
    (place / "dir/file").write_text("file")
    (place / "link").symlink_to("old")
    run("zfs", "set", "xattr=dir", "dsgdif/a")
    run("zfs", "snapshot", "dsgdif/a@1")
    run("zfs", "clone", "-o", "xattr=dir", "dsgdif/a@1", "dsgdif/b")
    recorder.record("diff/unmounted", commands.diff("dsgdif/a@1", "dsgdif/b"))
    run("mount", "-t", "zfs", "dsgdif/b", str(clone))
    recorder.record("diff/nothing", commands.diff("dsgdif/a@1", "dsgdif/b"))
    (clone / "old").rename(clone / "new place")
    (clone / "gone").unlink()
    (clone / "became").unlink()
    (clone / "became").mkdir()
    (clone / "second").hardlink_to(clone / "linked")
    (clone / "dir").rename(clone / "dir 2")
    (clone / "link").unlink()
    (clone / "link").symlink_to("same")
    os.mkfifo(clone / "fifo")
    os.setxattr(clone / "attribute", "user.k", b"v")
    for odd in DIFFERENT_NAMES:
        Path(os.fsdecode(os.fsencode(clone) + b"/" + odd)).write_text("x")
    with (clone / "open").open(), (clone / "never named").open("w") as unnamed:
        (clone / "open").unlink()
        unnamed.write("x")
        unnamed.flush()
        (clone / "never named").unlink()
        recorder.record("diff/clone", commands.diff("dsgdif/a@1", "dsgdif/b"))
    run("zfs", "snapshot", "dsgdif/b@2")
    run("zfs", "promote", "dsgdif/b")
    (place / "late").write_text("late")
    recorder.record("diff/former head", commands.diff("dsgdif/b@1", "dsgdif/a"))
    recorder.record("diff/no such snapshot", commands.diff("dsgdif/b@none", "dsgdif/b"))
    recorder.record("diff/no such dataset", commands.diff("dsgdif/b@1", "dsgdif/none"))
    recorder.record("diff/no such owner", commands.diff("dsgdif/none@1", "dsgdif/b"))
    recorder.record("diff/later snapshot", commands.diff("dsgdif/b@2", "dsgdif/a"))
    run("umount", str(place))
    run("umount", str(clone))
    run("zpool", "destroy", "-f", "dsgdif")


def sick_pools(recorder: Recorder, *, json_too: bool) -> None:
    """Record a pool in several states of health."""
    one, two, log, spare, special = images("dsg1", "dsg2", "dsg3", "dsg4", "dsg5")
    create_pool("dsgmir", "mirror", one, two, "log", log, "spare", spare, "special", special)
    recorder.pools("healthy", json_too=json_too)
    run("zfs", "create", "dsgmir/d")
    (PLACE / "dsgmir").mkdir(exist_ok=True)
    run("mount", "-t", "zfs", "dsgmir/d", str(PLACE / "dsgmir"))
    (PLACE / "dsgmir/file").write_bytes(os.urandom(20 << 20))
    run("zpool", "sync", "dsgmir")
    run("zpool", "offline", "dsgmir", two)
    recorder.pools("degraded", json_too=json_too)
    (PLACE / "dsgmir/file2").write_bytes(os.urandom(10 << 20))
    run("zpool", "sync", "dsgmir")
    run("zpool", "online", "dsgmir", two)
    until("sh", "-c", "zpool status dsgmir | grep -q resilvered")
    recorder.pools("resilvered", json_too=json_too)
    run("umount", str(PLACE / "dsgmir"))
    until("zpool", "scrub", "dsgmir")
    run("zpool", "scrub", "-p", "dsgmir")
    recorder.pools("paused", json_too=json_too)
    run("zpool", "scrub", "-s", "dsgmir")
    recorder.pools("canceled", json_too=json_too)
    run("zpool", "export", "dsgmir")
    for path in (one, two):
        with Path(path).open("r+b") as image:
            image.seek(5 << 20)
            image.write(os.urandom(100 << 20))
    run("zpool", "import", "-o", "cachefile=none", "-d", str(PLACE), "dsgmir")
    until("zpool", "scrub", "dsgmir")
    recorder.pools("scrubbing", json_too=json_too)
    run("zpool", "wait", "-t", "scrub", "dsgmir")
    recorder.pools("corrupt", json_too=json_too)
    run("zpool", "destroy", "-f", "dsgmir")


def suspended_pool(recorder: Recorder, *, json_too: bool) -> None:
    """Record a pool whose device fails: a sparse file on a file system that runs full."""
    place = PLACE / "dsgsus"
    place.mkdir(exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", "size=40M", "tmpfs", str(place))
    run("truncate", "-s", "200M", str(place / "image"))
    create_pool("dsgsus", str(place / "image"))
    run("zfs", "create", "dsgsus/a")
    run("zfs", "snapshot", "dsgsus/a@1")
    mounted = PLACE / "dsgsus-a"
    mounted.mkdir(exist_ok=True)
    run("mount", "-t", "zfs", "dsgsus/a", str(mounted))
    writer = subprocess.Popen(["dd", "if=/dev/urandom", f"of={mounted}/file", "bs=1M", "count=60", "status=none"])
    while b"SUSPENDED" not in run("zpool", "list", "-H", "-o", "health", "dsgsus").stdout:
        time.sleep(0.5)
    recorder.pools("suspended", json_too=json_too)
    for line in refusals.ON_SUSPENDED_POOL:
        verb, _, arguments = line.partition(" ")
        recorder.record(f"suspended/{line}", refusals.command(verb, arguments))
    run("mount", "-o", "remount,size=400M", str(place))
    run("zpool", "clear", "dsgsus")
    writer.wait(120)
    run("umount", str(mounted))
    run("zpool", "destroy", "dsgsus")
    run("umount", str(place))


def clean() -> None:
    """Destroy the pools, whatever state they are in."""
    for name in ("b", "e", "m"):
        run("umount", str(PLACE / f"dsgrec-{name}"), check=False)
    for pool in ("dsgrec", "dsgmir", "dsgdif"):
        run("zpool", "destroy", "-f", pool, check=False)


def main(folder: str) -> None:
    """Record everything into a file named after the version."""
    recorder = Recorder()
    recorder.record("version", commands.version())
    version = str(recorder.entries["version"]["stdout"]).split("\n")[0].removeprefix("zfs-").partition("-")[0]
    json_too = tuple(int(part) for part in version.split(".")[:2]) >= (2, 3)
    try:
        sick_pools(recorder, json_too=json_too)
        suspended_pool(recorder, json_too=json_too)
        furnish()
        readings(recorder, json_too=json_too)
        programs(recorder)
        changes(recorder, json_too=json_too)
        differences(recorder)
    finally:
        clean()
    path = Path(folder) / f"openzfs-{version}.json"
    path.write_text(json.dumps(recorder.entries, indent=1, ensure_ascii=True) + "\n")
    sys.stdout.write(f"{len(recorder.entries)} outputs in {path}\n")


if __name__ == "__main__":
    main(sys.argv[1])
