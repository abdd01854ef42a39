"""Whether the operator is alive and ready, judged by when things last happened.

A process that answers HTTP while its watch has gone silent is the commonest way for an operator to be dead without
anybody knowing. So liveness is tied to the age of the last bytes on every watch stream, and of the last resync.
`Heartbeats` records, `liveness` and `readiness` judge; nothing here does I/O or reads a wall clock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Limits:
    """Ages in seconds beyond which something counts as dead."""

    watch: float = 180.0
    """Silence of a watch stream. kube-apiserver sends a bookmark about once a minute, so this is three missed ones."""
    unreachable: float = 900.0
    """Silence of a watch that keeps trying to connect. Longer, because a restart doesn't bring an API server back."""
    resync: float = 1800.0
    """Time since the last pass over all objects ended."""
    api: float = 30.0
    """How long requests to the API server may fail before the operator stops being ready."""
    lease: float | None = None
    """Time since this node's Lease was last renewed, before the operator stops being ready; None: there is no Lease."""


@dataclass(frozen=True, slots=True)
class WatchBeat:
    """Times of one watch; None is never."""

    since: float
    """When somebody began to count on it."""
    attempted: float | None = None
    """When a request for it was last begun."""
    heard: float | None = None
    """When the stream last opened or brought bytes."""


@dataclass(frozen=True, slots=True)
class Beats:
    """Everything that was recorded, at one moment. Times are seconds of the same monotonic clock as `now`."""

    now: float
    started: float
    watches: Mapping[str, WatchBeat] = field(default_factory=dict)
    resync: float | None = None
    """When a pass over all objects last ended, complete or not."""
    resync_complete: bool = False
    """Whether one ever ended complete."""
    lease: float | None = None
    """When the Lease was last renewed."""
    api_failing_since: float | None = None
    """When the first of the requests failed that have been failing without an answer in between."""
    api_failure: str = ""
    clock_offset: float | None = None
    """How far this node's clock is before the API server's (seconds); None before the first answer."""

    def watch_age(self, resource: str) -> float:
        """Seconds since a watch last brought bytes, or since it was first expected."""
        watch = self.watches[resource]
        return self.now - (watch.since if watch.heard is None else watch.heard)

    def resync_age(self) -> float:
        """Seconds since the last resync ended, or since the start."""
        return self.now - (self.started if self.resync is None else self.resync)

    def lease_age(self) -> float:
        """Seconds since the Lease was renewed, or since the start."""
        return self.now - (self.started if self.lease is None else self.lease)


