"""One emulated computer: QEMU without KVM, its disks, its control channel; no knowledge of what runs in it.

Emulation needs nothing of the processor or the kernel, so the lab runs wherever QEMU does.
"""

import errno
import json
import os
import subprocess
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from lab import system
from lab.cache import tail
from lab.emulator import emulator
from lab.errors import LabError
from lab.image import Image
from lab.processes import Process, recorded, spawn
from lab.qmp import Monitor, monitor

_TOOLS = {"qemu-img": "qemu-utils", "ssh": "openssh-client"}
# A kernel that is told of fast string instructions copies and clears with them, and they are emulated byte by byte:
# without, a guest's work takes a quarter to a third less of this machine's processors.
_PROCESSOR = "max,-erms,-fsrm"
_READY = b"node-init: ready"
_PANIC = b"Kernel panic"
BOOT_TIMEOUT = 300.0
"""Seconds that a cold boot may take; 15 are usual, and several times that on a busy machine."""
_STATE_TIMEOUT = 120.0
_ARGUMENTS = "console=ttyS0 root=/dev/vda rw init=/node-init quiet mitigations=off rcupdate.rcu_cpu_stall_suppress=1"


@dataclass(frozen=True, slots=True)
class Hardware:
    """What the computer has. A saved state fits the hardware that it was saved on, and no other."""

    memory_mib: int = 1536
    cpus: int = 2
    pool_disks: int = 2
    pool_disk_gib: int = 8


def ensure_tools() -> None:
    """Make sure that QEMU and ssh are there; installs them as root. Raises `LabError`."""
    system.ensure_tools(_TOOLS)
    emulator()


def arguments(image: Image, hardware: Hardware, forwards: Mapping[int, int]) -> list[str]:
    """QEMU's options for a computer whose files are in the working directory.

    `forwards` maps ports of the guest to ports of this machine on 127.0.0.1.
    """
    network = ["user", "id=net"]
    network += [f"hostfwd=tcp:127.0.0.1:{here}-:{there}" for there, here in sorted(forwards.items())]
    argv = ["-no-user-config", "-nodefaults", "-display", "none", "-machine", "pc"]
    argv += ["-accel", "tcg,thread=multi", "-cpu", _PROCESSOR]
    argv += ["-smp", str(hardware.cpus), "-m", str(hardware.memory_mib)]
    argv += ["-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", _ARGUMENTS]
    argv += ["-chardev", "file,id=console,path=console.log,append=on", "-serial", "chardev:console"]
    argv += ["-qmp", "unix:qmp.sock,server=on,wait=off"]
    argv += ["-netdev", ",".join(network), "-device", "virtio-net-pci,netdev=net,romfile="]
    # Tells the kernel that it is a copy, so that it draws fresh randomness.
    argv += ["-device", "vmgenid,guid=auto"]
    for disk in ("root", *pool_disks(hardware)):
        # Writes reach the file when the guest flushes, as with a real disk: cutting the power loses the rest.
        argv += ["-blockdev", f"qcow2,node-name={disk},file.driver=file,file.filename={disk}.qcow2,discard=unmap"]
        argv += ["-device", f"virtio-blk-pci,id={disk}-disk,drive={disk},serial=dsg-{disk}"]
    return argv


def pool_disks(hardware: Hardware) -> tuple[str, ...]:
    """The names of the disks for pools; `/dev/disk/by-id/virtio-dsg-<name>` in the guest."""
    return tuple(f"pool{number}" for number in range(hardware.pool_disks))


def create_disk(path: Path, backing: Path | None = None, backing_format: str = "raw", gib: int | None = None) -> None:
    """Make a qcow2 disk: a layer above `backing`, or an empty one of `gib` GiB that takes no space yet."""
    argv = ["qemu-img", "create", "-q", "-f", "qcow2"]
    if backing is not None:
        argv += ["-b", str(backing), "-F", backing_format]
    argv.append(str(path))
    if gib is not None:
        argv.append(f"{gib}G")
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        raise LabError(f"making the disk {path} failed: {done.stderr.strip()}")


