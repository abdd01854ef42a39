"""Who may make a transaction, as far as the operator can tell."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dsg.api.load import parse_object
from dsg.api.repository import Repository
from dsg.api.synctransaction import SyncTransaction
from dsg.reconcile.access import CERTAIN_AFTER, refusal
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
    return refusal(model.spec, SINCE, asked.spec, opened)


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