class Heartbeats:
    """Records signs of life; from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start counting; `clock` returns seconds and never goes back."""
        self._clock = clock
        self._lock = threading.Lock()
        self._started = clock()
        self._watches: dict[str, WatchBeat] = {}
        self._resync: float | None = None
        self._resync_complete = False
        self._lease: float | None = None
        self._api_failing_since: float | None = None
        self._api_failure = ""
        self._clock_offset: float | None = None

    def expect(self, resource: str) -> None:
        """Count on a watch of a resource, named `plural.group`, from now on: one that never begins is dead too."""
        with self._lock:
            self._watches.setdefault(resource, WatchBeat(since=self._clock()))

    def expected(self, resource: str) -> bool:
        """Whether a watch of that resource is being counted on."""
        with self._lock:
            return resource in self._watches

    def forget(self, resource: str) -> None:
        """Stop counting on a watch that ended on purpose."""
        with self._lock:
            self._watches.pop(resource, None)

    def watch_attempted(self, resource: str) -> None:
        """Record that a request for a watch, or for the listing before it, was begun."""
        with self._lock:
            now = self._clock()
            old = self._watches.get(resource, WatchBeat(since=now))
            self._watches[resource] = WatchBeat(since=old.since, attempted=now, heard=old.heard)

    def watch_heard(self, resource: str) -> None:
        """Record that a watch stream opened, or that bytes came on it."""
        with self._lock:
            now = self._clock()
            old = self._watches.get(resource, WatchBeat(since=now))
            self._watches[resource] = WatchBeat(since=old.since, attempted=old.attempted, heard=now)

    def resync_finished(self, *, complete: bool = True) -> None:
        """Record that a pass over all objects ended. `complete`: every object was looked at, however it went."""
        with self._lock:
            self._resync = self._clock()
            self._resync_complete = self._resync_complete or complete

    def lease_renewed(self) -> None:
        """Record that this node's Lease was renewed."""
        with self._lock:
            self._lease = self._clock()

    def api_answered(self) -> None:
        """Record that the API server answered a request, with whatever status below 500."""
        with self._lock:
            self._api_failing_since = None
            self._api_failure = ""

    def clock_compared(self, offset: float) -> None:
        """Record how far this node's clock is before the API server's, in seconds."""
        with self._lock:
            self._clock_offset = offset

    def api_failed(self, why: str) -> None:
        """Record that a request to the API server got no answer, or an answer that it can't serve."""
        with self._lock:
            if self._api_failing_since is None:
                self._api_failing_since = self._clock()
            self._api_failure = why

    def beats(self) -> Beats:
        """Return what was recorded so far."""
        with self._lock:
            return Beats(
                now=self._clock(),
                started=self._started,
                watches=dict(self._watches),
                resync=self._resync,
                resync_complete=self._resync_complete,
                lease=self._lease,
                api_failing_since=self._api_failing_since,
                api_failure=self._api_failure,
                clock_offset=self._clock_offset,
            )


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to a probe."""

    problems: tuple[str, ...]
    """Why not; empty when all is well."""
    body: Mapping[str, object]
    """The same for machines, with the ages in seconds that led to it; JSON."""

    @property
    def ok(self) -> bool:
        """Whether the probe succeeds."""
        return not self.problems


def liveness(beats: Beats, limits: Limits) -> Verdict:
    """Judge whether a restart of the process is called for."""
    problems = [*_silent_watches(beats, limits), *_overdue_resync(beats, limits)]
    return _verdict("alive", problems, beats)


def readiness(beats: Beats, limits: Limits) -> Verdict:
    """Judge whether the operator does its work: it is alive, has looked at everything once, and reaches the API."""
    problems = [*_silent_watches(beats, limits), *_overdue_resync(beats, limits)]
    if not beats.resync_complete:
        problems.append("the first pass over all objects has not ended yet")
    if beats.api_failing_since is not None:
        failing = beats.now - beats.api_failing_since
        if failing > limits.api:
            problems.append(
                f"the Kubernetes API has been unreachable for {failing:.0f} s (limit {limits.api:.0f} s): "
                f"{beats.api_failure}"
            )
    for resource in beats.watches:
        age = beats.watch_age(resource)
        if age > limits.watch and not _silent(beats, limits, resource):
            problems.append(f"the watch of {resource} has been trying to connect for {age:.0f} s")
    if limits.lease is not None and beats.lease_age() > limits.lease:
        problems.append(f"this node's Lease was not renewed for {beats.lease_age():.0f} s (limit {limits.lease:.0f} s)")
    return _verdict("ready", problems, beats)


def _silent(beats: Beats, limits: Limits, resource: str) -> bool:
    age = beats.watch_age(resource)
    if age <= limits.watch:
        return False
    watch = beats.watches[resource]
    trying = watch.attempted is not None and beats.now - watch.attempted <= limits.watch
    return not (trying and age <= limits.unreachable)


def _silent_watches(beats: Beats, limits: Limits) -> list[str]:
    problems = []
    for resource, watch in sorted(beats.watches.items()):
        if not _silent(beats, limits, resource):
            continue
        age = beats.watch_age(resource)
        if watch.attempted is None and watch.heard is None:
            problems.append(f"the watch of {resource} never began, {age:.0f} s after it was due")
        elif watch.attempted is not None and beats.now - watch.attempted <= limits.watch:
            problems.append(
                f"the watch of {resource} keeps trying to connect for {age:.0f} s (limit {limits.unreachable:.0f} s)"
            )
        else:
            problems.append(f"the watch of {resource} has been silent for {age:.0f} s (limit {limits.watch:.0f} s)")
    return problems


def _overdue_resync(beats: Beats, limits: Limits) -> list[str]:
    age = beats.resync_age()
    if age <= limits.resync:
        return []
    if beats.resync is None:
        return [f"no pass over all objects has ended in the {age:.0f} s since the start (limit {limits.resync:.0f} s)"]
    return [f"the last pass over all objects ended {age:.0f} s ago (limit {limits.resync:.0f} s)"]


def _verdict(word: str, problems: list[str], beats: Beats) -> Verdict:
    body: dict[str, object] = {
        word: not problems,
        "problems": problems,
        "watches": {
            resource: {
                "ageSeconds": round(beats.watch_age(resource), 1),
                "attemptAgeSeconds": None if watch.attempted is None else round(beats.now - watch.attempted, 1),
            }
            for resource, watch in sorted(beats.watches.items())
        },
        "resyncAgeSeconds": None if beats.resync is None else round(beats.resync_age(), 1),
        "leaseAgeSeconds": None if beats.lease is None else round(beats.lease_age(), 1),
        "apiFailingSeconds": (
            None if beats.api_failing_since is None else round(beats.now - beats.api_failing_since, 1)
        ),
    }
    return Verdict(tuple(problems), body)
