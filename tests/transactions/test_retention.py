"""Which versions are kept: examples by rule, and laws that hold for any history."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsg.api.repository import Retention
from dsg.transactions.retention import Plan, Reason, Version, keep

START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 12, 31, 23, 59, tzinfo=UTC)


def policy(**rules: Any) -> Retention:
    return Retention.model_validate({"keepLast": 1, **rules})


def line(*times: str) -> list[Version]:
    """Return s1, s2, … made at the given times of 2026 (UTC), such as `03-01T12:00`; a whole date may be given."""
    whole = [time if time.count("-") == 2 else f"2026-{time}" for time in times]
    return [Version(f"s{number}", datetime.fromisoformat(f"{time}+00:00")) for number, time in enumerate(whole, 1)]


def kept(versions: Sequence[Version], rules: Retention | None, **given: Any) -> Plan:
    return keep(versions, rules, **{"now": NOW, "head": f"s{len(versions)}", "in_use": (), **given})


# ---- examples

HOURS = line("03-01T10:05", "03-01T10:55", "03-01T11:10", "03-01T13:00", "03-01T13:59")
DAYS = line("03-01T10:00", "03-01T23:59", "03-02T00:00", "03-09T12:00", "03-09T13:00")
YEARS = line("2022-05-05T00:00", "2023-12-31T23:59", "2024-01-01T00:00", "2026-03-01T00:00", "2026-03-02T00:00")
WEEKS = line("2025-12-28T12:00", "2025-12-29T12:00", "2026-01-04T12:00", "2026-01-05T12:00", "2026-01-06T12:00")
MONTHS = line("01-31T23:59", "02-01T00:00", "02-28T10:00", "04-01T00:00", "04-02T00:00")

EXAMPLES: dict[str, tuple[list[Version], dict[str, Any], list[str]]] = {
    "the newest alone": (DAYS, {}, ["s5"]),
    "the newest three": (DAYS, {"keepLast": 3}, ["s3", "s4", "s5"]),
    "more than there are": (DAYS, {"keepLast": 9}, ["s1", "s2", "s3", "s4", "s5"]),
    "each hour's last": (HOURS, {"hourly": 9}, ["s2", "s3", "s5"]),
    "two hours that have versions, not two hours of the clock": (HOURS, {"hourly": 2}, ["s3", "s5"]),
    "each day's last, days ending at midnight UTC": (DAYS, {"daily": 9}, ["s2", "s3", "s5"]),
    "two days": (DAYS, {"daily": 2}, ["s3", "s5"]),
    "weeks begin on Monday and may span years": (WEEKS, {"weekly": 9}, ["s1", "s3", "s5"]),
    "each month's last": (MONTHS, {"monthly": 9}, ["s1", "s3", "s5"]),
    "two months": (MONTHS, {"monthly": 2}, ["s3", "s5"]),
    "each year's last": (YEARS, {"yearly": 9}, ["s1", "s2", "s3", "s5"]),
    "a rest of a year takes no turn": (YEARS, {"yearly": 2}, ["s3", "s5"]),
    "named ones": (DAYS, {"named": ["s1", "s99"]}, ["s1", "s5"]),
    "all under legal hold": (DAYS, {"legalHold": True}, ["s1", "s2", "s3", "s4", "s5"]),
    "rules add up": (DAYS, {"keepLast": 2, "daily": 2, "named": ["s1"]}, ["s1", "s3", "s4", "s5"]),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples(name: str) -> None:
    versions, rules, expected = EXAMPLES[name]
    plan = kept(versions, policy(**rules))
    assert list(plan.kept) == expected
    assert plan.pruned == tuple(version.name for version in versions if version.name not in expected)


def test_every_reason_is_given() -> None:
    plan = kept(DAYS, policy(keepLast=2, daily=2, named=["s5"]), in_use=["s4", "s3"])
    assert plan.kept == {
        "s3": (Reason.IN_USE, Reason.DAILY),
        "s4": (Reason.IN_USE, Reason.LAST),
        "s5": (Reason.HEAD, Reason.NAMED, Reason.LAST, Reason.DAILY),
    }


def test_without_a_policy_everything_is_kept() -> None:
    plan = kept(DAYS, None)
    assert plan.pruned == ()
    assert plan.kept["s1"] == (Reason.NO_POLICY,)


def test_periods_are_those_of_utc_wherever_times_come_from() -> None:
    east = timezone(timedelta(hours=14))
    moved = [Version(version.name, version.time.astimezone(east)) for version in DAYS]
    assert kept(moved, policy(daily=9)) == kept(DAYS, policy(daily=9))


def test_versions_are_ordered_by_number_and_not_by_name() -> None:
    times = [f"03-{day:02}T12:00" for day in range(1, 13)]
    assert list(kept(line(*times), policy(keepLast=3)).kept) == ["s10", "s11", "s12"]


# ---- clocks

CLOCKS: dict[str, tuple[list[Version], list[str], list[str]]] = {
    "jumped back to 1970 for good": (
        line("03-01T12:00", "03-02T12:00", "1970-01-01T00:01", "1970-01-01T00:02", "1970-01-01T00:03"),
        ["s2", "s3", "s4", "s5"],
        ["s1"],
    ),
    "jumped back and came back": (
        line("03-01T12:00", "03-02T12:00", "1970-01-01T00:01", "03-03T12:00", "03-04T12:00"),
        ["s2", "s3", "s5"],
        ["s1", "s4"],
    ),
    "was ahead once": (
        line("03-01T12:00", "2099-01-01T00:00", "03-02T12:00", "03-03T12:00", "03-04T12:00"),
        ["s2", "s5"],
        ["s1", "s3", "s4"],
    ),
    "stood still": (line(*["03-01T12:00"] * 5), ["s5"], ["s1", "s2", "s3", "s4"]),
}


@pytest.mark.parametrize("name", CLOCKS)
def test_what_was_made_by_a_wrong_clock_is_kept(name: str) -> None:
    versions, expected, pruned = CLOCKS[name]
    plan = kept(versions, policy(daily=1))
    assert list(plan.kept) == expected
    assert list(plan.pruned) == pruned


def test_nothing_later_than_now_is_pruned() -> None:
    plan = kept(DAYS, policy(), now=datetime(1970, 1, 1, tzinfo=UTC))
    assert plan.pruned == ()
    assert plan.kept["s1"] == (Reason.CLOCK,)


def test_a_version_of_the_future_takes_no_turn_from_true_ones() -> None:
    versions = line("2025-06-01T00:00", "03-01T00:00", "2099-01-01T00:00", "03-02T00:00")
    assert list(kept(versions, policy(yearly=2)).kept) == ["s1", "s3", "s4"]


# ---- lists that can't be whole


@pytest.mark.parametrize(
    ("versions", "head", "word"),
    [
        ([], "s1", "none"),
        (DAYS[:-1], "s5", "the head is s5"),
        (DAYS, "s4", "s5"),
        ([*DAYS, DAYS[0]], "s5", "s1 is listed twice"),
    ],
    ids=["empty", "without the head", "after the head", "twice"],
)
def test_nothing_is_pruned_by_a_list_that_contradicts_the_head(versions: list[Version], head: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        keep(versions, policy(), now=NOW, head=head, in_use=())


def test_times_need_zones_and_versions_their_names() -> None:
    with pytest.raises(ValueError, match="time zone"):
        Version("s1", NOW.replace(tzinfo=None))
    with pytest.raises(ValueError, match="time zone"):
        kept(DAYS, policy(), now=NOW.replace(tzinfo=None))
    with pytest.raises(ValueError, match="v1"):
        Version("v1", NOW)


# ---- laws

MINUTES = 60 * 24 * 400
histories = st.lists(
    st.one_of(st.integers(0, MINUTES), st.integers(0, 120), st.integers(-20_000_000, 40_000_000)),
    min_size=1,
    max_size=25,
).flatmap(lambda times: st.sampled_from([times, sorted(times)]))
counts = st.integers(0, 5)


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Version], dict[str, Any], dict[str, Any]]:
    """Return versions (mostly in order of time), a policy's rules, and what else a plan depends on."""
    minutes = draw(histories)
    numbers = sorted(draw(st.sets(st.integers(1, 60), min_size=len(minutes), max_size=len(minutes))))
    versions = [
        Version(f"s{number}", START + timedelta(minutes=minute))
        for number, minute in zip(numbers, minutes, strict=True)
    ]
    names = st.sampled_from([version.name for version in versions])
    rules = {
        "keepLast": draw(st.integers(1, 5)),
        **{key: draw(counts) for key in ("hourly", "daily", "weekly", "monthly", "yearly")},
        "named": draw(st.lists(names, unique=True, max_size=3)),
        "legalHold": draw(st.sampled_from([False, False, False, True])),
    }
    rest = {
        "now": START + timedelta(minutes=draw(st.sampled_from([MINUTES, *minutes]))),
        "head": versions[-1].name,
        "in_use": draw(st.frozensets(names, max_size=3)),
    }
    return versions, rules, rest


