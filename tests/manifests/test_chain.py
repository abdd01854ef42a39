"""A history is whole, or the version at which it is not is named."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsg.manifests.chain import ChainError, problems, verify
from dsg.manifests.digest import summarize
from dsg.manifests.header import Commit, Header
from tests.manifests.strategies import DIGESTS, file

TIME = datetime(2026, 1, 31, tzinfo=UTC)


def history(length: int, first: int = 1, message: str = "") -> list[Header]:
    found: list[Header] = []
    for number in range(first, first + length):
        previous = found[-1].chain if found else None
        commit = Commit(f"s{number}", previous, "ana", TIME, message, f"t{number}")
        found.append(Header(commit, summarize([file("a", size=number)])))
    return found


def told(headers: list[Header], first: str = "s1", head: str | None = None) -> list[tuple[str, str]]:
    return [(p.version, p.problem) for p in problems(headers, first=first, head=head)]


def test_a_whole_history_is_whole() -> None:
    headers = history(5)
    verify(headers, head=headers[-1].chain)
    verify(history(3, first=41), first="s41")


@given(st.integers(1, 6), st.data())
def test_no_header_can_change_without_being_noticed(length: int, data: st.DataObject) -> None:
    headers = history(length)
    head = headers[-1].chain
    at = data.draw(st.integers(0, length - 1))
    changed = data.draw(
        st.sampled_from(
            [
                replace(headers[at], commit=replace(headers[at].commit, message="another")),
                replace(headers[at], commit=replace(headers[at].commit, author="eve")),
                replace(headers[at], summary=replace(headers[at].summary, digest=DIGESTS[0])),
                replace(headers[at], summary=replace(headers[at].summary, tree=DIGESTS[0])),
                replace(headers[at], summary=replace(headers[at].summary, size=99)),
            ]
        )
    )
    headers[at] = changed
    (problem,) = told(headers, head=head)
    # It shows where the next version, or the trusted head, names the true digest.
    assert problem[0] == headers[min(at + 1, length - 1)].version


@given(st.integers(2, 6), st.data())
def test_no_header_can_be_left_out_doubled_or_moved(length: int, data: st.DataObject) -> None:
    headers = history(length)
    head = headers[-1].chain
    at = data.draw(st.integers(0, length - 1))
    for wrong in (headers[:at] + headers[at + 1 :], [*headers[: at + 1], *headers[at:]]):
        with pytest.raises(ChainError):
            verify(wrong, head=head)
    shuffled = data.draw(st.permutations(headers).filter(lambda found: found != headers))
    with pytest.raises(ChainError):
        verify(shuffled, head=head)


def test_what_is_wrong_is_told_at_its_version() -> None:
    headers = history(6)
    other = history(6, message="forged")
    assert told([]) == [("s1", "is missing, and so are all others")]
    assert told(headers[1:]) == [("s1", "is missing: the history begins with s2")]
    assert told([*headers[:2], headers[3]]) == [("s4", "follows s2; missing: s3")]
    assert told([*headers[:2], headers[5]]) == [("s6", "follows s2; missing: s3 to s5")]
    assert told([headers[0], headers[0]]) == [("s1", "comes after s1")]
    assert told(headers[:3], head=headers[5].chain) == [
        ("s3", f"should be the head with chain digest {headers[5].chain}, but has {headers[2].chain}")
    ]
    assert told([*headers[:2], other[2]]) == [
        ("s3", f"follows a s2 of chain digest {other[1].chain}, but s2 has {headers[1].chain}")
    ]
    begins = history(1, first=3)
    assert told([*headers[:2], *begins]) == [("s3", "says that nothing came before, but s2 did")]
    assert told(headers[3:], first="s4") == [
        ("s4", f"should begin the history, but follows a version of chain digest {headers[2].chain}")
    ]


def test_all_problems_are_told_and_the_first_is_raised() -> None:
    headers = history(6)
    wrong = [headers[0], headers[2], headers[5]]
    assert [version for version, _ in told(wrong)] == ["s3", "s6"]
    with pytest.raises(ChainError, match=r"version s3: follows s1; missing: s2\. The history was altered"):
        verify(wrong)


def test_a_history_replaced_as_a_whole_is_told_by_the_trusted_head_alone() -> None:
    true, forged = history(3), history(3, message="forged")
    verify(forged)
    with pytest.raises(ChainError, match="should be the head"):
        verify(forged, head=true[-1].chain)
