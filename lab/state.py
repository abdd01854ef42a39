"""A guest saved in the moment when it is ready, so that a node starts in a second or two and not in fifteen.

The memory of a stopped guest is written to a file and its root disk becomes the lower layer of every node's disk. The
file and the disk are shared by all nodes and never written again.
"""

from dataclasses import dataclass
from pathlib import Path

from lab import cache, machine
from lab.emulator import emulator
from lab.image import Image
from lab.machine import Hardware, Machine
from lab.processes import free_port
from lab.ssh import Key, Remote

_SSH = 22
_EXPECTED = "about 40 s"
# Run once before saving, so that every node finds in memory what its commands read.
_WARM = (
    ("zpool", "list"),
    ("zfs", "version"),
    ("sh", "-c", "lab-wake </dev/null || true"),
    (
        "/opt/dsg/bin/python",
        "-c",
        "import kopf, kubernetes, pydantic, structlog, lupa, opentelemetry.sdk, pytest, hypothesis",
    ),
    ("sync",),
)


@dataclass(frozen=True, slots=True)
class SavedState:
    """Where the parts of a saved state are."""

    folder: Path

    @property
    def root(self) -> Path:
        """The root disk (qcow2) at that moment."""
        return self.folder / "root.qcow2"

    @property
    def memory(self) -> Path:
        """Memory and devices at that moment, as QEMU's migration stream."""
        return self.folder / "memory"


def saved_state(image: Image, hardware: Hardware) -> SavedState:
    """The saved state for an image and hardware, made by one cold boot when it is missing. Raises `LabError`."""
    command = machine.arguments(Image(Path("image"), image.key), hardware, {_SSH: 0})
    key = cache.recipe_key([], image.key, emulator().version, machine.describe(hardware), *command, repr(_WARM))

    def build(folder: Path, log: Path) -> None:
        machine.create_disk(folder / "root.qcow2", image.disk)
        for disk in machine.pool_disks(hardware):
            machine.create_disk(folder / f"{disk}.qcow2", gib=hardware.pool_disk_gib)
        port = free_port()
        guest = Machine(folder, image, hardware, {_SSH: port}, tied=True)
        shell = Remote(folder, port, Key(image.ssh_key, image.known_hosts), tied=True)
        try:
            guest.power_on()
            guest.wait_booted()
            for argv in _WARM:
                shell.run(*argv, timeout=300)
            shell.close()
            guest.save(folder / "memory")
        finally:
            shell.close()
            guest.power_off()
            log.write_bytes(guest.console.read_bytes() if guest.console.exists() else b"")
        for file in folder.iterdir():
            if file.name not in ("root.qcow2", "memory"):
                file.unlink()
        (folder / "root.qcow2").chmod(0o444)

    return SavedState(cache.cached("node-state", key, "the saved state of a booted storage node", _EXPECTED, build))
