"""A storage node: a guest with real OpenZFS, disks for pools, ssh, and the operator as a process.

`with StorageNode(tmp_path, "node-a") as node: node.create_pool("tank"); node.run("zfs", "list")`. The first start of a
directory goes on from a saved state and takes about two seconds; later starts of the same directory boot its disks,
which takes about 20.
"""

import json
import secrets
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path
from tarfile import open as open_tar
from types import TracebackType
from typing import IO, Self

from lab import machine, wheel
from lab.credentials import write_private
from lab.errors import LabError
from lab.image import Image, image
from lab.machine import Hardware, Machine
from lab.paths import TREE
from lab.processes import free_port
from lab.progress import say, stage
from lab.ssh import COMMAND_TIMEOUT, CommandFailed, Key, Remote
from lab.state import SavedState, saved_state

PYTHON = "/opt/dsg/bin/python"
"""The Python of the guest that has the operator's dependencies."""

OPERATOR_LOG = "/var/log/dsg-operator.log"
DATA_PLANE_PORT = 8443
"""Port of the guest at which the data plane listens; name it in `forwards`."""
_DATA_PLANE = "dsg-data-plane"
_DATA_PLANE_USER = "2100"
_GRANTS = "/run/dsg/grants"
_SSH = 22
_PROJECT = "/root/dsg"
_INSTALLED = "/opt/dsg/wheel.sha256"
_NOT_RUNNING = 3


