"""A cluster for the plugin's tests: a fake kubectl on the PATH, and what it is to say."""

from __future__ import annotations

import json
import os
import stat
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FAKE = Path(__file__).with_name("fake_kubectl.py")
ENDPOINT = {"url": "https://127.0.0.1:1", "certificateFingerprint": "0" * 64}
CHAIN = "c" * 64


def condition(status: str, reason: str, message: str) -> dict[str, Any]:
    return {
        "type": "Ready",
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": "2026-01-31T12:00:00Z",
    }


def repository(name: str = "justice", *, head: int = 0, ready: str = "True", **spec: Any) -> dict[str, Any]:
    status: dict[str, Any] = {
        "observedGeneration": 1,
        "conditions": [condition(ready, "Reconciled" if ready == "True" else "PoolUnavailable", "the pool is away")],
        "storage": {"location": "/data/justice", "used": "56.0Ki"},
    }
    if head:
        status["head"] = {"version": f"s{head}", "digest": CHAIN, "author": "ana", "time": "2026-01-31T12:00:00Z"}
    return {
        "apiVersion": "dsg.hrdag.org/v1alpha1",
        "kind": "Repository",
        "metadata": {"name": name, "namespace": "research", "uid": f"uid-{name}", "generation": 1},
        "spec": {
            "storage": {"type": "xfs", "node": "node-a", "directory": "/data/justice", "mountpoint": "/srv/justice"},
            "owner": {"uid": 2000, "gid": 2000, "mode": "2770"},
            "dataDirs": ["input", "output"],
            **spec,
        },
        "status": status,
    }


@dataclass
class World:
    home: Path
    said: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (self.home / "objects" / "research").mkdir(parents=True)
        self.said = {
            "user": "ana",
            "server": "v1.33.0",
            "contexts": ["lab"],
            "kinds": ["repositories.dsg.hrdag.org", "synctransactions.dsg.hrdag.org"],
            "operator": {
                "Stage": [{"phase": "Staging", "endpoint": ENDPOINT}],
                "Read/Stage": [{"phase": "Serving", "endpoint": ENDPOINT}],
                "Commit": [
                    {"phase": "Verifying"},
                    {"phase": "Committed", "version": "s1", "reason": "Committed", "message": "done"},
                ],
                "Abort": [{"phase": "Aborted", "reason": "Aborted", "message": "aborted as asked"}],
                "Read/Abort": [{"phase": "Closed", "reason": "Closed", "message": "closed as asked"}],
            },
        }
        self.save()

    def save(self) -> None:
        (self.home / "world.json").write_text(json.dumps(self.said))

    def operator(self, intent: str, *steps: dict[str, Any]) -> None:
        self.said["operator"][intent] = list(steps)
        self.save()

    def fails(self, command: str, text: str) -> None:
        self.said.setdefault("fail", {})[command] = text
        self.save()

    def hangs(self, command: str, seconds: float) -> None:
        self.said.setdefault("hang", {})[command] = seconds
        self.save()

    def put(self, obj: dict[str, Any], namespace: str = "research") -> None:
        place = self.home / "objects" / namespace
        place.mkdir(exist_ok=True)
        (place / f"{obj['metadata']['name']}.json").write_text(json.dumps(obj))

    def transactions(self) -> list[dict[str, Any]]:
        found = [json.loads(path.read_text()) for path in sorted((self.home / "objects").glob("*/*.json"))]
        return [one for one in found if one["kind"] == "SyncTransaction"]

    def calls(self) -> list[tuple[list[str], dict[str, str]]]:
        path = self.home / "calls.jsonl"
        return [tuple(json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def binary(self) -> Path:
        """The fake as one command."""
        path = self.home / "kubectl"
        if not path.exists():
            path.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {FAKE} "$@"\n')
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    def environment(self) -> dict[str, str]:
        return {**os.environ, "KUBECTL": str(self.binary), "FAKE_KUBECTL": str(self.home)}
