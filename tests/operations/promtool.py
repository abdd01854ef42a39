"""Rules evaluated by Prometheus' own promtool, on metrics pages as the processes serve them."""

from __future__ import annotations

import json
import math
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

_ABSENT = "_"
RULES = Path(__file__).resolve().parents[2] / "charts/dsg/files/alerts.yaml"

Pages = Mapping[str, str]
"""Metrics pages as text, by the address at which they are scraped."""


@dataclass(frozen=True)
class Scenario:
    """Pages that stay for so many minutes each, one after the other, and the alerts that fire at the end."""

    name: str
    course: Sequence[tuple[int, Pages]]
    firing: frozenset[str]
    about: str = ".+"
    """Regular expression of the alerts that are looked at."""


def test_file(scenarios: Sequence[Scenario], directory: Path) -> Path:
    """Write a file for `promtool test rules`; one test for each scenario."""
    tests = [
        {
            "name": one.name,
            "interval": "1m",
            "input_series": _series(one.course),
            "promql_expr_test": [
                {
                    # Whatever fires, so that an alert that nobody expects is found too.
                    "expr": f'count by (alertname) (ALERTS{{alertstate="firing",alertname=~"{one.about}"}}) > bool 0',
                    "eval_time": f"{sum(minutes for minutes, _ in one.course)}m",
                    "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in sorted(one.firing)],
                }
            ],
        }
        for one in scenarios
    ]
    path = directory / "tests.json"
    # JSON is YAML, and many times faster to write.
    path.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    return path


def run(program: Path, *arguments: str) -> str:
    """Run promtool; fails with what it says."""
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def judge(program: Path, scenarios: Sequence[Scenario], directory: Path) -> None:
    """Fail unless in each scenario those alerts fire that should, and no others."""
    run(program, "test", "rules", str(test_file(scenarios, directory)))


def _series(course: Sequence[tuple[int, Pages]]) -> list[dict[str, str]]:
    values: dict[str, list[str]] = {}
    for number, (_, pages) in enumerate(course):
        for address, text in pages.items():
            for family in text_string_to_metric_families(text):
                if not family.name.startswith(("dsg_", "target")):
                    continue
                for sample in family.samples:
                    # As the chart's PodMonitor has them scraped.
                    target = {"instance": address, "job": "dsg", "node": address.partition(":")[0]}
                    name = _selector(sample.name, {**sample.labels, **target})
                    values.setdefault(name, [_ABSENT] * len(course))[number] = _number(sample.value)
    # One sample more at the end, at which is evaluated.
    lengths = [minutes for minutes, _ in course]
    lengths[-1] += 1
    return [{"series": name, "values": _course(found, lengths)} for name, found in values.items()]


def _course(values: Sequence[str], lengths: Sequence[int]) -> str:
    parts, before = [], _ABSENT
    for value, length in zip(values, lengths, strict=True):
        if value == _ABSENT and before != _ABSENT:
            # As Prometheus notes a series that a page no longer has.
            parts.append("stale" if length == 1 else f"stale _x{length - 1}")
        else:
            parts.append(f"_x{length}" if value == _ABSENT else f"{value}x{length - 1}")
        before = value
    return " ".join(parts)


def _selector(name: str, labels: Mapping[str, str]) -> str:
    return f"{name}{{{','.join(f'{label}={json.dumps(value)}' for label, value in sorted(labels.items()))}}}"


def _number(value: float) -> str:
    assert math.isfinite(value)
    return f"{value:.6f}".rstrip("0").rstrip(".")


def loaded_rules() -> list[dict[str, Any]]:
    """Return the rules of the file, in order."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


NAME = re.compile(r"\bdsg_[a-z_]+\b")
"""A metric, or a label, of ours in PromQL."""
