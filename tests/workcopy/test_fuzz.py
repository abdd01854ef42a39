"""What people and programs may put in a working copy, at random: names, and bytes in the file of decisions."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsg.manifests.entries import to_name
from dsg.scan import hashing
from dsg.scan.problems import ScanFailed
from dsg.sync.names import NameRules, check
from dsg.sync.resolution import ResolutionError
from dsg.workcopy.errors import NamesRefused, NameTaken, NothingToSend
from dsg.workcopy.results import Done, Undecided
from tests.workcopy.copies import Copy, Thing, things
from tests.workcopy.memory import directory_in_memory
from tests.workcopy.server import Server

EXPLORE = bool(os.environ.get("DSG_EXPLORE"))
IN_ONE_PLACE = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@pytest.fixture(autouse=True)
def _nobody_writes_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "QUIET", 0)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    yield from directory_in_memory()


_PIECES = (
    st.binary(min_size=1, max_size=6),
    st.text(min_size=1, max_size=4).map(lambda text: text.encode(errors="surrogatepass")),
    st.sampled_from(
        ["CON", "aux.txt", "a:b", "trailing. ", "é", "e\u0301", "ﬁ", "İ", "A", "a", "~$x", "x\n", "\\", "*"]
    ).map(str.encode),
)
NAMES = (
    st.lists(st.one_of(*_PIECES), min_size=1, max_size=3)
    .map(lambda pieces: b"".join(pieces).replace(b"/", b"_").replace(b"\0", b"_"))
    .filter(lambda name: not name.startswith(b".") and len(name) < 200)
)
PATHS = st.lists(st.lists(NAMES, min_size=1, max_size=3).map(b"/".join), min_size=1, max_size=6, unique=True)


def laid(root: Path, paths: list[bytes]) -> None:
    """Make files, where another one is not in the way."""
    for number, path in enumerate(paths):
        target = Path(os.fsdecode(os.fsencode(root) + b"/" + path))
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(b"%d" % number)
        except OSError:
            continue


def contents(root: Path) -> list[bytes | str]:
    return sorted((thing.content for thing in things(root).values()), key=str)


@settings(max_examples=1000 if EXPLORE else 8, suppress_health_check=IN_ONE_PLACE)
@given(paths=PATHS, rules=st.sampled_from(["posix", "portable"]))
def test_any_names_come_back_or_are_refused(make_server: Callable[[], Server], paths: list[bytes], rules: str) -> None:
    server = make_server()
    server.name_rules = rules
    mine, theirs = Copy(server, server.directory / "mine"), Copy(server, server.directory / "theirs", "bo")
    mine.root.mkdir()
    laid(mine.root, paths)
    before = things(mine.root)
    try:
        made = mine.init()
    except (NamesRefused, ScanFailed, NothingToSend):
        assert things(mine.root) == before
        assert server.ground.versions() == []
        assert server.open_transactions() == []
        try:
            made = mine.init(normalize=True)
        except (NamesRefused, NameTaken, ScanFailed, NothingToSend):
            # Undone.
            assert things(mine.root) == before
            assert server.ground.versions() == []
            shutil.rmtree(server.directory)
            return
    assert isinstance(made, Done)
    assert contents(mine.root) == sorted((thing.content for thing in before.values()), key=str)
    assert not [path for path in things(mine.root) if any(check(_name(path), NameRules(rules)))]
    theirs.clone()
    assert things(theirs.root) == things(mine.root)
    mine.settled()
    shutil.rmtree(server.directory)


def _name(path: str) -> str:
    """Return a path as a manifest writes it."""
    return to_name(os.fsencode(path))


@settings(max_examples=1000 if EXPLORE else 12, suppress_health_check=IN_ONE_PLACE)
@given(data=st.data())
def test_any_bytes_in_the_file_of_decisions_are_used_as_they_stand_or_change_nothing(
    make_server: Callable[[], Server], data: st.DataObject
) -> None:
    server = make_server()
    mine, theirs = Copy(server, server.directory / "mine"), Copy(server, server.directory / "theirs", "bo")
    mine.root.mkdir()
    mine.put({"a": Thing(b"a 0"), "b": Thing(b"b 0")})
    mine.init()
    theirs.clone()
    theirs.put({"a": Thing(b"a theirs"), "b": Thing(b"b theirs")})
    theirs.done()
    mine.put({"a": Thing(b"a mine"), "b": None})
    mine.blocked()
    mine.decide("theirs")
    text = mine.layout.conflicts.read_bytes()
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        to = min(len(text), at + data.draw(st.integers(0, 40)))
        text = text[:at] + data.draw(st.binary(max_size=8)) + text[to:]
    mine.layout.conflicts.write_bytes(text)
    before = things(mine.root)
    try:
        made = mine.sync(resolve=True)
    except ResolutionError:
        made = None
        assert mine.layout.conflicts.read_bytes() == text
    if isinstance(made, Done):
        # Nothing that was said of a path could be changed: the words alone decide, and they are there.
        assert things(mine.root)["a"].content in {b"a theirs", b"a mine"}
        assert b"a mine" in mine.kept() or things(mine.root)["a"].content == b"a mine"
        mine.settled()
    else:
        assert made is None or isinstance(made, Undecided)
        assert things(mine.root) == before
        assert server.ground.versions() == ["s1", "s2"]
        assert server.open_transactions() == []
    shutil.rmtree(server.directory)
