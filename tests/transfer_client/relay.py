"""A relay of bytes between a client and a server, that fails when it is told to. It knows nothing of TLS."""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from types import TracebackType
from typing import Self


class Relay:
    """Listens on a port of its own and passes all on to a target that may come and go."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.refusing = False
        """Close new connections at once."""
        self.connections = 0
        """Connections so far."""
        self.rate = math.inf
        """Bytes a second in all."""
        self._cuts: list[tuple[str, int]] = []
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._guard = threading.Lock()
        self._pace = threading.Lock()
        self._all: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.close()
        self.cut()
        for sock in self._all:
            sock.close()

    def cut(self) -> None:
        """Cut all connections that there are."""
        with self._guard:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for sock in pair:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def cut_after(self, way: str, *counts: int) -> None:
        """Cut all connections when so many bytes have passed one `way`, "up" or "down"; then after the next count."""
        with self._guard:
            self._cuts = [(way, count) for count in counts]

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            if self.refusing:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            with self._guard:
                self._pairs.append((client, server))
                self._all += (client, server)
            for source, sink, way in ((client, server, "up"), (server, client, "down")):
                threading.Thread(target=self._pass_on, args=(source, sink, way), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, way: str) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 16):
                with self._pace:
                    time.sleep(len(piece) / self.rate)
                sink.sendall(piece)
                if self._due(way, len(piece)):
                    self.cut()
                    break
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        # Else what is sent to it would still be taken.
        source.close()

    def _due(self, way: str, passed: int) -> bool:
        with self._guard:
            if not self._cuts or self._cuts[0][0] != way:
                return False
            left = self._cuts[0][1] - passed
            if left > 0:
                self._cuts[0] = (way, left)
                return False
            self._cuts.pop(0)
            return True