@given(cases())
def test_each_version_is_either_kept_or_pruned(case: tuple[list[Version], dict[str, Any], dict[str, Any]]) -> None:
    versions, rules, rest = case
    plan = keep(versions, policy(**rules), **rest)
    assert sorted([*plan.kept, *plan.pruned]) == sorted(version.name for version in versions)
    assert all(plan.kept.values())
    order = [version.name for version in versions]
    assert list(plan.kept) == sorted(plan.kept, key=order.index)
    assert list(plan.pruned) == sorted(plan.pruned, key=order.index)


@given(cases())
def test_pruning_again_prunes_nothing_more(case: tuple[list[Version], dict[str, Any], dict[str, Any]]) -> None:
    versions, rules, rest = case
    once = keep(versions, policy(**rules), **rest)
    left = [version for version in versions if version.name in once.kept]
    again = keep(left, policy(**rules), **rest)
    assert again == Plan(again.kept, ())


@given(cases())
def test_an_interrupted_prune_is_continued_to_the_same_end(
    case: tuple[list[Version], dict[str, Any], dict[str, Any]],
) -> None:
    versions, rules, rest = case
    plan = keep(versions, policy(**rules), **rest)
    gone = set(plan.pruned[: len(plan.pruned) // 2])
    left = [version for version in versions if version.name not in gone]
    assert keep(left, policy(**rules), **rest).kept.keys() == plan.kept.keys()


@given(cases(), st.data())
def test_a_wider_policy_keeps_no_less(
    case: tuple[list[Version], dict[str, Any], dict[str, Any]], data: st.DataObject
) -> None:
    versions, rules, rest = case
    wider = {
        key: value + data.draw(counts, key) if isinstance(value, int) and not isinstance(value, bool) else value
        for key, value in rules.items()
    }
    wider["named"] = [*rules["named"], *({versions[0].name} - set(rules["named"]))]
    narrow, wide = keep(versions, policy(**rules), **rest), keep(versions, policy(**wider), **rest)
    assert narrow.kept.keys() <= wide.kept.keys()


@given(cases())
def test_head_bases_in_use_and_named_versions_are_kept(
    case: tuple[list[Version], dict[str, Any], dict[str, Any]],
) -> None:
    versions, rules, rest = case
    plan = keep(versions, policy(**rules), **rest)
    assert {rest["head"], *rest["in_use"], *rules["named"]} <= plan.kept.keys()
    if rules["legalHold"]:
        assert plan.pruned == ()


@given(cases())
def test_nothing_made_after_now_is_pruned(case: tuple[list[Version], dict[str, Any], dict[str, Any]]) -> None:
    versions, rules, rest = case
    plan = keep(versions, policy(**rules), **rest)
    assert {version.name for version in versions if version.time > rest["now"]} <= plan.kept.keys()


@given(cases())
def test_a_pruned_version_is_older_than_a_kept_one_by_number_and_by_time(
    case: tuple[list[Version], dict[str, Any], dict[str, Any]],
) -> None:
    """Whatever the clocks did: nothing that says it is the newest is pruned."""
    versions, rules, rest = case
    plan = keep(versions, policy(**rules), **rest)
    for index, version in enumerate(versions):
        if version.name in plan.pruned:
            assert any(later.name in plan.kept for later in versions[index + 1 :])
            assert all(earlier.time <= version.time or earlier.time > rest["now"] for earlier in versions[:index])


@given(cases(), st.randoms(use_true_random=False))
def test_the_plan_does_not_depend_on_the_order_of_the_list(
    case: tuple[list[Version], dict[str, Any], dict[str, Any]], random: Any
) -> None:
    versions, rules, rest = case
    shuffled = list(versions)
    random.shuffle(shuffled)
    plan, other = keep(versions, policy(**rules), **rest), keep(shuffled, policy(**rules), **rest)
    assert (list(plan.kept.items()), plan.pruned) == (list(other.kept.items()), other.pruned)
