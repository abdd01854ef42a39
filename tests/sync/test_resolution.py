"""Deciding conflicts: the file, and what comes of the decisions."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dsg.manifests.entries import Link
from dsg.sync.plan import Blocked, Choice, Fetch, Move, Plan, Remove, plan
from dsg.sync.resolution import Block, OutdatedError, ResolutionError, Resolutions, apply, draft, parse, write
from dsg.sync.sides import NeverSynced, Sides

from .ground import (
    Tree,
    bare,
    carried_out,
    committed,
    contents,
    file,
    remembered,
    same,
    sides,
    state,
    threes,
    version,
    working_copy,
)

ME = "me@example.org"


def blocked(three: tuple[Tree, Tree | None, Tree]) -> Blocked:
    found = plan(sides(*three))
    assert isinstance(found, Blocked)
    return found


@st.composite
def decided(draw: st.DrawFn) -> tuple[tuple[Tree, Tree, Tree], Blocked, Resolutions]:
    three = draw(threes())
    found = plan(sides(*three))
    assume(isinstance(found, Blocked))
    assert isinstance(found, Blocked)
    made = draft(found, ME)
    return three, found, made.decided(draw(st.sampled_from(block.choices)) for block in made.blocks)


@settings(max_examples=80)
@given(decided())
def test_decided_conflicts_lose_neither_side(case: tuple[tuple[Tree, Tree, Tree], Blocked, Resolutions]) -> None:
    (local, cached, remote), found, decisions = case
    made = apply(found, decisions, ME)
    head = committed(made, remote)
    after = carried_out(made, local)
    assert bare(after) == bare(head)
    assert remembered(made, cached, head) == head
    saved = {entry.path: entry for entry in made.saves()}
    for entry in saved.values():
        assert entry == state(local[entry.path])
    for path, entry in bare(local).items():
        if not same(entry, cached.get(path)):
            (content,) = contents({path: entry})
            assert content in contents(head) or saved.get(path) == entry
    # What the working copy has edited is replaced or deleted only when it is listed.
    moved = {o.path for o in made.operations() if isinstance(o, Move)}
    for path, entry in bare(local).items():
        kept = path in moved or path in saved or contents({path: entry}) <= contents(after)
        assert kept or same(entry, cached.get(path))
    # Without a decision for both, no name appears that nobody gave.
    if all(block.choice is not Choice.BOTH for block in decisions.blocks):
        assert head.keys() <= local.keys() | remote.keys()
    again = plan(sides(head, head, head))
    assert isinstance(again, Plan)
    assert not [*again.changes(), *again.operations()]


@settings(max_examples=40)
@given(decided())
def test_the_head_has_what_was_chosen(case: tuple[tuple[Tree, Tree, Tree], Blocked, Resolutions]) -> None:
    (local, _, remote), found, decisions = case
    head = committed(apply(found, decisions, ME), remote)
    chosen = {block.path: block.choice for block in decisions.blocks}
    for conflict in found.conflicts():
        path = conflict.path
        choice = chosen[path]
        side = local if choice is Choice.MINE else remote
        if path in side:
            assert same(head.get(path), side[path])
        else:
            assert path not in head
        if conflict.in_the_way:
            other = remote if choice is Choice.MINE else local
            assert not any(below in head for below in other if below.startswith(f"{path}/"))


@settings(max_examples=30)
@given(decided())
def test_what_is_written_is_read(case: tuple[tuple[Tree, Tree, Tree], Blocked, Resolutions]) -> None:
    _, found, decisions = case
    assert parse(write(decisions)) == decisions
    assert parse(write(draft(found, ME))) == draft(found, ME)
    text = write(decisions)
    edited = "\ufeff" + text.replace("\n", "  \r\n# a note\n\n")
    assert parse(edited) == decisions


def meaning(found: Blocked, text: str) -> dict[str, Choice | None] | None:
    try:
        decisions = parse(text)
        apply(found, decisions, ME)
    except ResolutionError:
        return None
    return {block.path: block.choice for block in decisions.blocks}


@settings(max_examples=50)
@given(decided(), st.data())
def test_any_mutation_means_the_same_or_is_refused(
    case: tuple[tuple[Tree, Tree, Tree], Blocked, Resolutions], data: st.DataObject
) -> None:
    """One that swaps whole words is a person's decision; one that cuts, repeats or changes characters is not."""
    _, found, decisions = case
    text = write(decisions)
    before = meaning(found, text)
    assert before is not None
    pieces = st.text(max_size=3) | st.sampled_from(["\n", "#", '"', "\n#", " ", "?", "mine", "\\u0061"])
    for _ in range(5):
        at, size = data.draw(st.integers(0, len(text))), data.draw(st.integers(0, 4))
        mutated = text[:at] + data.draw(pieces) + text[at + size :]
        assert meaning(found, mutated) in (None, before)


