"""Glances: the same digest twice only where a scan would find the same; none where only a scan can tell."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsg.api.repository import Ignore
from dsg.manifests.entries import to_bytes
from dsg.scan.cache import YOUNG
from dsg.scan.glance import Glance, glance
from dsg.scan.scope import Scope, Verdict
from tests.scan.oracle import SETTLED, everything, naive_covers, naive_scan, settle, tree, trees, unprivileged
from tests.scan.test_scope import components, data_dirs, ignores, paths

ALL = Scope(["*"])


def look(root: Path, scope: Scope = ALL, *, young: int = SETTLED, run: int = 1000) -> Glance:
    found = glance(root, scope, settled_before=time.time_ns() - young, run=run)
    assert found is not None
    return found


@given(data_dirs, ignores, paths, st.lists(components, max_size=5, unique=True))
def test_files_are_kept_as_rules_one_by_one_say(dirs: list[str], ignore: Ignore, folder: str, names: list[str]) -> None:
    scope, above = Scope(dirs, ignore), Verdict.THROUGH
    at = ""
    for name in folder.split("/"):
        at = f"{at}/{name}" if at else name
        above = scope.judge(above, to_bytes(at), to_bytes(name), directory=True)
        if above is Verdict.OUT:
            return
    found = scope.kept(above, to_bytes(folder + "/"), names)
    assert found == [name for name in names if naive_covers(dirs, ignore, f"{folder}/{name}")]


def test_names_that_are_no_text_are_kept_and_left_out_like_others() -> None:
    scope = Scope(["*"], Ignore(suffixes=[".tmp"], paths=["a/é"]))
    names = [os.fsdecode(name) for name in (b"\xff", b"\xff.tmp", b"\xc3\xa9", b"\xe9")]
    assert scope.kept(Verdict.IN, b"a/", names) == [names[0], names[3]]


def _rewrite(place: Path) -> None:
    """Put other content of the same size in a file, and set its time back."""
    before = place.stat()
    content = place.read_bytes()
    place.write_bytes(bytes(255 - byte for byte in content))
    os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns))


def _replace(place: Path) -> None:
    """Put another file of the same content, mode and time in a file's place."""
    before = place.stat()
    other = place.with_name("other")
    other.write_bytes(place.read_bytes())
    other.chmod(before.st_mode & 0o777)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.rename(place)


def _as_link(place: Path) -> None:
    place.unlink()
    place.symlink_to("somewhere")


def _as_directory(place: Path) -> None:
    place.unlink()
    place.mkdir()
    (place / "in").touch()


def _deeper(place: Path) -> None:
    place.with_name("new").mkdir()
    place.rename(place.with_name("new") / place.name)


EDITS: dict[str, Callable[[Path], object]] = {
    "rewrite": _rewrite,
    "append": lambda place: place.open("ab").write(b"more"),
    "replace": _replace,
    "rename": lambda place: place.rename(place.with_name("renamed")),
    "deeper": _deeper,
    "remove": lambda place: place.unlink(),
    "mode": lambda place: place.chmod(place.stat().st_mode & 0o777 ^ 0o100),
    "touch": os.utime,
    "link": _as_link,
    "directory": _as_directory,
    "beside": lambda place: place.with_name("beside").touch(),
}


@settings(max_examples=50)
@given(trees, st.sampled_from([3, 1000]), st.data())
def test_no_change_hides(items: dict[bytes, bytes | Path | None], run: int, data: st.DataObject) -> None:
    with tree(items) as root:
        states = everything(root)
        settle()
        before = look(root, run=run)
        assert before.settled
        assert look(root, run=run) == before
        assert everything(root) == states
        places = [root / state.path for state in states if not (root / state.path).is_symlink()]
        if not places:
            return
        EDITS[data.draw(st.sampled_from(sorted(EDITS)))](data.draw(st.sampled_from(places)))
        assert look(root, run=run).digest != before.digest


@settings(max_examples=50)
@given(trees, st.sampled_from([["*"], ["input"], ["a", "b"]]), ignores, trees, st.sampled_from([3, 1000]))
def test_trees_and_rules_with_the_same_digest_have_the_same_states(
    items: dict[bytes, bytes | Path | None],
    dirs: list[str],
    ignore: Ignore,
    more: dict[bytes, bytes | Path | None],
    run: int,
) -> None:
    with tree(items) as root:
        states, before = naive_scan(root, dirs, ignore), look(root, Scope(dirs, ignore), run=run)
        if look(root, run=run).digest == before.digest:
            assert everything(root) == states
        for path in more:
            place = root / os.fsdecode(path)
            if not place.exists() and place.parent.is_dir() and not place.is_symlink():
                place.touch()
        if naive_scan(root, dirs, ignore) != states:
            assert look(root, Scope(dirs, ignore), run=run).digest != before.digest


def test_what_is_left_out_may_come_and_go(tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    (tmp_path / "input/a").touch()
    scope = Scope(["input"], Ignore(suffixes=[".tmp"]))
    before = look(tmp_path, scope)
    for name in (".hidden", "a.tmp"):
        (tmp_path / "input" / name).touch()
    (tmp_path / "elsewhere").touch()
    assert look(tmp_path, scope).digest == before.digest


def test_a_young_time_of_a_file_or_link_is_not_settled(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    os.utime(tmp_path / "a", ns=(0, 0))
    assert not look(tmp_path, young=YOUNG).settled, "its ctime is young"
    settle()
    assert look(tmp_path).settled
    (tmp_path / "b").symlink_to("a")
    assert not look(tmp_path, young=YOUNG).settled
    settle()
    ahead = time.time_ns() + 10**12
    os.utime(tmp_path / "a", ns=(ahead, ahead))
    settle()
    assert not look(tmp_path).settled, "its mtime is in the future"


@pytest.mark.parametrize("young", [SETTLED, YOUNG])
def test_a_file_that_is_moved_to_where_the_glance_has_been_makes_it_none(tmp_path: Path, young: int) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "there").touch()
    settle()
    told: list[int] = []

    def tell(count: int) -> None:
        if not told:
            # The first directory was listed, the second was not.
            (tmp_path / "b/new").touch()
            (tmp_path / "b/new").rename(tmp_path / "a/new")
        told.append(count)

    assert glance(tmp_path, ALL, settled_before=time.time_ns() - young, tell=tell) is None
    assert told == [1, 2]
    assert look(tmp_path) == look(tmp_path)


def test_a_directory_too_young_to_tell_is_listed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").touch()
    # As if the clock stood still.
    monkeypatch.setattr("dsg.scan.glance._print", lambda status: (status.st_dev, status.st_ino, 1 << 62, 1 << 62))
    assert glance(tmp_path, ALL, settled_before=time.time_ns()) is not None
    assert glance(tmp_path, ALL, settled_before=time.time_ns(), tell=lambda _: (tmp_path / "b").touch()) is None


def test_what_can_not_be_looked_at_makes_it_none() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)
        (root / "closed").mkdir()

        def said() -> str:
            return "none" if glance(root, ALL, settled_before=time.time_ns()) is None else "one"

        assert unprivileged(said) == "one"
        (root / "closed").chmod(0)
        assert unprivileged(said) == "none"


def test_a_root_that_is_gone_or_no_directory_makes_it_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("file", "gone"):
        assert glance(tmp_path / name, ALL, settled_before=time.time_ns()) is None


def test_nothing_is_opened_through_a_link(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as other:
        (tmp_path / "link").symlink_to(other)
        before = look(tmp_path)
        Path(other, "new").touch()
        assert look(tmp_path).digest == before.digest