class Machine:
    """A computer in a directory that has `root.qcow2` and one qcow2 file for each pool disk.

    A `tied` one dies with this process, others stay.
    """

    def __init__(
        self, directory: Path, image: Image, hardware: Hardware, forwards: Mapping[int, int], *, tied: bool
    ) -> None:
        self.directory = directory
        self.console = directory / "console.log"
        self._image = image
        self._hardware = hardware
        self._forwards = dict(forwards)
        self._tied = tied
        self._pid = directory / "qemu.pid"
        self._log = directory / "qemu.log"
        self._boot_offset = 0

    @property
    def process(self) -> Process | None:
        """The running QEMU, or None."""
        return recorded(self._pid)

    def monitor(self) -> AbstractContextManager[Monitor]:
        """The control channel, as a context manager."""
        return monitor(self.directory / "qmp.sock")

    def power_on(self, memory: Path | None = None) -> None:
        """Start it: a cold boot, or going on from the saved memory in the file `memory`."""
        ensure_tools()
        self._boot_offset = self._console_size()
        (self.directory / "qmp.sock").unlink(missing_ok=True)
        self._log.write_text("")
        argv = [*emulator().argv, *arguments(self._image, self._hardware, self._forwards)]
        if memory is not None:
            argv += ["-incoming", "defer"]
        spawn(argv, self._log, self._pid, tied=self._tied, cwd=self.directory)
        if memory is not None:
            try:
                self._load(memory)
            except LabError as error:
                self.power_off()
                raise LabError(f"starting from a saved state failed: {error}\n{tail(self._log)}") from error

    def _console_size(self) -> int:
        return self.console.stat().st_size if self.console.exists() else 0

    def _load(self, memory: Path) -> None:
        with self.monitor() as channel:
            descriptor = os.open(memory, os.O_RDONLY)
            try:
                channel.execute("getfd", descriptor, fdname="state")
            finally:
                os.close(descriptor)
            channel.execute("migrate-incoming", uri="fd:state")
            self._wait_migrated(channel)
            channel.execute("cont")

    def save(self, memory: Path) -> None:
        """Write the memory to a file and end; the disks then are as the saved memory expects them."""
        with self.monitor() as channel:
            channel.execute("stop")
            channel.execute("migrate-set-parameters", max_bandwidth=1 << 40)
            descriptor = os.open(memory, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                channel.execute("getfd", descriptor, fdname="state")
            finally:
                os.close(descriptor)
            channel.execute("migrate", uri="fd:state")
            self._wait_migrated(channel)
            channel.execute("quit")
        self._ended()

    def _wait_migrated(self, channel: Monitor) -> None:
        deadline = time.monotonic() + _STATE_TIMEOUT
        while (status := channel.execute("query-migrate").get("status")) != "completed":
            if status in ("failed", "cancelled") or time.monotonic() > deadline:
                raise LabError(f"the state of the machine is not transferred: {status}")
            time.sleep(0.02)

    def wait_booted(self, timeout: float = BOOT_TIMEOUT) -> None:
        """Wait until the guest's init says that it is ready. Raises `LabError` with the console's end when it can't."""
        deadline = time.monotonic() + timeout
        while True:
            said = b""
            if self.console.exists():
                with self.console.open("rb") as content:
                    content.seek(self._boot_offset)
                    said = content.read()
            if _READY in said:
                return
            problem = ""
            if self.process is None:
                problem = f"QEMU ended; it said:\n{tail(self._log)}\n"
            elif _PANIC in said:
                problem = "its kernel panicked. "
            elif time.monotonic() > deadline:
                problem = f"it is not ready after {timeout:.0f} s. "
            if problem:
                raise LabError(
                    f"the guest in {self.directory} does not boot: {problem}Its console:\n{tail(self.console)}"
                )
            time.sleep(0.05)

    def reset(self) -> None:
        """Press the reset button: nothing is flushed, and the guest boots again."""
        self._boot_offset = self._console_size()
        with self.monitor() as channel:
            channel.execute("system_reset")

    def power_off(self) -> None:
        """Cut the power: `kill -9` of QEMU. What the guest had not flushed to its disks may be lost."""
        if process := self.process:
            process.kill()
        self._pid.unlink(missing_ok=True)

    def quit(self) -> None:
        """Let QEMU write out what it holds of the disks and end; the guest is not asked."""
        if self.process is None:
            return
        with self.monitor() as channel:
            channel.execute("quit")
        self._ended()

    def _ended(self) -> None:
        if (process := self.process) and not process.wait(60):
            raise LabError(f"QEMU (process {process.pid}) does not end; look at {self._log}")
        self._pid.unlink(missing_ok=True)

    def break_disk(self, disk: str) -> None:
        """From now on every request to the disk fails (EIO), as with a dead controller; its content stays."""
        with self.monitor() as channel:
            fault = {"event": "none", "errno": errno.EIO}
            channel.execute(
                "blockdev-add", driver="blkdebug", node_name=f"{disk}-dead", image=disk, inject_error=[fault]
            )
            channel.execute("qom-set", path=f"{disk}-disk", property="drive", value=f"{disk}-dead")

    def mend_disk(self, disk: str) -> None:
        """Let the disk work again."""
        with self.monitor() as channel:
            channel.execute("qom-set", path=f"{disk}-disk", property="drive", value=disk)
            channel.execute("blockdev-del", node_name=f"{disk}-dead")


def describe(hardware: Hardware) -> str:
    """The hardware as one line of JSON, for keys and settings files."""
    return json.dumps(
        {"memory": hardware.memory_mib, "cpus": hardware.cpus, "disks": [hardware.pool_disks, hardware.pool_disk_gib]}
    )
