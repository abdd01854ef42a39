"""A new researcher follows the tutorial to the letter, in the shell that `make demo-shell` opens."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo import shell
from demo.world import LocalWorld
from lab.paths import TREE
from tests.docs.reader import Reader

pytestmark = pytest.mark.xdist_group("demo")


def test_the_first_day(tmp_path: Path) -> None:
    with LocalWorld(tmp_path) as world:
        world.open()
        shell.set_up(world)
        reader = Reader(world.directory, shell.environment(world))
        try:
            assert reader.follow(TREE / "docs" / "tutorials" / "researcher.md") > 30
        finally:
            reader.close()
