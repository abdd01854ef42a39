"""One API server for all tests here that need it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.api.server import Server, serving


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("api")) as running:
        yield running
