"""The recorded outputs of OpenZFS, by version."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

DATA = Path(__file__).with_name("data")
VERSIONS = sorted(path.stem.removeprefix("openzfs-") for path in DATA.glob("openzfs-*.json"))
JSON_VERSIONS = [version for version in VERSIONS if tuple(map(int, version.split(".")[:2])) >= (2, 3)]

DIFF_VERSIONS = [version for version in VERSIONS if "diff/clone" in (DATA / f"openzfs-{version}.json").read_text()]

each_diff_version = pytest.mark.parametrize("version", DIFF_VERSIONS)
each_version = pytest.mark.parametrize("version", VERSIONS)
each_json_version = pytest.mark.parametrize("version", JSON_VERSIONS)


@dataclass(frozen=True, slots=True)
class Output:
    """What a command left on a real node."""

    argv: tuple[str, ...]
    exit_code: int
    stdout: str
    stderr: str


@cache
def outputs(version: str) -> dict[str, Output]:
    """Return every output of a version by its name."""
    entries = json.loads((DATA / f"openzfs-{version}.json").read_text())
    return {
        name: Output(tuple(entry["argv"]), entry["exit_code"], _shown(entry["stdout"]), _shown(entry["stderr"]))
        for name, entry in entries.items()
    }


def _shown(text: str) -> str:
    """Decode as the runner's users do."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
