"""How the tests on the real parts are run one part after the other, and how they tell what failed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lab import tier
from lab.paths import TREE


def test_each_folder_of_tests_is_in_one_part() -> None:
    folders = sorted({f"tests/{file.parent.name}" for file in TREE.glob("tests/*/test_*.py")})
    assert sorted(word for part in tier.parts(1) for word in part.arguments if word.startswith("tests/")) == folders


def test_a_part_shows_each_line_with_its_name_and_keeps_what_failed_for_the_end(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test_some.py").write_text(
        "def test_bad():\n    print('said')\n    assert 1 == 2\n\ndef test_good():\n    pass\n"
    )
    part = tier.Part("some", (str(tmp_path), "-s"))
    part.start().join()
    lines = capfd.readouterr().out.splitlines()
    assert part.code == 1
    assert all(" some    | " in line for line in lines)
    assert any("said" in line for line in lines)
    assert any("assert 1 == 2" in line for line in part.why)
    (failed,) = part.failed
    assert "test_some.py::test_bad" in failed


def test_at_the_end_it_names_what_failed_in_any_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    made = []
    for name, line in (("one", "assert 1 == 2"), ("two", "pass"), ("three", "assert 3 == 4")):
        file = tmp_path / f"test_{name}.py"
        file.write_text(f"def test_{name}():\n    {line}\n")
        made.append(tier.Part(name, (str(file),)))
    monkeypatch.setattr(tier, "parts", lambda _minutes: tuple(made))
    monkeypatch.setattr(sys, "argv", ["tier"])
    assert tier.main() == 1
    *_, why_one, why_three, one, three = capfd.readouterr().out.splitlines()
    assert why_one.startswith("one | E ") and why_three.startswith("three | E ")
    assert one.startswith("one | FAILED") and "test_one" in one
    assert three.startswith("three | FAILED") and "test_three" in three


def test_a_part_that_is_stopped_ends_as_by_ctrl_c(tmp_path: Path) -> None:
    begun, ended = tmp_path / "begun", tmp_path / "ended"
    (tmp_path / "test_long.py").write_text(
        "import pathlib, time\n"
        "def test_long():\n"
        f"    pathlib.Path({str(begun)!r}).touch()\n"
        f"    try:\n        time.sleep(60)\n    finally:\n        pathlib.Path({str(ended)!r}).touch()\n"
    )
    part = tier.Part("long", (str(tmp_path),))
    shown = part.start()
    while not begun.exists():
        shown.join(0.05)
    part.stop()
    shown.join(30)
    assert ended.exists()
    assert part.code == 2
