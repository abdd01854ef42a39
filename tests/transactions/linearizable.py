"""Whether what several clients were told of one head can have happened in some order, each call at one moment.

A search after Wing and Gong ("Testing and Verifying Concurrent Objects", 1993) with the memory of Lowe ("Testing
for linearizability", 2017): of the calls that no other call ended before, one takes effect next, if the register allows
what it answered; configurations that led nowhere are not tried again. Knows nothing of what the history was taken from.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

S = TypeVar("S", bound=Hashable)
C = TypeVar("C")

FOREVER = float("inf")
MOST_CONFIGURATIONS = 2_000_000


@dataclass(frozen=True, slots=True)
class Call(Generic[C]):
    """One call: what was asked and answered, and when it began and ended, in any unit."""

    what: C
    began: float
    ended: float = FOREVER
    """When it was answered; FOREVER where nobody was: it may have taken effect at any time since, or never."""

    def __post_init__(self) -> None:
        if not self.began <= self.ended:
            raise ValueError(f"{self.what!r} ended at {self.ended}, before it began at {self.began}")


class TooHardError(Exception):
    """A history with more configurations than are looked at: nothing is known of it."""


def order(history: Iterable[Call[C]], initial: S, step: Callable[[S, C], Iterable[S]]) -> Sequence[C] | None:
    """Return an order in which the calls can have taken effect; None when there is none.

    `step` yields the states that a call can lead to from a state, none where it can't have been answered so. Calls that
    nobody was answered may be left out. Raises TooHardError.
    """
    calls = sorted(history, key=lambda call: (call.began, call.ended))
    must = sum(1 << number for number, call in enumerate(calls) if call.ended != FOREVER)
    failed: set[tuple[int, S]] = set()
    path: list[C] = []

    def candidates(done: int) -> list[int]:
        first_end = min((c.ended for n, c in enumerate(calls) if not done >> n & 1), default=FOREVER)
        found = []
        for number, call in enumerate(calls):
            if call.began > first_end:
                break
            if not done >> number & 1:
                found.append(number)
        # What was answered is tried first: what was not is seldom needed.
        return sorted(found, key=lambda n: calls[n].ended)

    # A stack of its own: histories are longer than Python's calls are deep.
    stack: list[tuple[int, S, list[tuple[int, S]]]] = []

    def enter(done: int, state: S) -> bool:
        if done & must == must:
            return True
        following = [(n, after) for n in candidates(done) for after in step(state, calls[n].what)]
        stack.append((done, state, following[::-1]))
        return False

    if enter(0, initial):
        return []
    while stack:
        done, state, following = stack[-1]
        if not following:
            failed.add((done, state))
            if len(failed) > MOST_CONFIGURATIONS:
                raise TooHardError(f"more than {MOST_CONFIGURATIONS} configurations of {len(calls)} calls")
            stack.pop()
            if path:
                path.pop()
            continue
        number, after = following.pop()
        if (done | 1 << number, after) in failed:
            continue
        path.append(calls[number].what)
        if enter(done | 1 << number, after):
            return path
    return None


# ---- the head of a repository, as a register


@dataclass(frozen=True, slots=True)
class Head:
    """What a register holds: a version and the digest of its content."""

    version: int = 0
    content: str = ""


@dataclass(frozen=True, slots=True)
class Read:
    """Somebody saw the head."""

    head: Head


@dataclass(frozen=True, slots=True)
class Committed:
    """A commit made a version right after the one that it was put on top of."""

    onto: int
    head: Head


@dataclass(frozen=True, slots=True)
class Unchanged:
    """A commit was refused, or made nothing, because the head was at this version then."""

    version: int


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A commit of which nobody was told; `heads` are what it can have made."""

    heads: frozenset[Head]


HeadCall = Read | Committed | Unchanged | Unanswered


def head_step(state: Head, call: HeadCall) -> Iterable[Head]:
    """Yield what a call on the head leads to."""
    match call:
        case Read(head):
            return [state] if head == state else []
        case Committed(onto, head):
            return [head] if state.version == onto and head.version == onto + 1 else []
        case Unchanged(version):
            return [state] if state.version == version else []
        case Unanswered(heads):
            return [head for head in heads if head.version == state.version + 1]


def head_order(history: Iterable[Call[HeadCall]], initial: Head = Head()) -> Sequence[HeadCall] | None:
    """Return an order of calls on a head that explains a history; None when there is none. Raises TooHardError."""
    return order(history, initial, head_step)
