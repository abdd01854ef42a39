from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.transfer.server import Place, Served


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for all tests that need no limits of their own."""
    running = Served(tmp_path_factory.mktemp("server"))
    yield running
    running.stop()


@pytest.fixture
def place(tmp_path: Path, served: Served) -> Place:
    return Place(tmp_path, served)
