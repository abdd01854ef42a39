"""Conditions: the registry is whole, transition times move only with the status, kstatus reads them rightly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsg.api.base import Condition
from dsg.api.reasons import BY_NAME, CONDITION_TYPES, REASONS, ConditionType, Readiness
from dsg.reconcile.conditions import State, build, check, readiness

READY_REASONS = [r.name for r in REASONS if r.readiness is not None]


def test_every_reason_is_named_once_and_says_what_it_means_and_what_to_do() -> None:
    assert len(BY_NAME) == len(REASONS)
    for entry in REASONS:
        assert entry.name.isalpha() and entry.name[0].isupper(), entry.name
        assert entry.meaning.endswith(".") and entry.action.endswith("."), entry.name
        assert set(entry.kinds) <= {"Repository", "StoragePool", "SyncTransaction"}


@given(st.sampled_from(READY_REASONS))
def test_ready_reconciling_and_stalled_agree_for_every_reason(name: str) -> None:
    kind = BY_NAME[name].kinds[0]
    others = [
        State(t, False, next(r.name for r in REASONS if kind in r.kinds), "")
        for t, (kinds, _) in CONDITION_TYPES.items()
        if kind in kinds and t not in {ConditionType.READY, ConditionType.RECONCILING, ConditionType.STALLED}
    ]
    assert check(kind, build([*readiness(name, "m"), *others], [], 1, "2026-01-01T00:00:00Z")) == []


def test_a_broken_set_of_conditions_is_found_out() -> None:
    both = [
        State(ConditionType.READY, False, "InvalidSpec", ""),
        State(ConditionType.RECONCILING, True, "NoSuchReason", ""),
        State(ConditionType.STALLED, True, "PoolOnline", ""),
    ]
    wrong = "\n".join(check("Repository", build(both, [], 1, "2026-01-01T00:00:00Z")))
    for words in ("no condition Drifted", "NoSuchReason", "PoolOnline, which is not for Repository", "kstatus"):
        assert words in wrong


@given(st.sampled_from(READY_REASONS), st.sampled_from(READY_REASONS))
def test_the_transition_time_moves_exactly_when_the_status_does(before: str, after: str) -> None:
    first = build(readiness(before, "m"), [], 1, "2026-01-01T00:00:00Z")
    raw = [c.model_dump(mode="json", by_alias=True) for c in first]
    second = build(readiness(after, "n"), raw, 2, "2026-02-02T00:00:00Z")
    for old, new in zip(first, second, strict=True):
        moved = old.status != new.status
        assert new.last_transition_time == ("2026-02-02T00:00:00Z" if moved else "2026-01-01T00:00:00Z")


def test_a_reason_of_another_condition_says_nothing_about_readiness() -> None:
    with pytest.raises(ValueError, match="InSync"):
        readiness("InSync", "")


def test_readiness_maps_to_kstatus() -> None:
    def shape(name: str) -> dict[str, str]:
        return {c.type: c.status for c in build(readiness(name, ""), [], 1, "2026-01-01T00:00:00Z")}

    by_readiness = {BY_NAME[n].readiness: shape(n) for n in READY_REASONS}
    assert by_readiness[Readiness.READY] == {"Ready": "True", "Reconciling": "False", "Stalled": "False"}
    assert by_readiness[Readiness.WORKING] == {"Ready": "Unknown", "Reconciling": "True", "Stalled": "False"}
    assert by_readiness[Readiness.STALLED] == {"Ready": "False", "Reconciling": "False", "Stalled": "True"}
    assert isinstance(build(readiness("Reconciled", ""), [], 1, "2026-01-01T00:00:00Z")[0], Condition)
