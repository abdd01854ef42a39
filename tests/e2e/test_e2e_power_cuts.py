"""A storage node loses power in the middle of everything, and nothing acknowledged is lost, nothing half-done seen.

DSG_CUTS sets how often (`make soak`), DSG_SEED when.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from lab.node import StorageNode
from tests.e2e.power import Power, cuts

pytestmark = pytest.mark.zfs

CUTS = int(os.environ.get("DSG_CUTS", "5"))


def test_power_cuts_under_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seed = int(os.environ.get("DSG_SEED", random.SystemRandom().randrange(1 << 30)))

    def say(text: str) -> None:
        with capsys.disabled():
            print(text, flush=True)

    say(f"\n{CUTS} power cuts, DSG_SEED={seed}")
    with StorageNode(tmp_path / "node", "node-p") as node:
        tally = cuts(Power(node, seed), CUTS, say)
    say(f"{tally}; {tally.acks / tally.seconds:.2f} commits a second under load")
    assert tally.cuts == CUTS
    assert tally.acks > CUTS
    assert tally.reads > 0
