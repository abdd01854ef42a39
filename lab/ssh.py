"""Commands in a guest by OpenSSH, over one connection that stays open (about 60 ms a command under emulation)."""

import io
import os
import select
import shlex
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from lab.cache import tail
from lab.errors import LabError
from lab.processes import recorded, spawn

HOST_ALIAS = "dsg-lab-node"
"""The name under which the image's known_hosts file has the guests' host key."""

CONNECT_TIMEOUT = 60.0
COMMAND_TIMEOUT = 60.0
_TRANSPORT_FAILED = 255


class CommandFailed(LabError):
    """A command in the guest ended with another exit code than 0."""

    def __init__(self, message: str, exit_code: int, stdout: str, stderr: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.stdout = stdout
        self.stderr = stderr


class ConnectionLost(LabError):
    """The guest could not be reached, or went away while the command ran; whether it took effect is unknown."""


@dataclass(frozen=True, slots=True)
class Key:
    """What proves who is who: our private key file, and the file with the guest's public host key."""

    private: Path
    known_hosts: Path


class Remote:
    """Root's shell of one guest, at a port of 127.0.0.1; sockets and logs are in `directory`.

    The shared connection is opened by the first command and again whenever it was lost. ssh's exit code 255 means a
    lost connection, so a guest's command should not use it.
    """

    def __init__(self, directory: Path, port: int, key: Key, *, tied: bool) -> None:
        self.directory = directory
        self.port = port
        self._key = key
        self._tied = tied
        self._pid = directory / "ssh.pid"
        self._log = directory / "ssh.log"
        # Named without folder and used with `directory` as the working directory: a socket's path is short (unix(7)).
        self._socket = "ssh.sock"
        self._opening = threading.Lock()

    def base_argv(self) -> list[str]:
        """The ssh command without a remote command, to be run in `directory`, for those who want a terminal."""
        options = {
            "ControlPath": self._socket,
            "UserKnownHostsFile": str(self._key.known_hosts),
            "GlobalKnownHostsFile": "none",
            "HostKeyAlias": HOST_ALIAS,
            "StrictHostKeyChecking": "yes",
            "IdentitiesOnly": "yes",
            "BatchMode": "yes",
            "LogLevel": "ERROR",
            "Compression": "no",
            "ConnectTimeout": "20",
            # The cheapest to compute among the sound ones; the processor at the other end is emulated.
            "KexAlgorithms": "curve25519-sha256",
        }
        argv = ["ssh", "-F", "none", "-p", str(self.port), "-i", str(self._key.private)]
        for name, value in options.items():
            argv += ["-o", f"{name}={value}"]
        return [*argv, "root@127.0.0.1"]

    def open(self, timeout: float = CONNECT_TIMEOUT) -> None:
        """Open the shared connection unless it is open. Raises `ConnectionLost` after `timeout` seconds of trying."""
        with self._opening:
            if self._is_open():
                return
            deadline = time.monotonic() + timeout
            self._log.write_text("")
            while True:
                (self.directory / self._socket).unlink(missing_ok=True)
                argv = self.base_argv()
                argv[1:1] = ["-M", "-N", "-o", "ControlPersist=no"]
                master = spawn(argv, self._log, self._pid, tied=self._tied, cwd=self.directory)
                while master.alive and time.monotonic() < deadline:
                    if (self.directory / self._socket).exists():
                        return
                    time.sleep(0.01)
                master.kill()
                if time.monotonic() > deadline:
                    raise ConnectionLost(
                        f"no ssh connection to the guest at 127.0.0.1:{self.port} within {timeout:.0f} s. ssh said:\n"
                        f"{tail(self._log, 5)}\nLook at console.log in {self.directory}."
                    )
                time.sleep(0.2)

    def _is_open(self) -> bool:
        return recorded(self._pid) is not None and (self.directory / self._socket).exists()

    def close(self) -> None:
        """Close the shared connection; commands that use it end with `ConnectionLost`."""
        if master := recorded(self._pid):
            master.end(grace=2)
        self._pid.unlink(missing_ok=True)
        (self.directory / self._socket).unlink(missing_ok=True)

    def _command(self, argv: Sequence[str], env: Mapping[str, str] | None, cwd: str | None) -> list[str]:
        words = [*(["env", "-C", cwd] if cwd else ["env"] if env else [])]
        words += [f"{name}={value}" for name, value in (env or {}).items()]
        # ssh sends one string, which the guest's shell splits again.
        return [*self.base_argv(), "exec " + shlex.join([*words, *argv])]

    def raw(
        self,
        argv: Sequence[str],
        *,
        input: bytes | None = None,  # the name subprocess.run uses
        timeout: float = COMMAND_TIMEOUT,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command in the guest with bytes in and out; the rest as in `run`."""
        self.open()
        said = shlex.join(argv)
        try:
            done = subprocess.run(
                self._command(argv, env, cwd),
                cwd=self.directory,
                input=input or b"",
                capture_output=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            heard = _words(*((part or b"").decode(errors="replace") for part in (error.stdout, error.stderr)))
            raise LabError(
                f"in the guest, {said} did not end within {timeout:.0f} s (it may run on).\n{heard}"
            ) from error
        stdout, stderr = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        if done.returncode == _TRANSPORT_FAILED:
            raise ConnectionLost(f"the connection to the guest was lost during {said}.\n{_words('', stderr)}")
        if check and done.returncode != 0:
            raise CommandFailed(
                f"in the guest, {said} failed with exit code {done.returncode}.\n{_words(stdout, stderr)}",
                done.returncode,
                stdout,
                stderr,
            )
        return done

    def run(
        self,
        *argv: str,
        input: str | None = None,  # the name subprocess.run uses
        timeout: float = COMMAND_TIMEOUT,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the guest as root, with text in and out; `timeout` in seconds.

        Raises `CommandFailed` with both outputs when it fails and `check` is true, `ConnectionLost` when the guest goes
        away, and `LabError` when time is up; the command may then go on in the guest.
        """
        data = None if input is None else input.encode()
        done = self.raw(argv, input=data, timeout=timeout, check=check, env=env, cwd=cwd)
        stdout, stderr = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        return subprocess.CompletedProcess(list(argv), done.returncode, stdout, stderr)

    def stream(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        out: IO[str] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
    ) -> int:
        """Run a command with its output (both kinds) written to `out` (stdout when None) as it comes.

        Returns its exit code. Raises like `run` for a lost connection and when `timeout` seconds are over.
        """
        self.open()
        sink = out if out is not None else sys.stdout
        with subprocess.Popen(
            self._command(argv, env, cwd),
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as child:
            late = threading.Event()

            def expire() -> None:
                late.set()
                child.kill()

            clock = threading.Timer(timeout, expire)
            clock.start()
            try:
                assert child.stdout is not None
                for line in child.stdout:
                    sink.write(line)
                    sink.flush()
                code = child.wait()
            finally:
                clock.cancel()
                child.kill()
        if late.is_set():
            raise LabError(f"in the guest, {shlex.join(argv)} did not end within {timeout:.0f} s (it may run on)")
        if code == _TRANSPORT_FAILED:
            raise ConnectionLost(f"the connection to the guest was lost during {shlex.join(argv)}")
        return code

    def dialogue(
        self, argv: Sequence[str], prompt: str, answer: Callable[[], str], timeout: float = COMMAND_TIMEOUT
    ) -> str:
        """Run a command, wait for the line `prompt`, send the line that `answer()` makes only then, return the rest.

        Raises `LabError` when the prompt does not come or the command fails.
        """
        self.open()
        with subprocess.Popen(
            self._command(argv, None, None),
            cwd=self.directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as child:
            assert child.stdout is not None
            try:
                ready, _, _ = select.select([child.stdout], [], [], timeout)
                line = child.stdout.readline().decode().strip() if ready else ""
                data = f"{answer()}\n".encode() if line == prompt else b""
                stdout, stderr = child.communicate(data, timeout=timeout)
            except subprocess.TimeoutExpired as error:
                raise LabError(f"in the guest, {shlex.join(argv)} did not end within {timeout:.0f} s") from error
            finally:
                child.kill()
        if not data or child.returncode != 0:
            raise LabError(
                f"in the guest, {shlex.join(argv)} failed with exit code {child.returncode}.\n"
                f"{_words(line + stdout.decode(errors='replace'), stderr.decode(errors='replace'))}"
            )
        return stdout.decode()

    def copy_in(self, source: Path, target: str, timeout: float = COMMAND_TIMEOUT) -> None:
        """Copy a file or a folder to the path `target`, whose parents are made; what is in a folder there stays."""
        folder, name = os.path.split(target.rstrip("/"))
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            archive.add(source, arcname=name, filter=_as_root)
        self.unpack(packed.getvalue(), folder or "/", timeout)

    def unpack(self, archive: bytes, folder: str, timeout: float = COMMAND_TIMEOUT) -> None:
        """Unpack a tar archive in the guest's folder, which is made when missing."""
        script = 'mkdir -p "$1" && exec tar -x --no-same-owner -C "$1"'
        self.raw(["sh", "-c", script, "unpack", folder], input=archive, timeout=timeout)

    def copy_out(self, source: str, target: Path, timeout: float = COMMAND_TIMEOUT) -> None:
        """Copy a guest's file or folder to the path `target` here, which must not exist."""
        if target.exists():
            raise LabError(f"{target} exists already; name a new path")
        folder, name = os.path.split(source.rstrip("/"))
        packed = self.raw(["tar", "-c", "-C", folder or "/", name], timeout=timeout).stdout
        target.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            for member in archive:
                member.name = str(Path(target.name) / Path(member.name).relative_to(name))
                archive.extract(member, target.parent, filter="data")


def _as_root(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if "__pycache__" in Path(member.name).parts:
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def _words(stdout: str, stderr: str) -> str:
    parts = [f"{name}: {text.strip()}" for name, text in (("stdout", stdout), ("stderr", stderr)) if text.strip()]
    return "\n".join(parts) or "It said nothing."
