"""Log levels: their words, the same for every process of a node, and how they are changed while it runs."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType

LEVELS = ("debug", "info", "warning", "error", "critical")


def known(level: str) -> str:
    """Return a level in small letters. Raises ValueError for one that does not exist."""
    if level.lower() not in LEVELS:
        raise ValueError(f"log level {level!r} does not exist; use one of: {', '.join(LEVELS)}")
    return level.lower()


def switch_by_signal(level: str, apply: Callable[[str], None]) -> None:
    """Log at debug from SIGUSR1 on, and at `level` again from SIGUSR2 on. Call it in the main thread.

    `apply` is given the new level.
    """

    def switch(number: int, _frame: FrameType | None) -> None:
        apply("debug" if number == signal.SIGUSR1 else level)

    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, switch)
