"""How much one server does at once, and how long it waits."""

from __future__ import annotations

from dataclasses import dataclass

PIECE = 1 << 20
"""Bytes that are read, written or hashed in one go."""
SMALL = PIECE
"""Bytes up to which a content is held in memory until it is whole."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What `dsg-data-plane` may be told at its start."""

    idle: float = 30.0
    """Seconds in which `least` bytes must come or go, or the connection is closed."""
    least: int = 16 << 10
    """Bytes that a body must bring in `idle` seconds, unless it ends before."""
    handshake: float = 15.0
    """Seconds for a TLS handshake."""
    keep_alive: float = 60.0
    """Seconds that a connection may be open without a request."""
    linger: float = 5.0
    """Seconds in which the rest of a refused body is taken, so that its client reads the answer."""
    connections: int = 512
    """Connections at a time; others are closed at once."""
    in_flight: int = 16
    """Requests that move data at a time."""
    spare: int = 3
    """Threads beside each of these, for calls that hang."""
    per_author: int = 4
    """Of these, those of one author."""
    turn: int = 16 << 20
    """Bytes after which a request lets others go first."""
    heavy: int = 4
    """Requests at a time that read whole large files."""
    heavy_per_author: int = 2
    """Of these, those of one author."""
    patience: float = 120.0
    """Seconds that a request waits for its turn."""
    stall: float = 120.0
    """Seconds after which a call to the storage counts as hanging; ten times that where it may read a whole file."""
    look: float = 1.0
    """Seconds between two looks at the grants of what is under way."""
    grace: float = 10.0
    """Seconds for what is under way when the server is told to end."""

    @property
    def threads(self) -> int:
        """How many calls to the storage there can be at a time, those that hang included."""
        return self.in_flight * (1 + self.spare)
