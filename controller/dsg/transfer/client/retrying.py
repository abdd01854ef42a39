"""When a request is made again: after a lost connection, or when the data plane asks for it; never after a refusal."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass

from dsg.transfer.client.errors import Stopped, TransferError, Unreachable


class Lost(Exception):
    """A request that may succeed when it is made again. Never leaves this package."""

    def __init__(self, problem: str, *, after: float | None = None, give_up: TransferError | None = None) -> None:
        """`after`: seconds after which the data plane asked to come again. `give_up`: what to raise in the end."""
        super().__init__(problem)
        self.problem = problem
        self.after = after
        self.give_up = give_up


@dataclass(frozen=True, slots=True)
class Persistence:
    """How hard a client tries."""

    tries: int = 5
    """Requests in a row that bring nothing, before it gives up."""
    pause: float = 0.5
    """Seconds before the second try; twice as many before each further one, and by chance up to a half less."""
    longest: float = 15.0
    """Seconds between two tries at most."""
    patience: float = 600.0
    """Seconds it waits in all for a data plane that is there and asks to come again later."""


class Patience:
    """What is left of a client's persistence, for one thing that it does."""

    def __init__(self, persistence: Persistence, stopped: threading.Event) -> None:
        self._persistence = persistence
        self._stopped = stopped
        self._waited = 0.0
        self.failed = 0
        """Tries in a row that brought nothing."""

    def moved(self) -> None:
        """Begin to count anew: something arrived."""
        self.failed = 0
        self._waited = 0.0

    def wait(self, lost: Lost, url: str) -> None:
        """Wait before the next try of what `url` was asked. Raises Unreachable when there is none left, and Stopped."""
        if lost.after is not None and self._waited < self._persistence.patience:
            pause = max(lost.after, self._persistence.pause) * random.uniform(1.0, 1.5)  # noqa: S311
            self._waited += pause
        else:
            self.failed += 1
            if self.failed >= self._persistence.tries:
                raise (lost.give_up or Unreachable(url, lost.problem, self.failed)) from lost
            pause = min(self._persistence.pause * 2 ** (self.failed - 1), self._persistence.longest)
            pause *= random.uniform(0.5, 1.0)  # noqa: S311
        if self._stopped.wait(pause):
            raise Stopped
