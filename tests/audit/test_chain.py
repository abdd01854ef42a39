"""The chain: what is written is followed, and whatever is done to it afterwards is found."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsg.audit.actions import ABOUT, Action
from dsg.audit.record import MAX_LINE, Entry, Head, HeadError, RecordError, decode, digest, encode, make
from dsg.audit.verify import Source, Verified, verify

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LOG = "0" * 32


def chain(count: int) -> list[bytes]:
    lines, head = [], Head()
    for number in range(count):
        action = {0: "log.begun", 6: "log.continued"}.get(number, "transaction.committed")
        line = make(head, LOG, "operator", "node-a", NOW, Entry(action, who=f"u{number}"))
        lines.append(line + b"\n")
        head = Head(head.sequence + 1, digest(line))
    return lines


LINES = chain(12)
END = Head(12, digest(LINES[-1][:-1]))


def check(lines: list[bytes], expect: Head | None = None) -> Verified:
    return verify([Source("audit.jsonl", lines)], expect)


def split(data: bytes) -> list[bytes]:
    return data.splitlines(keepends=True)


def test_what_was_written_holds_and_says_where_it_ends() -> None:
    found = check(LINES, END)
    assert found.whole
    assert (found.records, found.first, found.head, found.logs) == (12, 1, END, {LOG})
    assert not found.notes


@given(st.integers(0, sum(map(len, LINES)) - 1), st.integers(0, 255))
def test_any_changed_byte_is_found(position: int, value: int) -> None:
    data = bytearray(b"".join(LINES))
    if data[position] == value:
        value = (value + 1) % 256
    data[position] = value
    found = check(split(bytes(data)), END)
    assert not found.whole
    # Without a head that is known from elsewhere the very last line is the only one that can be changed unseen.
    if position < sum(map(len, LINES[:-1])):
        assert not check(split(bytes(data))).whole
        assert found.findings[0].line <= data[:position].count(b"\n") + 2


@given(st.data())
def test_any_removal_insertion_repetition_and_exchange_is_found(data: st.DataObject) -> None:
    lines = list(LINES)
    at, other = (data.draw(st.integers(0, 11)) for _ in range(2))
    match data.draw(st.sampled_from(["remove", "repeat", "insert", "exchange", "reverse"])):
        case "remove":
            del lines[at]
        case "repeat":
            lines.insert(other, lines[at])
        case "insert":
            forged = make(Head(at, "1" * 64), LOG, "operator", "node-a", NOW, Entry("forged"))
            lines.insert(other, forged + b"\n")
        case "exchange":
            lines[at], lines[other] = lines[other], lines[at]
        case _:
            lines.reverse()
    if lines != LINES:
        assert not check(lines, END).whole


@given(st.integers(0, sum(map(len, LINES)) - 1))
def test_a_cut_within_a_line_is_found_and_one_between_lines_only_by_a_head_from_elsewhere(length: int) -> None:
    lines = split(b"".join(LINES)[:length])
    assert not check(lines, END).whole
    between = not lines or lines[-1].endswith(b"\n")
    assert check(lines).whole == (between and bool(lines))


def test_a_line_that_was_made_anew_shows_at_the_next_one() -> None:
    forged = json.loads(LINES[4])
    forged["who"] = "mallory"
    line = json.dumps(forged, separators=(",", ":")).encode() + b"\n"
    found = check([*LINES[:4], line, *LINES[5:]])
    assert [str(one) for one in found.findings] == [
        "audit.jsonl, line 6: record 6 does not follow the record before it as that reads now: one of them was changed"
    ]


def test_a_log_that_was_written_anew_shows_by_an_earlier_head() -> None:
    earlier = Head(5, digest(LINES[4][:-1]))
    assert check(LINES, earlier).whole
    anew, head = [], Head()
    for number in range(12):
        action = "transaction.committed" if number else "log.begun"
        line = make(head, LOG, "operator", "node-a", NOW, Entry(action, who=f"x{number}"))
        anew.append(line + b"\n")
        head = Head(number + 1, digest(line))
    assert check(anew).whole
    assert "rewritten" in str(check(anew, earlier).findings[0])


def test_a_missing_stretch_is_counted() -> None:
    found = check([*LINES[:3], *LINES[7:]])
    assert "record 8 comes after record 3: 4 missing between them" in str(found.findings[0])


def test_files_that_were_not_named_are_said_to_be_unknown_and_not_to_be_wrong() -> None:
    found = check(LINES[6:], END)
    assert found.whole
    assert "begins with record 7; nothing is known of the 6 before it" in found.notes[0]
    # What was expected may lie in those.
    assert not check(LINES[6:], Head(3, digest(LINES[2][:-1]))).whole


def test_an_empty_log_and_one_of_something_else_hold_nothing() -> None:
    assert not check([]).whole
    assert not check([b"hello\n"]).whole


@settings(max_examples=40)
@given(
    st.text(max_size=5000),
    st.dictionaries(
        st.text(max_size=300),
        st.one_of(st.text(max_size=50000), st.integers(), st.booleans(), st.none(), st.lists(st.text(), max_size=400)),
        max_size=5,
    ),
)
def test_whatever_is_recorded_is_one_line_that_reads_back(text: str, details: dict[str, object]) -> None:
    entry = Entry(text, text, text, text, text, text, text + "\udc80", details)  # type: ignore[arg-type]
    line = make(Head(3, "a" * 64), LOG, "operator", "node-a", NOW, entry)
    assert b"\n" not in line
    assert len(line) <= MAX_LINE
    assert encode(decode(line)) == line


@pytest.mark.parametrize("text", ["\U0001f600" * 5000, "\x00" * 5000, "\udc80" * 5000])
def test_the_longest_texts_fit_in_a_line(text: str) -> None:
    details = {f"{text}{number}": text for number in range(100)}
    line = make(Head(), LOG, text, text, NOW, Entry(text, text, text, text, text, text, text, {**details, "l": [text]}))
    assert len(line) <= MAX_LINE
    assert decode(line).seq == 1


@pytest.mark.parametrize("line", [b"", b"{}", b"[]", b"1", b"\xff", b"[" * 50000, LINES[0], LINES[0][:-2] + b" }"])
def test_bytes_that_are_no_record_are_refused(line: bytes) -> None:
    with pytest.raises(RecordError):
        decode(line)


@pytest.mark.parametrize("text", ["", "1", "1:2", "01:" + "0" * 64, "-1:" + "0" * 64, "1:" + "G" * 64])
def test_text_that_names_no_head_is_refused(text: str) -> None:
    with pytest.raises(HeadError):
        Head.parse(text)
    assert Head.parse(str(END)) == END


def test_the_documentation_names_every_action_as_the_program_does() -> None:
    documented = (Path(__file__).parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")
    assert set(ABOUT) == set(Action)
    for action, about in ABOUT.items():
        first = "yes" if about.required else "no"
        assert f"| `{action}` | {about.writer} | {first} | {about.means} |" in documented