class StorageNode(AbstractContextManager["StorageNode"]):
    """One guest with its whole state in `directory`.

    `forwards` are TCP ports of the guest that are reached from this machine at 127.0.0.1 and the port that `forwarded`
    tells. A `tied` node dies with this process, however it dies; leaving the `with` block cuts its power. `warm` uses
    the saved state for the first start; without it the first start is a cold boot of the image.
    """

    def __init__(
        self,
        directory: Path,
        name: str = "node-a",
        *,
        tied: bool = True,
        warm: bool = True,
        forwards: Sequence[int] = (),
        hardware: Hardware | None = None,
    ) -> None:
        self.directory = directory
        self.name = name
        self.hardware = hardware or Hardware()
        self._tied = tied
        self._warm = warm
        self._forwards = tuple(forwards)
        self._settings_file = directory / "node.json"
        self._parts: tuple[Machine, Remote] | None = None

    def __enter__(self) -> Self:
        self.boot()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    # -- life

    @property
    def exists(self) -> bool:
        """Whether the directory has a node's disks."""
        return self._settings_file.exists()

    @property
    def running(self) -> bool:
        """Whether the guest's computer is on; it may still be booting, or stuck."""
        return self.exists and self._open()[0].process is not None

    def boot(self) -> None:
        """Start the node and wait until ssh answers, the clock is right and its name is set; nothing when it runs.

        Raises `LabError` with the end of the console when the guest does not come up.
        """
        fresh = not self.exists
        state = self._create() if fresh else None
        computer, shell = self._open()
        if computer.process is None:
            shell.close()
            if state is not None:
                computer.power_on(state.memory)
            else:
                with stage(f"booting {self.name}", "about 20 s"):
                    computer.power_on()
                    computer.wait_booted()
        self._wake()

    def kill(self) -> None:
        """Cut the power: `kill -9` of the whole computer. Writes that were not flushed may be lost, others must not."""
        if not self.exists:
            return
        computer, shell = self._open()
        computer.power_off()
        shell.close()

    def replace(self) -> None:
        """Cut the power and put the pool disks into a new computer, where their pools are imported: 4 s, not 20.

        What a node with a dead system disk comes to, and the quick way to see what survives on the pool. Nothing else
        survives: the wheel has to be installed and the operator started again. Name and host ids stay the same.
        """
        state = saved_state(self._image(), self.hardware)
        computer, shell = self._open()
        computer.power_off()
        shell.close()
        write_private(self._settings_file, json.dumps(self._settings() | {"state": str(state.folder)}).encode())
        self._lay_root(state)
        computer.power_on(state.memory)
        self._wake()
        # The saved memory holds what an empty disk has.
        for number in range(self.hardware.pool_disks):
            self.run("blockdev", "--flushbufs", "--rereadpt", self.device(number))
        self.run("udevadm", "settle")
        self.run("zpool", "import", "-a", "-d", "/dev/disk/by-id")

    def reset(self) -> None:
        """Press the reset button and wait until the node is up again. Unflushed writes of the guest are lost."""
        computer, shell = self._open()
        shell.close()
        with stage(f"resetting {self.name}", "about 20 s"):
            computer.reset()
            computer.wait_booted()
        self._wake()

    def stop(self) -> None:
        """Shut down in order: operator stopped, everything flushed, power off. Pools stay imported, as on a server.

        A guest that does not answer within 30 seconds has its power cut, and stderr tells so.
        """
        if not self.running:
            return
        computer, shell = self._open()
        try:
            if self.operator_running():
                self.stop_operator()
            shell.run("sync", timeout=30)
            shell.run("zpool", "sync", timeout=30)
        except LabError as error:
            say(f"{self.name} could not be shut down in order, so its power is cut: {error}")
            self.kill()
            return
        shell.close()
        computer.quit()

    def destroy(self) -> None:
        """Cut the power and remove the directory with the disks."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
        self._parts = None

    def _create(self) -> SavedState | None:
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        built = image()
        state = saved_state(built, self.hardware) if self._warm else None
        for old in self.directory.glob("*.qcow2"):
            old.unlink()
        if state:
            self._lay_root(state)
        else:
            machine.create_disk(self.directory / "root.qcow2", built.disk)
        for disk in machine.pool_disks(self.hardware):
            machine.create_disk(self.directory / f"{disk}.qcow2", gib=self.hardware.pool_disk_gib)
        settings = {
            "image": str(built.folder),
            "key": built.key,
            "state": str(state.folder) if state else "",
            "ports": {str(port): free_port() for port in (_SSH, *self._forwards)},
            "machine": secrets.token_hex(16),
            # 0 would mean "none" (zgenhostid(8)).
            "hostid": secrets.randbits(31) + 1,
        }
        # Last, so that its presence says that the disks are whole.
        write_private(self._settings_file, json.dumps(settings).encode())
        self._parts = None
        return state

    def _lay_root(self, state: SavedState) -> None:
        root = self.directory / "root.qcow2"
        root.unlink(missing_ok=True)
        machine.create_disk(root, state.root, "qcow2")

    def _settings(self) -> dict[str, object]:
        try:
            content: dict[str, object] = json.loads(self._settings_file.read_text())
        except FileNotFoundError as error:
            raise LabError(f"there is no node in {self.directory}; boot() makes one") from error
        return content

    def _ports(self) -> dict[int, int]:
        ports = self._settings()["ports"]
        assert isinstance(ports, dict)
        return {int(there): int(here) for there, here in ports.items()}

    def _image(self) -> Image:
        settings = self._settings()
        for folder in self.built_on():
            if not folder.is_dir():
                raise LabError(
                    f"{folder}, on which the disks of {self.name} are layered, is gone from the cache; the node can't "
                    f"start again. Remove its directory {self.directory}"
                )
        return Image(Path(str(settings["image"])), str(settings["key"]))

    def built_on(self) -> list[Path]:
        """The folders of the cache that the node's disks are layered on; none before its first start."""
        if not self.exists:
            return []
        settings = self._settings()
        return [Path(str(settings[part])) for part in ("image", "state") if settings[part]]

    def _open(self) -> tuple[Machine, Remote]:
        if self._parts is None:
            built, ports = self._image(), self._ports()
            self._parts = (
                Machine(self.directory, built, self.hardware, ports, tied=self._tied),
                Remote(self.directory, ports[_SSH], Key(built.ssh_key, built.known_hosts), tied=self._tied),
            )
        return self._parts

    def _wake(self) -> None:
        settings = self._settings()

        def now() -> str:
            fields = {"name": self.name, "machine": settings["machine"], "hostid": settings["hostid"]}
            return json.dumps(fields | {"seed": secrets.token_hex(64), "time": time.time()})

        self.shell.dialogue(["/usr/local/sbin/lab-wake"], "now?", now)

    # -- commands

    @property
    def shell(self) -> Remote:
        """Root's shell in the guest, with all it can do."""
        return self._open()[1]

    @property
    def console(self) -> str:
        """What the guest's kernel and init have said on the console, over all boots."""
        path = self.directory / "console.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def run(
        self,
        *argv: str,
        input: str | None = None,  # the name subprocess.run uses
        timeout: float = COMMAND_TIMEOUT,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root in the guest; see `Remote.run`, which raises `LabError` and its subclasses."""
        return self.shell.run(*argv, input=input, timeout=timeout, check=check, env=env, cwd=cwd)

    def copy_in(self, source: Path, target: str) -> None:
        """Copy a file or folder into the guest, to the path `target`."""
        self.shell.copy_in(source, target)

    def copy_out(self, source: str, target: Path) -> None:
        """Copy a guest's file or folder to the path `target` here, which must not exist."""
        self.shell.copy_out(source, target)

    def forwarded(self, port: int) -> int:
        """The port on 127.0.0.1 of this machine that leads to `port` of the guest. Raises `LabError` for others."""
        try:
            return self._ports()[port]
        except KeyError as error:
            raise LabError(f"port {port} of {self.name} is not forwarded; name it in `forwards`") from error

    # -- disks and pools

    def device(self, disk: int) -> str:
        """The guest's path of pool disk number `disk`, from 0. Raises `LabError` when there is no such disk."""
        return f"/dev/disk/by-id/virtio-dsg-{self._disk(disk)}"

    def _disk(self, disk: int) -> str:
        disks = machine.pool_disks(self.hardware)
        if not 0 <= disk < len(disks):
            raise LabError(f"{self.name} has {len(disks)} pool disks, numbered from 0; there is no disk {disk}")
        return disks[disk]

    def create_pool(self, name: str = "tank", *options: str, disks: Sequence[int] = (0,)) -> None:
        """Make a pool striped over some of the pool disks, with `zpool create` options such as `-O`, `mountpoint=none`.

        Nothing happens when a pool of that name is imported. Raises `CommandFailed` with zpool's words.
        """
        if self.run("zpool", "list", "-H", "-o", "name", name, check=False).returncode == 0:
            return
        self.run("zpool", "create", *options, name, *(self.device(disk) for disk in disks))

    def break_disk(self, disk: int) -> None:
        """Let every request to a pool disk fail, as with a dead controller; a pool on it alone gets suspended."""
        self._open()[0].break_disk(self._disk(disk))

    def mend_disk(self, disk: int) -> None:
        """Let a broken pool disk work again; a suspended pool goes on after `zpool clear`."""
        self._open()[0].mend_disk(self._disk(disk))

    # -- the operator

    def install(self, wheel_file: Path | None = None) -> None:
        """Install a `dsg` wheel (of this tree when None) in place of the one that is there. Raises `LabError`."""
        file = wheel_file or wheel.wheel()
        archive = wheel.payload(file, self._image()).read_bytes()
        packages = "/opt/dsg/lib/python3*/site-packages"
        self.run("sh", "-c", f"rm -rf {packages}/dsg {packages}/dsg-*.dist-info")
        self.shell.unpack(archive, "/")
        self.run("sh", "-c", f"cat > {_INSTALLED}", input=wheel.digest(file))

    def installed(self) -> str:
        """The SHA-256 of the wheel file that `install` installed last; empty when there was none."""
        return self.run("sh", "-c", f"cat {_INSTALLED} 2>/dev/null || true").stdout

    def start_operator(
        self,
        node_name: str,
        kubeconfig: Path,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        program: Sequence[str] = ("/opt/dsg/bin/dsg-operator", "run"),
    ) -> None:
        """Start the operator, detached, its output appended to `OPERATOR_LOG` in the guest.

        `kubeconfig` is a file here; the guest gets a copy that only root may read. `env` shows in the guest's process
        list, so no secret belongs there. Raises `CommandFailed` when it runs already.
        """
        content = kubeconfig.read_text()
        self.run("sh", "-c", "umask 077; mkdir -p /etc/dsg; cat > /etc/dsg/kubeconfig", input=content)
        command = [*program, "--node", node_name, *args]
        self.start_daemon("dsg-operator", command, {"KUBECONFIG": "/etc/dsg/kubeconfig"} | dict(env or {}))

    def stop_operator(self, signal: str = "TERM", timeout: float = 30) -> None:
        """Send the operator a signal (`TERM`, `KILL`, …) and wait up to `timeout` seconds for its end.

        Nothing happens when it does not run. Raises `LabError` when it does not end.
        """
        self.stop_daemon("dsg-operator", signal, timeout)

    def operator_running(self) -> bool:
        """Whether the operator's process lives."""
        return self.daemon_pid("dsg-operator") is not None

    def operator_log(self) -> str:
        """What the operator has written since the node was made."""
        return self.run("sh", "-c", f"cat {OPERATOR_LOG} 2>/dev/null || true").stdout

    def data_plane_arguments(self) -> tuple[str, ...]:
        """What the operator is told of the data plane that `start_data_plane` starts."""
        endpoint = f"https://127.0.0.1:{self.forwarded(DATA_PLANE_PORT)}"
        user = f"{_DATA_PLANE_USER}:{_DATA_PLANE_USER}"
        return ("--grants", _GRANTS, "--endpoint", endpoint, "--data-plane-user", user)

    def start_data_plane(self, arguments: Sequence[str] | None = None) -> None:
        """Start the data plane as a user of its own, who may read every file, has no other right, and sees no /dev/zfs.

        `arguments` replace those of the lab; they name the same directories.
        Mounts that come and go on the node come and go for it too, as in a container with `HostToContainer`.
        Its directories survive a restart of it, not of the node. Raises `CommandFailed` when it runs already.
        """
        state = f"/var/lib/{_DATA_PLANE}"
        user = _DATA_PLANE_USER
        # Sticky: it may leave its own file beside the grants, and change none.
        self.run("sh", "-c", f"mkdir -p {_GRANTS} && chown root:{user} {_GRANTS} && chmod 1770 {_GRANTS}")
        self.run("install", "-d", "-m", "0700", "-o", user, "-g", user, state)
        rights = ("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search")
        who = ("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--no-new-privs", *rights)
        hidden = (
            "unshare",
            "--mount",
            "--propagation=slave",
            "sh",
            "-c",
            'mount --bind /dev/null /dev/zfs && exec "$@"',
        )
        command = (
            *hidden,
            "sh",
            *who,
            "--bounding-set=-all,+dac_read_search",
            PYTHON,
            "-m",
            "dsg.transfer.server.main",
        )
        if arguments is None:
            arguments = ("--grants", _GRANTS, "--state", state, "--listen", f"0.0.0.0:{DATA_PLANE_PORT}")
        self.start_daemon(_DATA_PLANE, [*command, *arguments])

    def stop_data_plane(self, signal: str = "TERM", timeout: float = 30) -> None:
        """Send the data plane a signal and wait for its end; nothing happens when it does not run."""
        self.stop_daemon(_DATA_PLANE, signal, timeout)

    def data_plane_log(self) -> str:
        """What the data plane has written."""
        return self.run("sh", "-c", f"cat /var/log/{_DATA_PLANE}.log 2>/dev/null || true").stdout

    def start_daemon(self, name: str, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        """Start a command, detached, its output appended to `/var/log/<name>.log` in the guest."""
        self.run("lab-daemon", "start", name, *command, env=env)

    def daemon_pid(self, name: str) -> int | None:
        """The process id in the guest of what `start_daemon` started; None when it does not run."""
        done = self.run("lab-daemon", "running", name, check=False)
        if done.returncode not in (0, _NOT_RUNNING):
            raise LabError(f"asking for {name} on {self.name} failed: {done.stderr.strip()}")
        return int(done.stdout) if done.returncode == 0 else None

    def stop_daemon(self, name: str, signal: str = "TERM", timeout: float = 30) -> None:
        """Send a daemon a signal and wait up to `timeout` seconds for its end; nothing happens when it does not run."""
        try:
            self.run("lab-daemon", "signal", name, signal)
            self.run("lab-daemon", "wait", name, str(int(timeout)), timeout=timeout + COMMAND_TIMEOUT)
        except CommandFailed as error:
            if error.exit_code == _NOT_RUNNING:
                return
            log = self.run("tail", "-n", "20", f"/var/log/{name}.log", check=False).stdout
            raise LabError(
                f"{name} on {self.name} does not end {timeout:.0f} s after SIG{signal}. Log:\n{log}"
            ) from error

    # -- tests in the guest

    def run_pytest(
        self,
        paths: Sequence[str],
        args: Sequence[str] = (),
        *,
        timeout: float = 1800,
        out: IO[str] | None = None,
        env: Mapping[str, str] | None = None,
        install: bool = True,
        tree: Path = TREE,
        beside: Sequence[str] = (),
    ) -> int:
        """Run tests of this tree inside the guest, on its kernel and its pools, with the wheel of this tree.

        `paths` are files or folders below the tree, such as `tests/contract`; they are copied with every conftest.py
        and package file on the way, and so is what they import of other tests, named in `beside`. `install=False` takes
        the wheel that is there. Output goes to `out` (stdout when None) as it comes; `timeout` is in seconds. Returns
        pytest's exit code.
        The guest has pytest, hypothesis and the operator's dependencies, and nothing else of the test extra.
        """
        if install:
            self.install()
        self.run("rm", "-rf", _PROJECT)
        self.shell.unpack(pack_tests((*paths, *beside), tree), _PROJECT)
        argv = [PYTHON, "-m", "pytest", "-p", "no:cacheprovider", *paths, *args]
        return self.shell.stream(argv, timeout=timeout, out=out, env=env, cwd=_PROJECT)

    def __repr__(self) -> str:
        return f"StorageNode({str(self.directory)!r}, {self.name!r})"


def pack_tests(paths: Sequence[str], tree: Path = TREE) -> bytes:
    """A tar archive of test paths below `tree`, with `pyproject.toml` and what lies on the way to them.

    Raises `LabError` for a path that is not there or leads out of the tree.
    """
    wanted: set[Path] = {tree / "pyproject.toml"}
    for text in paths:
        path = (tree / text.partition("::")[0]).resolve()
        if not path.exists() or not path.is_relative_to(tree):
            raise LabError(f"there is no {text} in {tree}")
        found = path.rglob("*") if path.is_dir() else (path,)
        wanted |= {f for f in found if f.is_file() and "__pycache__" not in f.parts}
        for parent in path.relative_to(tree).parents:
            beside = (tree / parent / name for name in ("conftest.py", "__init__.py"))
            wanted |= {f for f in beside if f.is_file()}
    packed = BytesIO()
    with open_tar(fileobj=packed, mode="w") as archive:
        for file in sorted(wanted):
            archive.add(file, arcname=str(file.relative_to(tree)))
    return packed.getvalue()
