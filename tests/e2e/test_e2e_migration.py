"""An older repository through everything: its config applied, its versions adopted, read back by a researcher."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from dsg.api.access import CERTAIN_AFTER
from tests.e2e.cluster import NAMESPACE, Cluster, repository
from tests.e2e.test_e2e_researchers import Researcher, _strike, plane
from tests.migration.adopting import tree
from tests.migration.old_dsg import TREES, OldRepository, facts

pytestmark = [pytest.mark.lab, pytest.mark.lot]

__all__ = ["plane"]


def test_an_older_repository_becomes_one_of_ours(plane: Cluster, tmp_path: Path) -> None:
    old = OldRepository(tmp_path / "old")
    for number, user in ((0, "alice@example.org"), (1, "bob@example.org")):
        old.sync(TREES[number], user=user)
    before = facts(old.root)
    alice, bob = (Researcher(plane, user, tmp_path / user) for user in ("alice", "bob"))
    spec = repository("adopted", access={"writers": {"groups": ["researchers"]}})["spec"]
    policy = tmp_path / "policy.yaml"
    policy.write_text(yaml.safe_dump({key: spec[key] for key in ("storage", "owner", "access")}))
    config = ("migrate", "config", str(old.root / ".dsgconfig.yml"), "--name", "adopted")
    incomplete = alice.dsg(*config, "-n", NAMESPACE, code=3)
    assert "The Repository is not complete; the API refuses it as it is." in incomplete
    # What is not complete is refused by the real API server, too.
    refused = plane.try_apply(yaml.safe_load(incomplete.partition("note: ")[0]))
    assert refused.returncode != 0
    made = json.loads(alice.dsg(*config, "-n", NAMESPACE, "--spec", str(policy), "-o", "json").partition("\nnote:")[0])
    assert made["complete"]
    plane.apply(made["repository"])
    plane.wait_ready("adopted", timeout=180)
    # Groups count for transactions that are certainly younger than their Repository.
    time.sleep(CERTAIN_AFTER.seconds)

    migrate = ("migrate", "repository", str(old.root), "--to", "adopted", "-n", NAMESPACE)
    # Nobody can write there: mounted read-only, in a mount namespace of the command's own.
    script = f'mount --bind {old.root} {old.root} && mount -o remount,bind,ro {old.root} && exec kubectl dsg "$@"'
    checked = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", *migrate, "--check"],
        env=alice.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "Everything that can be verified is as the manifests say" in checked.stdout
    _strike(alice.start(*migrate), 6.0)
    running = alice.start(*migrate)
    said, _ = running.communicate(timeout=600)
    assert running.returncode == 0, said
    assert "s2 is s2" in said
    assert "All that has content was adopted before" in alice.dsg(*migrate)
    assert facts(old.root) == before

    bob.dsg("clone", "adopted", str(bob.copy), "-n", NAMESPACE)
    log = json.loads(bob.dsg("log", "-o", "json"))["versions"]
    assert [one["version"] for one in log] == ["s2", "s1"]
    assert "Dsg-Origin-Author: bob@example.org" in log[0]["message"]
    for number in (1, 2):
        there = tmp_path / f"v{number}"
        bob.dsg("fetch", ".", "--version", f"s{number}", "-O", str(there))
        found = {path: it for path, it in tree(there).items() if not path.startswith("dsg-provenance/")}
        assert found == TREES[number - 1]
    snapshots = plane.sh("zfs", "list", "-H", "-o", "name", "-t", "snapshot", "-r", "tank/dsg/adopted")
    assert "s1" in {name.rpartition("@")[2] for name in snapshots.splitlines()}
