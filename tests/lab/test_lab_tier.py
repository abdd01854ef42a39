"""How the tests on the real parts are run one part after the other, and how they tell what failed."""

from __future__ import annotations

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
    told = "".join(part.told)
    assert "assert 1 == 2" in told
    assert "FAILED" in told and "test_bad" in told and "test_good" not in told


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
