"""One line on stderr for each stage of something slow: what it is, how long it should take, how long it took."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


def say(text: str) -> None:
    """Print one line to stderr at once."""
    print(text, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Seconds as a person reads them: `0.4 s`, `12 s`, `6 min 20 s`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"


@contextmanager
def stage(text: str, expected: str = "") -> Iterator[None]:
    """Announce a stage, show the time that has passed, and say at the end how long it took and whether it failed.

    On a terminal the elapsed time is rewritten in place; elsewhere a line appears each minute.
    """
    begin = time.monotonic()
    head = f"{text}: {expected}" if expected else text
    terminal = sys.stderr.isatty()
    ended = threading.Event()
    say(f"{head} …") if not terminal else print(f"\r{head} …", end="", file=sys.stderr, flush=True)

    def tick() -> None:
        while not ended.wait(1 if terminal else 60):
            spent = duration(time.monotonic() - begin)
            if terminal:
                print(f"\r{head} … {spent} ", end="", file=sys.stderr, flush=True)
            else:
                say(f"{text} … {spent} so far")

    clock = threading.Thread(target=tick, daemon=True)
    clock.start()
    outcome = "failed after"
    try:
        yield
        outcome = "done in"
    finally:
        ended.set()
        clock.join()
        lead = "\r\033[K" if terminal else ""
        say(f"{lead}{text}: {outcome} {duration(time.monotonic() - begin)}")
