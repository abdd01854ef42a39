"""Change lists: one encoding, each path once and in order, and nothing that is not understood."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsg.manifests.changes import Change, ChangeError, Gone, Place, decode_change, encode_change, read_changes
from dsg.manifests.entries import Entry, EntryError, File, FileState, LinkState
from dsg.manifests.lines import MAX_LINE, encode
from tests.manifests.strategies import DIGESTS, file, ordered, paths, trees


def state_of(entry: Entry) -> FileState | LinkState:
    if isinstance(entry, File):
        return FileState(entry.path, entry.size, entry.mtime, entry.mode, entry.digest)
    return LinkState(entry.path, entry.target)


@st.composite
def lists(draw: st.DrawFn) -> list[Change]:
    found: list[Change] = []
    for entry in ordered(draw(trees())):
        if not draw(st.integers(0, 3)):
            found.append(Gone(entry.path))
        else:
            source = draw(st.none() | paths) if isinstance(entry, File) else None
            found.append(Place(state_of(entry), source))
    return found


def written(changes: list[Change]) -> bytes:
    return b"".join(map(encode_change, changes))


def read(raw: bytes) -> list[Change]:
    return list(read_changes(io.BytesIO(raw), "the list"))


@given(lists())
def test_what_is_written_is_read(changes: list[Change]) -> None:
    raw = written(changes)
    assert read(raw) == changes
    assert raw.count(b"\n") == len(changes)


@given(trees())
def test_a_place_is_an_entry_that_nobody_signed(tree: list[Entry]) -> None:
    for entry in tree:
        place = Place(state_of(entry))
        assert place.signed(entry.author, entry.version) == entry
        assert (place.path, place.key) == (entry.path, entry.key)
        assert encode_change(place) == encode(entry).tree


def test_how_lines_look() -> None:
    state = FileState("b", 3, -1, 0o600, DIGESTS[1])
    line = f'{{"path":"b","kind":"file","size":3,"mtime":-1,"mode":"600","digest":"{DIGESTS[1]}"'
    assert encode_change(Place(state)).decode() == line + "}\n"
    assert encode_change(Place(state, "a\udcff")).decode() == line + ',"from":{"hex":"61ff"}}\n'
    assert encode_change(Place(LinkState("l", "b"))) == b'{"path":"l","kind":"link","target":"b"}\n'
    assert encode_change(Gone("x")) == b'{"path":"x","kind":"deleted"}\n'


@given(lists(), st.data())
def test_no_line_can_be_doubled_or_moved(changes: list[Change], data: st.DataObject) -> None:
    if changes:
        at = data.draw(st.integers(0, len(changes) - 1))
        with pytest.raises(ChangeError, match="comes twice"):
            read(written([*changes[: at + 1], *changes[at:]]))
    if len(changes) > 1:
        moved = data.draw(st.permutations(changes).filter(lambda found: found != changes))
        with pytest.raises(ChangeError, match="sorts before"):
            read(written(moved))


@given(lists(), st.data())
def test_another_byte_is_another_change_or_none(changes: list[Change], data: st.DataObject) -> None:
    raw = written(changes) or b"\n"
    at, bit = data.draw(st.integers(0, len(raw) - 1)), data.draw(st.integers(0, 7))
    flipped = raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :]
    try:
        found = read(flipped)
    except ChangeError:
        return
    assert written(found) == flipped


A = encode_change(Place(FileState("a", 3, 0, 0o644, DIGESTS[1])))
B = encode_change(Gone("b"))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (A.replace(b"}", b',"author":"eve"}'), "field 'author' is not known"),
        (A.replace(b"}", b',"version":"s1"}'), "field 'version' is not known"),
        (encode(file("a")).whole, "field 'author' is not known"),
        (A.replace(b"}", b',"from":null}'), "'from' is neither a string nor bytes"),
        (A.replace(b"}", b',"from":"../x"}'), "must be relative"),
        (A.replace(b"}", b',"from":".dsg/x"}'), "belongs to dsg"),
        (A.replace(b"}", b',"from":{"hex":"61"}}'), "one way it can be"),
        (b'{"path":"a","kind":"link","target":"b","from":"c"}\n', "field 'from' is not known"),
        (b'{"path":"a","kind":"link","target":"../b"}\n', "leaves the repository"),
        (b'{"path":"a","kind":"link"}\n', "'target' is missing"),
        (b'{"path":"a","kind":"deleted","size":0}\n', "field 'size' is not known"),
        (b'{"path":"a","kind":"directory"}\n', "kind 'directory' is neither file, link nor deleted"),
        (b'{"path":"a"}\n', "kind None"),
        (b'{"kind":"deleted","path":"a"}\n', "one way it can be"),
        (b'{"path":"/a","kind":"deleted"}\n', "must be relative"),
        (b'{"path":".dsg","kind":"deleted"}\n', "belongs to dsg"),
        (A.replace(b'"size":3,', b""), "'size' is missing"),
        (A.replace(b'"size":3', b'"size":true'), "size True"),
        (A.replace(b'"644"', b'"4755"'), "three octal digits"),
        (A.replace(b'"mtime":0', b'"mtime":-0'), "one way it can be"),
        (A.replace(DIGESTS[1].encode(), b"x"), "64 lower-case"),
        (A[:-1], "ends without a newline: the list was cut off"),
        (A[:-5], "ends without a newline"),
        (b"\n", "is not JSON"),
        (b"[]\n", "no object"),
        (b'"\xff"\n', "not UTF-8"),
        (b"x" * MAX_LINE + b"\n", "longer than"),
    ],
)
def test_a_line_is_refused_with_place_and_reason(line: bytes, why: str) -> None:
    with pytest.raises(ChangeError, match=why) as caught:
        list(read_changes([encode_change(Gone("A")), line], "the list"))
    assert (caught.value.source, caught.value.line) == ("the list", 2)
    assert str(caught.value).startswith("the list, line 2")


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["+b", "+a"], "line 2 ('a'): comes after 'b', but sorts before it"),
        (["+a", "-a"], "line 2 ('a'): comes twice; a path has one change"),
        (["+a", "+a-", "-a.b", "+a/b"], "line 4 ('a/b'): lies below 'a', which is no directory"),
    ],
)
def test_what_can_not_stand_together_is_refused(names: list[str], why: str) -> None:
    made = [Gone(n[1:]) if n[0] == "-" else Place(FileState(n[1:], 0, 0, 0, DIGESTS[0])) for n in names]
    with pytest.raises(ChangeError) as caught:
        read(written(made))
    assert str(caught.value).startswith(f"the list, {why}")
    assert caught.value.path == names[-1][1:]


def test_a_directory_may_become_a_file_and_a_file_a_directory() -> None:
    files = {name: Place(FileState(name, 0, 0, 0, DIGESTS[0])) for name in ("a", "b/c")}
    changes: list[Change] = [files["a"], Gone("a/x"), Gone("a/y"), Gone("b"), files["b/c"]]
    assert read(written(changes)) == changes


def test_changes_come_before_the_list_is_read_to_its_end() -> None:
    changes = read_changes(iter([A, B, b"rubbish\n"]), "the list")
    assert [next(changes).path, next(changes).path] == ["a", "b"]
    with pytest.raises(ChangeError, match="line 3"):
        next(changes)


def test_a_link_takes_no_content() -> None:
    with pytest.raises(EntryError, match="only a file has content"):
        Place(LinkState("l", "b"), "a")


def test_the_longest_change_fits_in_a_line() -> None:
    path = "/".join(["\x01" * 255] * 16)
    place = Place(FileState(path, 2**63 - 1, -(2**63) + 1, 0o777, DIGESTS[2]), path)
    assert len(encode_change(place)) < MAX_LINE
    assert decode_change(encode_change(place)) == place
