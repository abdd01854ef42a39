"""Where the lab keeps things: recipes and this source tree, the cache of built parts, the state of the standing lab."""

import os
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent
RECIPES = Path(__file__).resolve().parent / "recipes"


def cache_root() -> Path:
    """Folder of built parts: `DSG_CACHE_DIR`, else `dsg` in the XDG cache folder (`~/.cache`)."""
    if explicit := os.environ.get("DSG_CACHE_DIR"):
        return Path(explicit)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dsg"


def lab_directory() -> Path:
    """State of the lab that `lab up` leaves running: `DSG_LAB_DIR`, else `lab` in the cache folder."""
    if explicit := os.environ.get("DSG_LAB_DIR"):
        return Path(explicit)
    return cache_root() / "lab"
