"""Who may make a transaction, as far as the operator can tell."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dsg.api.access import CERTAIN_AFTER, refusal, seconds_until_certain
from dsg.api.load import parse_object
from dsg.api.repository import Repository
from dsg.api.synctransaction import SyncTransaction
from tests.reconcile.specs import repository
from tests.reconcile.test_transactions import FIRST, transaction

SINCE = datetime(2026, 1, 1, tzinfo=UTC)
LATER = SINCE + CERTAIN_AFTER
PEOPLE = {"users": ["ana"], "groups": ["researchers"]}


def refused(
    access: dict[str, Any] | None, author: str, opened: datetime = LATER, operation: str = "Init"
) -> str | None:
    raw = repository()
    if access is not None:
        raw["spec"]["access"] = access
    model = parse_object(raw)
    content = {"base": "s2", "restore": "s1"} if operation == "Restore" else {"content": FIRST}
    asked = parse_object(transaction("t", operation, author=author, **content))
    assert isinstance(model, Repository)
    assert isinstance(asked, SyncTransaction)
    return refusal(model.spec, SINCE, asked.spec.author, asked.spec.operation, opened)


@pytest.mark.parametrize(
    ("access", "author", "operation", "words"),
    [
        (None, "anybody", "Init", None),
        ({"writers": PEOPLE}, "ana", "Init", None),
        ({"writers": PEOPLE}, "member-of-a-group", "Init", None),
        ({"writers": {"users": ["ana"]}}, "bob", "Init", "not among the writers or admins"),
        ({"readers": PEOPLE}, "ana", "Init", "not among the writers or admins"),
        ({"writers": PEOPLE}, "ana", "Restore", "not among the admins"),
        ({"admins": PEOPLE}, "ana", "Restore", None),
        ({"admins": PEOPLE}, "ana", "Init", None),
        ({}, "ana", "Init", "not among the writers or admins"),
    ],
)
def test_who_may(access: dict[str, Any] | None, author: str, operation: str, words: str | None) -> None:
    found = refused(access, author, operation=operation)
    assert found is None if words is None else found is not None and words in found


def test_groups_do_not_count_where_nobody_can_have_checked_them() -> None:
    """Opened before its Repository was there: the policy let it through, and any name would pass for a member's."""
    for early in (SINCE - timedelta(days=1), SINCE, LATER - timedelta(seconds=1)):
        found = refused({"writers": PEOPLE}, "outsider", early)
        assert found is not None
        assert "could not be checked" in found
        assert refused({"writers": PEOPLE}, "ana", early) is None


def test_a_client_waits_where_that_makes_its_groups_count() -> None:
    raw = repository()
    raw["spec"]["access"] = {"writers": PEOPLE}
    model = parse_object(raw)
    assert isinstance(model, Repository)

    def left(author: str, seconds: float, operation: str = "Sync") -> float:
        return seconds_until_certain(model.spec, SINCE, author, operation, SINCE + timedelta(seconds=seconds))

    assert left("bob", 0) == CERTAIN_AFTER.seconds
    assert left("bob", 9.5) == 0.5
    assert left("bob", 10) == left("bob", 1e6) == 0
    assert left("bob", -3600) == CERTAIN_AFTER.seconds, "a clock that is behind is not waited for"
    assert left("ana", 0) == 0, "named, and known by name"
    assert left("bob", 0, "Restore") == 0, "no group may"
