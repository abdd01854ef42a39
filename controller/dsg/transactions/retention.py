"""Which versions of a repository are kept and which may be pruned, as a pure function.

Versions are ordered by their numbers; clocks only say which hour, day, week, month or year one belongs to. Periods are
those of UTC, where no hour comes twice or is left out and a plan is the same on every node and in every season. Weeks
begin on Monday (ISO 8601). A period rule counts periods that have versions, so a repository that rests for a year
loses nothing by it.

Clocks go wrong, and a version whose time can't be right belongs to no period. Such a one is kept: a node that woke up
in 1970 would otherwise lose all it made there as if it were the oldest. These are versions later than now, and versions
earlier than one before them; that one is kept too, as the witness without which the next plan would decide otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import pairwise

from dsg.api.repository import Retention
from dsg.storage.layout import is_version


class Reason(StrEnum):
    """Why a version is kept."""

    HEAD = "head"
    """It is the current version."""
    IN_USE = "in use"
    """Somebody works from it: an open transaction, a reader, a replication."""
    NO_POLICY = "no policy"
    """The repository declares no retention, so that everything is kept."""
    LEGAL_HOLD = "legal hold"
    NAMED = "named"
    LAST = "last"
    HOURLY = "hourly"
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    YEARLY = "yearly"
    CLOCK = "clock"
    """Its time can't be right, or it is the witness for another whose time can't be."""


@dataclass(frozen=True, slots=True)
class Version:
    """A committed version and when it was made."""

    name: str
    time: datetime
    """With a time zone."""

    def __post_init__(self) -> None:
        if not is_version(self.name):
            raise ValueError(f"{self.name!r} is no version; versions are s1, s2, s3 and so on")
        if self.time.tzinfo is None:
            raise ValueError(f"the time of {self.name} has no time zone")

    @property
    def number(self) -> int:
        """Return its place in the chain of versions."""
        return int(self.name[1:])


@dataclass(frozen=True, slots=True)
class Plan:
    """What a prune keeps, with every reason for it, and what it destroys."""

    kept: Mapping[str, tuple[Reason, ...]]
    """By version, oldest first."""
    pruned: tuple[str, ...]
    """Oldest first, so that a prune that is interrupted has taken the oldest."""


def keep(
    versions: Sequence[Version],
    policy: Retention | None,
    *,
    now: datetime,
    head: str,
    in_use: Collection[str],
) -> Plan:
    """Return which versions are kept and which are pruned.

    `in_use` names the versions that must stay whatever the policy: bases of open transactions, versions that an
    unfinished transaction made (it is told from them that it was committed), sources of running sends.

    Raises ValueError where the versions can't be the whole list of a repository whose head is `head`: one that does not
    have the head, has a version after it, or has one twice. Nothing may be destroyed by such a list.
    """
    if now.tzinfo is None:
        raise ValueError("now has no time zone")
    line = sorted(versions, key=lambda version: version.number)
    _check_line(line, head)
    reasons: dict[str, list[Reason]] = {version.name: [] for version in line}

    def mark(reason: Reason, names: Iterable[str]) -> None:
        for name in names:
            if name in reasons:
                reasons[name].append(reason)

    mark(Reason.HEAD, [head])
    mark(Reason.IN_USE, set(in_use))
    doubtful, witnesses = _out_of_order(line, now)
    mark(Reason.CLOCK, doubtful | witnesses)
    if policy is None:
        mark(Reason.NO_POLICY, list(reasons))
    else:
        if policy.legal_hold:
            mark(Reason.LEGAL_HOLD, list(reasons))
        mark(Reason.NAMED, set(policy.named))
        mark(Reason.LAST, [version.name for version in line[-policy.keep_last :]])
        newest_first = [version for version in reversed(line) if version.name not in doubtful]
        for reason, count, period in _periods(policy):
            mark(reason, _last_of_each(newest_first, count, period))
    order = list(Reason)
    kept = {name: tuple(sorted(found, key=order.index)) for name, found in reasons.items() if found}
    return Plan(kept, tuple(name for name, found in reasons.items() if not found))


def _check_line(line: Sequence[Version], head: str) -> None:
    for one, other in pairwise(line):
        if one.number == other.number:
            raise ValueError(f"version {one.name} is listed twice; nothing may be pruned by such a list")
    if not line or line[-1].name != head:
        newest = line[-1].name if line else "none"
        raise ValueError(
            f"the newest version listed is {newest} and the head is {head}; nothing may be pruned by such a list. "
            "Read both again"
        )


def _out_of_order(line: Sequence[Version], now: datetime) -> tuple[set[str], set[str]]:
    """Return the versions whose time can't be right, and the earlier ones by which that is known."""
    doubtful, witnesses = set(), set()
    latest: Version | None = None
    for version in line:
        if version.time > now:
            doubtful.add(version.name)
        elif latest is not None and version.time < latest.time:
            doubtful.add(version.name)
            witnesses.add(latest.name)
        else:
            latest = version
    return doubtful, witnesses


Period = Callable[[datetime], tuple[int, ...]]


def _periods(policy: Retention) -> tuple[tuple[Reason, int, Period], ...]:
    return (
        (Reason.HOURLY, policy.hourly, lambda time: (time.year, time.month, time.day, time.hour)),
        (Reason.DAILY, policy.daily, lambda time: (time.year, time.month, time.day)),
        (Reason.WEEKLY, policy.weekly, lambda time: tuple(time.isocalendar()[:2])),
        (Reason.MONTHLY, policy.monthly, lambda time: (time.year, time.month)),
        (Reason.YEARLY, policy.yearly, lambda time: (time.year,)),
    )


def _last_of_each(newest_first: Iterable[Version], count: int, period: Period) -> list[str]:
    """Return the last version of each of the newest `count` periods that have one."""
    found: dict[tuple[int, ...], str] = {}
    for version in newest_first:
        key = period(version.time.astimezone(UTC))
        if key not in found:
            if len(found) == count:
                break
            found[key] = version.name
    return list(found.values())