@settings(max_examples=30)
@given(decided(), st.data())
def test_lines_that_go_come_twice_or_change_places_mean_the_same_or_are_refused(
    case: tuple[tuple[Tree, Tree, Tree], Blocked, Resolutions], data: st.DataObject
) -> None:
    _, found, decisions = case
    text = write(decisions)
    lines = text.split("\n")
    one = data.draw(st.integers(0, len(lines) - 1))
    other = data.draw(st.integers(0, len(lines) - 1))
    removed = [*lines[:one], *lines[one + 1 :]]
    doubled = [*lines[:one], lines[one], *lines[one:]]
    for changed in (removed, doubled):
        assert meaning(found, "\n".join(changed)) in (None, meaning(found, text))
    swapped = list(lines)
    swapped[one], swapped[other] = swapped[other], swapped[one]
    after = meaning(found, "\n".join(swapped))
    if "keep" not in lines[one]:
        assert after in (None, meaning(found, text))


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    for tried in (text, f"dsg conflicts 1\nbase: none\nhead: none\n{text}"):
        try:
            parse(tried)
        except ResolutionError as error:
            assert error.problems


def simple() -> tuple[Blocked, str]:
    found = blocked(({"a": file("a", 1), "b": file("b", 1)}, None, {"a": file("a", 2), "b": file("b", 2)}))
    return found, write(draft(found, ME))


def test_the_file_reads_like_this() -> None:
    found = blocked(
        (
            {"a": file("a", 1, 1_764_072_005_123_456_789), "d": Link("d", "a", "x", "s1")},
            {"a": file("a", 0), "b": file("b", 0), "é\n": file("é\n", 0)},
            {"b": file("b", 2, author="Jörg"), "d/x": file("d/x", 3), "é\n": file("é\n", 5, -1, 0o600)},
        )
    )
    text = write(draft(found, ME))
    assert text.split("is kept.\n")[1] == (
        "\n"
        'path: "a"\n'
        "  what: you changed it, others deleted it (sLCxR__L_ne_C)\n"
        "  mine: file, 1 bytes, mode 644, modified 2025-11-25T12:00:05.123456789Z, blake3 1111111111111111, "
        'by "me@example.org" (you)\n'
        '  theirs: deleted (last by "ana" in s1)\n'
        "  keep (mine or theirs): ?\n"
        "\n"
        'path: "b"\n'
        "  what: you deleted it, others changed it (sxLCR__C_ne_R)\n"
        "  mine: deleted by you\n"
        "  theirs: file, 2 bytes, mode 644, modified 1970-01-01T00:00:00.000000000Z, blake3 2222222222222222, "
        'by "Jörg" in s1\n'
        "  keep (mine or theirs): ?\n"
        "\n"
        'path: "d"\n'
        "  what: a file or link on one side, a directory on the other (path_in_the_way)\n"
        '  mine: link to "a", by "me@example.org" (you)\n'
        f"  theirs: directory, 1 files or links, 3 bytes, blake3 {text.split('3 bytes, blake3 ')[1][:16]}\n"
        "  keep (mine, theirs or both): ?\n"
        "\n"
        'path: "é\\n"\n'
        "  what: you deleted it, others changed it (sxLCR__C_ne_R)\n"
        "  mine: deleted by you\n"
        "  theirs: file, 5 bytes, mode 600, modified 1969-12-31T23:59:59.999999999Z, blake3 5555555555555555, "
        'by "ana" in s1\n'
        "  keep (mine or theirs): ?\n"
    )
    assert text.startswith("dsg conflicts 1\nbase: s4 ")


