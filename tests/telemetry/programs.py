"""Runs small programs in processes of their own: OpenTelemetry's providers can be set once a process."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Done:
    """A program that ended."""

    stdout: str
    stderr: str
    seconds: float

    def logs(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stderr.splitlines()]


def run(program: str, environment: Mapping[str, str] | None = None, *arguments: str) -> Done:
    """Run a Python program to its end, with no variables of OpenTelemetry or proxies but those given."""
    inherited = {
        key: value for key, value in os.environ.items() if not key.startswith("OTEL_") and "proxy" not in key.lower()
    }
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:dsg", "-c", program, *arguments],
        env={**inherited, **(environment or {})},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Done(done.stdout, done.stderr, time.monotonic() - began)
