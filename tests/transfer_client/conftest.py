"""One data plane for all tests of this directory, and one for each test that kills it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from dsg.transfer.client import Identity
from tests.transfer_client.relay import Relay
from tests.transfer_client.world import World


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    found = World(tmp_path_factory.mktemp("plane"))
    found.start()
    yield found
    found.kill()


@pytest.fixture
def own_world(tmp_path: Path) -> Iterator[World]:
    (tmp_path / "plane").mkdir()
    found = World(tmp_path / "plane")
    found.start()
    yield found
    found.kill()


@pytest.fixture
def uid() -> str:
    return str(uuid.uuid4())


@pytest.fixture
def identity() -> Identity:
    return Identity.make()


@pytest.fixture
def relay(world: World) -> Iterator[Relay]:
    with Relay(world.port) as found:
        yield found


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    (tmp_path / "stage").mkdir()
    return tmp_path / "stage"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store"