def test_nothing_undecided_missing_or_unknown_is_taken() -> None:
    found, text = simple()
    with pytest.raises(ResolutionError, match=r'line 16, "a": is not decided; put mine, theirs or both in place of \?'):
        apply(found, parse(text), ME)
    half = text.replace(": ?", ": theirs", 1)
    with pytest.raises(ResolutionError, match=r'line 22, "b": is not decided'):
        apply(found, parse(half), ME)
    whole = text.replace(": ?", ": theirs")
    assert isinstance(apply(found, parse(whole), ME), Plan)
    first, second = whole.index('\npath: "a"'), whole.index('\npath: "b"')
    with pytest.raises(ResolutionError, match='"a": is in conflict, and the file does not have it'):
        apply(found, parse(whole[:first] + whole[second:]), ME)
    with pytest.raises(ResolutionError, match='line 28, "c": is in no conflict now'):
        apply(found, parse(whole + whole[second:].replace('"b"', '"c"')), ME)
    with pytest.raises(ResolutionError, match='line 28, "b": comes twice'):
        parse(whole + whole[second:])
    with pytest.raises(
        ResolutionError, match=r'line 16, "a": can\'t be decided by \'ours\'; write mine, theirs or both'
    ):
        parse(text.replace(": ?", ": ours", 1))
    with pytest.raises(ResolutionError, match=r"line 12: .* is not written as dsg writes it"):
        parse(text.replace('"a"', '"\\u0061"', 1))
    with pytest.raises(ResolutionError, match=r"line 1: is .* no resolution file"):
        parse("dsg conflicts 2\n")


def test_a_deletion_has_no_both() -> None:
    found = blocked(({}, {"a": file("a", 0)}, {"a": file("a", 1)}))
    with pytest.raises(ResolutionError, match="write mine or theirs"):
        parse(write(draft(found, ME)).replace(": ?", ": both"))
    made = draft(found, ME)
    forged = replace(made, blocks=(replace(made.blocks[0], choice=Choice.BOTH),))
    with pytest.raises(ResolutionError, match="write mine or theirs"):
        apply(found, forged, ME)


def test_a_file_about_something_else_is_outdated() -> None:
    found, text = simple()
    decisions = parse(text.replace(": ?", ": mine"))
    local: Tree = {"a": file("a", 1), "b": file("b", 1)}
    remote: Tree = {"a": file("a", 2), "b": file("b", 2)}
    newer = plan(Sides(working_copy(local), NeverSynced(), version("s7", remote)))
    assert isinstance(newer, Blocked)
    with pytest.raises(OutdatedError, match="about s6 as the head, which is s7 now"):
        apply(newer, decisions, ME)
    edited = blocked(({**local, "b": file("b", 3)}, None, remote))
    with pytest.raises(OutdatedError, match=r'line 22, "b": has changed since'):
        apply(edited, decisions, ME)
    with pytest.raises(OutdatedError, match="has changed since the file was written, or 'mine' was edited"):
        apply(found, decisions, "somebody-else@example.org")


def test_both_keeps_mine_beside_theirs() -> None:
    local: Tree = {
        "in/a.csv": file("in/a.csv", 1),
        "IN/A.from-me-example-org.csv": file("IN/A.from-me-example-org.csv", 4),
    }
    remote: Tree = {"in/a.csv": file("in/a.csv", 2)}
    found = blocked((local, None, remote))
    made = apply(found, draft(found, ME).decided([Choice.BOTH]), ME)
    assert set(committed(made, remote)) == {*local, "in/a.from-me-example-org-2.csv"}
    assert [type(operation) for operation in made.operations()] == [Move, Fetch]
    assert list(made.saves()) == []


