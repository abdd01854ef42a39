"""Built parts are kept by content, built once, and never left half-done."""

import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import cache
from lab.errors import LabError


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DSG_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _write(folder: Path, log: Path) -> None:
    (folder / "result").write_text("built")


def test_a_part_is_built_once_for_one_key_and_again_for_another(own_cache: Path) -> None:
    built: list[str] = []

    def get(key: str) -> Path:
        def build(folder: Path, log: Path) -> None:
            built.append(key)
            _write(folder, log)

        return cache.cached("part", key, "a part", "at once", build)

    assert get("k1") == get("k1") == own_cache / "part" / "k1"
    get("k2")
    assert built == ["k1", "k2"]


def test_a_failed_build_leaves_nothing_shows_its_log_and_can_be_repeated(own_cache: Path) -> None:
    def fail(folder: Path, log: Path) -> None:
        (folder / "half").write_text("")
        cache.run_logged(["sh", "-c", "echo the reason; exit 3"], log, timeout=10)

    with pytest.raises(LabError, match=r"(?s)exit status 3.*the reason.*Nothing was kept"):
        cache.cached("part", "k", "a part", "at once", fail)
    assert not [entry for entry in (own_cache / "part").iterdir() if entry.is_dir()]
    assert (cache.cached("part", "k", "a part", "at once", _write) / "result").read_text() == "built"


def test_what_a_killed_build_left_is_cleared_first(own_cache: Path) -> None:
    partial = own_cache / "part" / "k.partial"
    partial.mkdir(parents=True)
    (partial / "rubbish").write_text("")
    result = cache.cached("part", "k", "a part", "at once", _write)
    assert [f.name for f in result.iterdir()] == ["result"]


def test_two_at_once_build_once(own_cache: Path) -> None:
    built: list[int] = []

    def slow(folder: Path, log: Path) -> None:
        built.append(1)
        time.sleep(0.2)
        _write(folder, log)

    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(cache.cached("part", "k", "a part", "at once", slow)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    assert len(set(found)) == 1 and len(found) == 3


def test_a_command_over_its_time_is_an_error_of_the_lab(own_cache: Path) -> None:
    def hang(folder: Path, log: Path) -> None:
        cache.run_logged(["sleep", "60"], log, timeout=0.1)

    with pytest.raises(LabError, match="timed out"):
        cache.cached("part", "k", "a part", "at once", hang)


def test_the_key_follows_names_contents_and_execute_bits(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe"
    recipe.mkdir()
    file = recipe / "build.sh"
    file.write_text("one")
    keys = [cache.folder_key(recipe)]
    file.write_text("two")
    keys.append(cache.folder_key(recipe))
    os.chmod(file, 0o755)
    keys.append(cache.folder_key(recipe))
    file.rename(recipe / "other.sh")
    keys.append(cache.folder_key(recipe))
    keys.append(cache.folder_key(recipe, "x86_64"))
    assert len(set(keys)) == len(keys)
    assert cache.folder_key(recipe) == keys[3]


@given(st.lists(st.text(max_size=8), max_size=5), st.lists(st.text(max_size=8), max_size=5))
def test_keys_of_different_settings_differ(one: list[str], two: list[str]) -> None:
    assert (cache.recipe_key([], *one) == cache.recipe_key([], *two)) == (one == two)


def test_the_tail_of_a_missing_log_says_so(tmp_path: Path) -> None:
    assert "no log" in cache.tail(tmp_path / "nothing")


def test_pruning_takes_what_nothing_has_used_for_long_and_leaves_the_rest(own_cache: Path) -> None:
    parts = {key * 64: cache.cached("part", key * 64, "a part", "at once", _write) for key in "abcd"}
    (own_cache / "lab").mkdir()
    (own_cache / "lab" / "node-a").mkdir()
    old = time.time() - 10 * 86400
    for folder in [*parts.values(), own_cache / "lab" / "node-a"]:
        os.utime(folder, (old, old))
    assert cache.found("part", "b" * 64) == parts["b" * 64]
    os.utime(parts["c" * 64], (time.time(), time.time()))
    assert cache.prune(7, keep=[parts["d" * 64]]) == [parts["a" * 64]]
    assert sorted(f.name[0] for f in (own_cache / "part").iterdir() if f.is_dir()) == ["b", "c", "d"]
    assert (own_cache / "lab" / "node-a").is_dir()
