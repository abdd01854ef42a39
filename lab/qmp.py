"""QEMU's own control channel: one JSON object a line on a unix socket ("QEMU Machine Protocol", QEMU documentation)."""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab.errors import LabError

_TIMEOUT = 30.0
_ENDED = "QEMU closed its control channel: it has ended, or ends now"


class Monitor:
    """An open channel to one QEMU; made by `monitor`."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._lines = channel.makefile("rb")
        self._events: list[dict[str, Any]] = []
        self._read()  # the greeting
        self.execute("qmp_capabilities")

    def _read(self) -> dict[str, Any]:
        try:
            line = self._lines.readline()
        except ConnectionError:
            line = b""
        if not line:
            raise LabError(_ENDED)
        message: dict[str, Any] = json.loads(line)
        return message

    def execute(self, command: str, descriptor: int | None = None, **arguments: object) -> Any:
        """Run one QMP command and return its answer; `descriptor` is passed along as an open file.

        Underscores in argument names stand for the dashes of QMP. Raises `LabError` with QEMU's words when it refuses,
        and when it has ended.
        """
        request = {"execute": command, "arguments": {k.replace("_", "-"): v for k, v in arguments.items()}}
        data = json.dumps(request).encode() + b"\n"
        try:
            if descriptor is None:
                self._channel.sendall(data)
            else:
                socket.send_fds(self._channel, [data], [descriptor])
        except ConnectionError as error:
            raise LabError(_ENDED) from error
        while True:
            message = self._read()
            if "event" in message:
                self._events.append(message)
            elif "error" in message:
                raise LabError(f"QEMU refused {command}: {message['error']['desc']}")
            elif "return" in message:
                return message["return"]

    def wait_event(self, name: str, timeout: float = _TIMEOUT) -> dict[str, Any]:
        """The next event `name`, waited for up to `timeout` seconds. Raises `LabError` when it does not come."""
        deadline = time.monotonic() + timeout
        while True:
            for event in self._events:
                if event["event"] == name:
                    self._events.remove(event)
                    return event
            left = deadline - time.monotonic()
            if left <= 0:
                raise LabError(f"QEMU did not report {name} within {timeout:.0f} s")
            self._channel.settimeout(left)
            try:
                message = self._read()
            except TimeoutError:
                continue
            finally:
                self._channel.settimeout(_TIMEOUT)
            if "event" in message:
                self._events.append(message)


@contextmanager
def monitor(path: Path, timeout: float = _TIMEOUT) -> Iterator[Monitor]:
    """Open the channel at `path`; waits up to `timeout` seconds for QEMU to listen there. One at a time per QEMU.

    Raises `LabError` when nobody listens.
    """
    deadline = time.monotonic() + timeout
    # A socket's address has at most 107 bytes (unix(7)), a test's directory may have more: go by its descriptor.
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(_TIMEOUT)
            while True:
                try:
                    channel.connect(f"/proc/self/fd/{folder}/{path.name}")
                    break
                except (FileNotFoundError, ConnectionRefusedError) as error:
                    if time.monotonic() > deadline:
                        raise LabError(f"no QEMU listens at {path}: {error}. Is the node running?") from error
                    time.sleep(0.02)
            yield Monitor(channel)
    finally:
        os.close(folder)
