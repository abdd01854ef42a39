"""The table of states: complete, unambiguous, and what is shown and documented comes from it."""

from __future__ import annotations

import itertools
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from dsg.manifests.entries import Entry, Link
from dsg.sync.states import ROWS, TABLE, Action, Local, State, classify, find, pattern, reference
from dsg.transactions.merge import ClashState

from .ground import file, same, state

PAGE = Path(__file__).parents[2] / "docs/sync.md"

entries = st.one_of(
    st.none(),
    st.builds(file, st.just("a"), st.integers(0, 2), st.integers(0, 2), st.sampled_from([0o600, 0o644])),
    st.builds(Link, st.just("a"), st.sampled_from(["x", "y"]), st.just("ana"), st.just("s1")),
)


def canonical(one: Entry | Local | None, two: Entry | None, three: Entry | None) -> str:
    """The pattern, found in another way than the code does."""
    kinds: list[Entry | Local] = []
    text = ""
    for entry in (one, two, three):
        if entry is None:
            text += "-"
            continue
        at = next((n for n, kind in enumerate(kinds) if same(kind, entry)), len(kinds))
        if at == len(kinds):
            kinds.append(entry)
        text += "ABC"[at]
    return text


def every_pattern() -> set[str]:
    found = set()
    for marks in itertools.product("-012", repeat=3):
        names: dict[str, str] = {}
        found.add("".join(m if m == "-" else names.setdefault(m, "ABC"[len(names)]) for m in marks))
    return found


def test_there_is_exactly_one_row_for_each_combination_of_presence_and_equality() -> None:
    patterns = [row.pattern for row in TABLE]
    assert len(patterns) == len(set(patterns)) == 15
    assert set(patterns) == every_pattern()
    assert [row.state for row in TABLE] == list(State) == list(ROWS)


@given(entries, entries, entries)
def test_every_path_has_the_one_state_of_its_pattern(one: Entry | None, two: Entry | None, three: Entry | None) -> None:
    local = None if one is None else state(one)
    assert pattern(local, two, three) == canonical(one, two, three)
    assert [row.state for row in TABLE if row.pattern == canonical(one, two, three)] == [classify(local, two, three)]


def test_names_say_presence_and_equality() -> None:
    """DSG's rule: L, C, R, each after an x where it is missing."""
    for row in TABLE:
        presence = "".join(name if mark != "-" else f"x{name}" for name, mark in zip("LCR", row.pattern, strict=True))
        assert row.state.startswith(f"s{presence}__")
    assert find("sxLCRx__only_C") is find("sxLCxR__only_C") is State.SAME_DELETION
    assert find("sxLCxR__only_R") is State.ADDED_THERE
    assert find("sLCR") is None


def test_the_words_tell_what_will_happen() -> None:
    must_say = {
        Action.UPLOAD: "will be sent",
        Action.DELETE_REMOTE: "will be deleted in the repository",
        Action.DELETE_LOCAL: "will be deleted here",
        Action.UPDATE_CACHE: "will be noted",
        Action.CONFLICT: "CONFLICT",
    }
    for row in TABLE:
        assert must_say.get(row.action, "") in row.words
        assert row.blocks == (row.action is Action.CONFLICT)
        assert (row.action is Action.DOWNLOAD) == ("fetched" in row.words or "updated here" in row.words)


def test_conflicts_are_those_of_transactions() -> None:
    blocking = {row.state.value for row in TABLE if row.blocks}
    assert blocking == {state.value for state in ClashState} - {ClashState.IN_THE_WAY.value}


def test_the_page_has_the_table() -> None:
    assert reference() in PAGE.read_text(encoding="utf-8"), f"put this into docs/sync.md:\n{reference()}"