def test_a_directory_in_the_way_moves_as_a_whole() -> None:
    local: Tree = {f"a/{n}/x": file(f"a/{n}/x", n) for n in range(3)}
    remote: Tree = {"a": file("a", 9)}
    found = blocked((local, None, remote))
    results = {}
    for choice in Choice:
        made = apply(found, draft(found, ME).decided([choice]), ME)
        results[choice] = set(committed(made, remote))
        removed = {operation.path for operation in made.operations() if isinstance(operation, Remove)}
        assert removed == (set(local) if choice is Choice.THEIRS else set())
        assert {entry.path for entry in made.saves()} == removed
    assert results[Choice.MINE] == set(local)
    assert results[Choice.THEIRS] == {"a"}
    assert results[Choice.BOTH] == {"a"} | {f"a.from-me-example-org/{n}/x" for n in range(3)}


def test_a_directory_whose_paths_would_grow_too_long_is_not_moved() -> None:
    deep = "a/" + "/".join(["x" * 255] * 15) + "/" + "y" * 252
    found = blocked(({deep: file(deep, 1)}, None, {"a": file("a", 2)}))
    with pytest.raises(ResolutionError, match="can't be kept beside theirs"):
        apply(found, draft(found, ME).decided([Choice.BOTH]), ME)


def test_names_that_mislead_are_shown_as_what_they_are() -> None:
    path, author = "a\u202egpj.exe", "bo\u200b"
    found = blocked(({path: file(path, 1)}, None, {path: file(path, 2, author=author), "\udcff": file("\udcff", 1)}))
    text = write(draft(found, ME))
    assert 'path: "a\\u202egpj.exe"' in text
    assert 'by "bo\\u200b" in s1' in text
    assert parse(text).blocks[0].path == path
    raw = blocked(({"\udcff": file("\udcff", 1)}, None, {"\udcff": file("\udcff", 2)}))
    assert 'path: {"hex":"ff"}' in write(draft(raw, ME))
    assert parse(write(draft(raw, ME))) == draft(raw, ME)


def test_too_many_conflicts_are_not_decided_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    found, text = simple()
    monkeypatch.setattr("dsg.sync.resolution.MAX_BLOCKS", 1)
    with pytest.raises(ResolutionError, match="2 paths are in conflict, more than the 1"):
        draft(found, ME)
    with pytest.raises(ResolutionError, match='line 22, "b": is one more than'):
        parse(text)


def test_blocks_compare_by_what_they_say() -> None:
    assert Block("a", "w", "m", "t", tuple(Choice), None, 3) == Block("a", "w", "m", "t", tuple(Choice), None, 4)


def test_a_name_that_would_not_be_synced_is_not_given() -> None:
    local: Tree = {"input": Link("input", "a", "x", "s1")}
    remote: Tree = {"input": Link("input", "b", "x", "s1")}
    three = sides(local, None, remote)
    found = plan(replace(three, covers=lambda path: "input" in path.split("/")))
    assert isinstance(found, Blocked)
    with pytest.raises(ResolutionError, match="would not be synced; choose mine or theirs"):
        apply(found, draft(found, ME).decided([Choice.BOTH]), ME)


def test_a_name_is_not_taken_from_what_is_not_synced() -> None:
    local: Tree = {"a": file("a", 1)}
    remote: Tree = {"a": file("a", 2), "a.from-me-example-org": file("a.from-me-example-org", 3)}
    found = plan(replace(sides(local, None, remote), covers=lambda path: "from-me-example-org" not in path.split(".")))
    assert isinstance(found, Blocked)
    made = draft(found, ME).decided([Choice.BOTH])
    (move, _) = apply(found, made, ME).operations()
    assert isinstance(move, Move)
    assert move.to == "a.from-me-example-org-2"
