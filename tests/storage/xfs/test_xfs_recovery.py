"""The operator is killed before and after every act on the file system, of every kind of work, and starts again.

The acts are taken from the running code: every call of the two interfaces that reaches the file system.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dsg.reconcile.cluster import Key
from dsg.reconcile.engine import Engine
from dsg.reconcile.store import Store
from dsg.storage.local_host import LocalHost
from dsg.storage.xfs.files import LocalFiles
from dsg.storage.xfs.pool import XfsPools
from dsg.storage.xfs.repository import XfsRepositories
from tests.storage.xfs.test_xfs_repositories import XfsWorld

KEY = Key("Repository", "research", "justice")


class Killed(BaseException):
    """The process is gone."""


class Struck:
    """Passes calls on, and is killed at the `stop`-th moment; each call has one before and one after it."""

    def __init__(self, inner: object, moments: list[str], stop: int) -> None:
        self._inner, self._moments, self._stop = inner, moments, stop

    def _moment(self, name: str) -> None:
        self._moments.append(name)
        if len(self._moments) == self._stop:
            raise Killed

    def __getattr__(self, name: str) -> Any:
        act = getattr(self._inner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self._moment(f"before {name}")
            result = act(*args, **kwargs)
            self._moment(f"after {name}")
            return result

        return call


def strike(world: XfsWorld, stop: int) -> list[str]:
    """Let an operator run that is killed at one moment; return the moments that passed."""
    moments: list[str] = []
    host: Any = Struck(LocalHost(), moments, stop)
    files: Any = Struck(LocalFiles(), moments, stop)
    world.store = Store()
    world.engine = Engine(
        "node-a",
        {"xfs": XfsRepositories(host, files)},
        {"xfs": XfsPools(host, files)},
        world.cluster,
        world.store,
        lambda: world.now,
    )
    with contextlib.suppress(Killed):
        world.run()
    world.restart()
    for _ in range(3):
        world.run()
    return moments


def nothing(world: XfsWorld) -> None:
    world.apply(world.pool())
    world.run()


def with_data(world: XfsWorld) -> None:
    world.apply(world.pool(), world.repository())
    world.run()
    (world.directory / "g1" / "evidence").write_text("irreplaceable")


def retained(world: XfsWorld) -> None:
    with_data(world)
    world.cluster.delete(KEY)
    world.run()


def confirmed(world: XfsWorld) -> None:
    obj = world.repository(deletionPolicy="Delete")
    obj["metadata"]["annotations"] = {"dsg.hrdag.org/confirm-delete": "justice"}
    world.apply(world.pool(), obj)
    world.run()


def change(world: XfsWorld) -> None:
    obj = world.repository()
    obj["spec"]["owner"]["mode"] = "0750"
    world.apply(obj)


def drift(world: XfsWorld) -> None:
    (world.directory / "g1").chmod(0o777)
    world.public.unlink()


WORK: dict[str, tuple[Callable[[XfsWorld], None], Callable[[XfsWorld], None]]] = {
    "create": (nothing, lambda world: world.apply(world.repository())),
    "change": (with_data, change),
    "correct": (with_data, drift),
    "release": (with_data, lambda world: world.cluster.delete(KEY)),
    "adopt": (retained, lambda world: world.apply(world.repository(storage={"adopt": True}))),
    "destroy": (confirmed, lambda world: world.cluster.delete(KEY)),
}


def picture(world: XfsWorld) -> dict[str, Any]:
    base = world.base
    paths = {
        str(path.relative_to(base)): (
            str(path.readlink()) if path.is_symlink() else path.stat().st_mode,
            path.read_text() if path.is_file() and path.name == "evidence" else "",
        )
        for path in sorted(base.rglob("*"))
    }
    objects = {
        str(key): [(c["type"], c["status"], c["reason"]) for c in obj["status"].get("conditions", [])]
        for key, obj in world.cluster.objects.items()
    }
    return {"paths": {k.replace(base.name, ""): v for k, v in paths.items()}, "objects": objects}


def relative(picture_: dict[str, Any], base: Path) -> str:
    return str(picture_).replace(str(base), "BASE")


@pytest.mark.parametrize("name", WORK)
def test_killed_at_any_moment_the_work_ends_as_if_nothing_had_happened(name: str, tmp_path: Path) -> None:
    prepare, act = WORK[name]

    def at(stop: int) -> tuple[str, list[str], XfsWorld]:
        world = XfsWorld(tmp_path / f"node-{stop}")
        prepare(world)
        act(world)
        moments = strike(world, stop)
        return relative(picture(world), world.base), moments, world

    wanted, moments, _ = at(0)
    assert len(moments) > 8
    for stop in range(1, len(moments) + 1):
        found, _, world = at(stop)
        where = f"{name}, killed {moments[stop - 1]} ({stop} of {len(moments)})"
        assert found == wanted, where
        if name != "correct":
            assert world.told("DriftCorrected") == [], where
