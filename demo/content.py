"""Real input for the story: a few of the public data sets that the package vega_datasets carries (BSD-3-Clause)."""

from __future__ import annotations

import shutil
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from lab.errors import LabError

INPUT = ("la-riots.csv", "us-employment.csv", "airports.csv", "sf-temps.csv", "crimea.json", "barley.json")
"""What the first version holds, below `input`."""


def published(name: str) -> Path:
    """Return a file as it was published. Raises LabError where the package is missing.

    The package is not imported: that would need pandas, and only its files are used.
    """
    try:
        found = distribution("vega_datasets").locate_file(f"vega_datasets/_data/{name}")
    except PackageNotFoundError as error:
        raise LabError("vega_datasets is not installed; `make venv` installs it") from error
    return Path(str(found))


def fetch(directory: Path) -> None:
    """Copy the files to a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in INPUT:
        shutil.copyfile(published(name), directory / name)
