"""A history grows by one line for each version, is proved without the versions, and shows every tampering."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsg.manifests.entries import EntryError
from dsg.manifests.header import Header
from dsg.manifests.history import SEGMENT, HistoryError, append, headers, last, segment_name, verify
from tests.manifests.strategies import DIGESTS
from tests.manifests.test_chain import history


class Segments(dict[str, bytes]):
    def read(self, segment: str) -> bytes | None:
        return self.get(segment)


def kept(versions: list[Header]) -> Segments:
    found = Segments()
    for header in versions:
        name, raw = append(found, header)
        found[name] = raw
    return found


LONG = history(150)
SEGMENTS = kept(LONG)


def test_segments_are_named_by_what_they_hold() -> None:
    assert [segment_name(version) for version in ("s1", "s64", "s65", "s1000")] == [
        "s1-s64",
        "s1-s64",
        "s65-s128",
        "s961-s1024",
    ]
    assert list(SEGMENTS) == ["s1-s64", "s65-s128", "s129-s192"]
    assert [raw.count(b"\n") for raw in SEGMENTS.values()] == [SEGMENT, SEGMENT, 22]
    assert b"".join(SEGMENTS.values()) == b"".join(header.encode() for header in LONG)


@given(st.integers(1, 150), st.integers(1, 150), st.booleans())
def test_what_was_appended_is_read(one: int, other: int, newest_first: bool) -> None:
    low, high = sorted((one, other))
    found = list(headers(SEGMENTS, f"s{low}", f"s{high}", newest_first=newest_first))
    assert found == LONG[low - 1 : high][:: -1 if newest_first else 1]


@settings(max_examples=30)
@given(st.sampled_from([1, 2, 63, 64, 65, 129, 1000]), st.sampled_from([1, 2, 63, 64, 65, 66, 130]))
def test_a_history_may_begin_anywhere_and_have_any_length(first: int, length: int) -> None:
    made = history(length, first=first)
    segments = kept(made)
    end = made[-1]
    assert last(segments, end.version) == end
    assert verify(segments, end.version, end.chain) == made[0].version
    assert list(headers(segments, made[0].version, end.version)) == made


def test_versions_are_never_read_from_more_than_one_segment_at_a_time() -> None:
    reads: list[str] = []

    class Counted(Segments):
        def read(self, segment: str) -> bytes | None:
            reads.append(segment)
            return super().read(segment)

    counted = Counted(SEGMENTS)
    append(counted, Header(replace(LONG[-1].commit, version="s151", previous=LONG[-1].chain), LONG[-1].summary))
    assert last(counted, "s150") == LONG[149]
    next(headers(counted, "s1", "s150", newest_first=True))
    assert reads == ["s129-s192"] * 3


@given(st.integers(1, 10), st.data())
def test_no_byte_can_change_without_being_noticed(length: int, data: st.DataObject) -> None:
    made = history(length)
    (name, raw), *_ = kept(made).items()
    at, bit = data.draw(st.integers(0, len(raw) - 1)), data.draw(st.integers(0, 7))
    cut = data.draw(st.integers(0, len(raw) - 1))
    for wrong in (raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :], raw[:cut], raw + raw[cut:]):
        segments = Segments({name: wrong})
        with pytest.raises(HistoryError):
            verify(segments, made[-1].version, made[-1].chain)
        with pytest.raises(HistoryError):
            list(headers(segments, "s1", f"s{length + 1}"))


@given(st.data())
def test_no_line_can_be_lost_doubled_or_moved(data: st.DataObject) -> None:
    made = history(8)
    lines = [header.encode() for header in made]
    at = data.draw(st.integers(0, 7))
    moved = data.draw(st.permutations(lines).filter(lambda found: found != lines))
    for wrong in (lines[:at] + lines[at + 1 :], [*lines[: at + 1], *lines[at:]], moved):
        with pytest.raises(HistoryError):
            verify(Segments({"s1-s64": b"".join(wrong)}), "s8", made[-1].chain)


FORGED = kept(history(150, message="forged"))


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"s65-s128": None}, "segment s65-s128: is missing"),
        ({"s1-s64": None}, "segment s1-s64: is missing"),
        ({"s129-s192": None}, "segment s129-s192: is missing"),
        ({"s65-s128": b""}, "segment s65-s128: is empty"),
        ({"s65-s128": SEGMENTS["s1-s64"]}, "segment s65-s128, line 1: s1 does not belong here"),
        ({"s65-s128": SEGMENTS["s65-s128"][:-1]}, "segment s65-s128, line 64: ends within a line"),
        ({"s65-s128": SEGMENTS["s65-s128"][:-9]}, "line 64: ends within a line"),
        ({"s65-s128": FORGED["s65-s128"]}, f"s129 follows a version of chain digest {LONG[127].chain}, but s128 has"),
        ({"s1-s64": FORGED["s1-s64"]}, "segment s1-s64: s65 follows a version of chain digest"),
        (
            {"s65-s128": SEGMENTS["s65-s128"].split(b"\n", 1)[1]},
            "segment s65-s128, line 1: begins with s66, and what it follows is missing",
        ),
        (
            {"s65-s128": SEGMENTS["s65-s128"].rsplit(b"\n", 2)[0] + b"\n"},
            "s129 comes after s127, where s128 belongs",
        ),
        ({"s65-s128": SEGMENTS["s65-s128"] + SEGMENTS["s129-s192"]}, "line 65: s129 does not belong here"),
        ({"s65-s128": b"x" * 70_000 + b"\n"}, "line 1: is longer than"),
        ({"s65-s128": SEGMENTS["s65-s128"].replace(b'"ana"', b'"eve"', 1)}, "line 1: the header of s65 says chain"),
        (FORGED, f"s150 has the chain digest .*, but {LONG[-1].chain} is trusted"),
    ],
)
def test_damage_is_told_with_its_place(changed: dict[str, bytes | None], why: str) -> None:
    segments = Segments({name: raw for name, raw in (SEGMENTS | changed).items() if raw is not None})
    with pytest.raises(HistoryError, match=why):
        verify(segments, "s150", LONG[-1].chain)
    if changed is not FORGED:
        for newest_first in (True, False):
            with pytest.raises(HistoryError):
                list(headers(segments, "s1", "s150", newest_first=newest_first))


def test_a_history_that_begins_twice_is_told() -> None:
    begins_later = history(3, first=65)
    segments = Segments({"s1-s64": SEGMENTS["s1-s64"], **kept(begins_later)})
    with pytest.raises(HistoryError, match="s65 begins the history, but an older segment is here"):
        verify(segments, "s67", begins_later[-1].chain)
    with pytest.raises(HistoryError, match="s65 follows nothing, but s64 has"):
        list(headers(segments, "s1", "s67"))


@pytest.mark.parametrize(
    ("held", "header", "why"),
    [
        (0, LONG[1], "s2 should follow a version of chain digest .*, but none is here"),
        (0, LONG[64], "s65 should follow"),
        (3, LONG[2], "s3 comes after s3, where s4 belongs"),
        (3, LONG[4], "s5 comes after s3, where s4 belongs"),
        (3, history(4, message="forged")[3], "s4 follows a version of chain digest"),
        (3, history(1, first=4)[0], "s4 follows nothing"),
        (64, history(1, first=65)[0], "s65 follows nothing"),
        (63, LONG[64], "s65 comes after s63, where s64 belongs"),
    ],
)
def test_only_the_next_version_is_appended(held: int, header: Header, why: str) -> None:
    with pytest.raises(HistoryError, match=why):
        append(kept(LONG[:held]), header)


def test_nothing_is_appended_to_what_is_damaged() -> None:
    segments = Segments({"s1-s64": SEGMENTS["s1-s64"].replace(b'"ana"', b'"eve"', 1).rsplit(b"\n", 2)[0] + b"\n"})
    with pytest.raises(HistoryError, match="line 1"):
        append(segments, LONG[63])


def test_what_is_not_there_is_told() -> None:
    with pytest.raises(HistoryError, match="should end with s149, but ends with s150"):
        last(SEGMENTS, "s149")
    with pytest.raises(HistoryError, match="ends with s150; s151 is missing"):
        list(headers(SEGMENTS, "s140", "s151"))
    later = kept(history(3, first=10))
    with pytest.raises(HistoryError, match="begins with s10; there is no s9"):
        list(headers(later, "s9", "s11"))
    with pytest.raises(EntryError, match="the first comes after the last"):
        list(headers(SEGMENTS, "s2", "s1"))
    with pytest.raises(HistoryError, match=f"but {DIGESTS[0]} is trusted"):
        verify(SEGMENTS, "s150", DIGESTS[0])
