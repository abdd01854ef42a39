"""The bench: the model, or the pool that DSG_TEST_POOL names."""

from __future__ import annotations

import itertools
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from dsg.storage.local_trees import LocalTrees
from dsg.storage.zfs.interface import Zfs

from .bench import Bench, Ground, ModelBench, RealBench

POOL = os.environ.get("DSG_TEST_POOL", "")
_numbers = itertools.count(1)

settings.register_profile(
    "contract",
    max_examples=3 if POOL else 60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=bool(POOL) or not os.environ.get("DSG_EXPLORE"),
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not in the share that DSG_SHARE names, as `0/4` to `3/4`: quarters of about the same size."""
    share, _, shares = os.environ.get("DSG_SHARE", "").partition("/")
    if not (POOL and shares):
        return
    here = Path(__file__).parent
    out = [i for i in items if here in i.path.parents and zlib.crc32(i.nodeid.encode()) % int(shares) != int(share)]
    config.hook.pytest_deselected(items=out)
    items[:] = [item for item in items if item not in out]


@pytest.fixture(scope="session")
def home() -> Iterator[str]:
    """The dataset above every test's own; empty on the model."""
    if not POOL:
        yield ""
        return
    from dsg.storage.zfs.command_line import CommandLineZfs

    zfs: Zfs = CommandLineZfs()
    name = f"{POOL}/contract-{os.getpid()}"
    zfs.create(name, {"mountpoint": "none"})
    yield name
    zfs.destroy(name)


@contextmanager
def made_bench(home: str, tmp_path: Path) -> Iterator[Bench]:
    made: Bench
    if POOL:
        from dsg.storage.local_host import LocalHost
        from dsg.storage.zfs.command_line import CommandLineZfs

        scratch = tmp_path / "scratch"
        scratch.mkdir()
        root = f"{home}/t{next(_numbers)}"
        made = RealBench(CommandLineZfs(), LocalHost(), LocalTrees(), root, str(scratch))
    else:
        made = ModelBench()
    made.zfs.create(made.root, {"mountpoint": "legacy", "compression": "off", "atime": "off"})
    yield made
    made.clean()


@pytest.fixture(params=["openzfs" if POOL else "model"])
def bench(home: str, tmp_path: Path) -> Iterator[Bench]:
    """A dataset and a directory of the test's own, on the model or on OpenZFS."""
    with made_bench(home, tmp_path) as made:
        yield made


@pytest.fixture(scope="session")
def mounted(home: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bench, str, str]]:
    """Two mounted datasets of OpenZFS that tests share: to make and mount them takes longer than most tests."""
    with made_bench(home, tmp_path_factory.mktemp("mounted")) as made:
        one, two = (made.mounted(made.create(name), name) for name in ("one", "two"))
        yield made, one, two


@pytest.fixture(params=["openzfs"] if POOL else ["model", "local"])
def ground(request: pytest.FixtureRequest, home: str, tmp_path: Path) -> Iterator[Ground]:
    """Two roots of the test's own: on the model, in directories of this machine, or in datasets of OpenZFS."""
    if request.param == "model":
        with made_bench(home, tmp_path) as made:
            one, two = (made.mounted(made.create(name), name) for name in ("one", "two"))
            yield Ground(made.trees, one, two, made)
        return
    bench: Bench | None = None
    above = [tmp_path, tmp_path]
    if request.param == "openzfs":
        bench, *places = request.getfixturevalue("mounted")
        above = [Path(place) / f"t{next(_numbers)}" for place in places]
    roots = [place / name for place, name in zip(above, ("one", "two"), strict=True)]
    for root in roots:
        root.mkdir(parents=True)
    yield Ground(bench.trees if bench is not None else LocalTrees(), str(roots[0]), str(roots[1]), bench)
