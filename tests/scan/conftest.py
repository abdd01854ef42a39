"""What tests of scans share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dsg.scan import scan


@pytest.fixture(scope="module", params=[scan.SMALL, -1], ids=["here", "in-threads"])
def small(request: pytest.FixtureRequest) -> Iterator[int]:
    """Have small files hashed by who scans, as where the storage is fast, or all by threads, as where it is slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "SMALL", request.param)
        yield request.param
