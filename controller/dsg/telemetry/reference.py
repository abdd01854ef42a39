"""Write what is generated from the tables of metrics and alerts, or check that it is up to date (`--check`).

That is docs/reference/metrics.md, the rules and the dashboard in charts/dsg/files, and the alerts' part of
docs/operations.md.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from dsg.telemetry.dashboard import dashboard
from dsg.telemetry.rules import replaced, rules
from dsg.telemetry.table import ALL, PLANE_TABLE
from dsg.transfer.metric import DURATION_BUCKETS, Instrument, Metric

COMMAND = "python -m dsg.telemetry.reference"
PAGE = Path("docs/reference/metrics.md")
OPERATIONS = Path("docs/operations.md")
ALERTS = Path("charts/dsg/files/alerts.yaml")
DASHBOARD = Path("charts/dsg/files/dashboard.json")


def reference(table: Iterable[Metric] = ALL) -> str:
    """Return docs/reference/metrics.md: every metric of a table, as Markdown."""
    lines = [
        "# Metrics",
        "",
        "<!-- Generated from dsg.telemetry.table; do not edit. -->",
        "",
        "The operator and the monitor serve theirs at `/metrics` (Prometheus text format) of `--listen` and, where the",
        "standard `OTEL_EXPORTER_OTLP_*` variables name a collector, send the same ones there. The data plane serves",
        "its own at `/metrics` of `--metrics-listen` alone. No metric carries the name of a repository: see",
        "conditions, Events, logs and traces for that.",
        "",
    ]
    for metric in sorted(table, key=lambda metric: metric.name):
        unit = f", unit `{metric.unit}`" if metric.unit else ""
        served = "Data plane" if metric in PLANE_TABLE else f"OpenTelemetry: `{metric.name}`"
        lines += [
            f"## `{metric.prometheus_name}`",
            "",
            metric.description.rstrip(".") + ".",
            "",
            f"- {served}, {metric.instrument}{unit}",
        ]
        lines += [f"- `{name}`: {meaning}" for name, meaning in metric.attributes.items()]
        if metric.instrument is Instrument.HISTOGRAM:
            lines.append(f"- buckets: {', '.join(f'{bound:g}' for bound in DURATION_BUCKETS)}")
        lines.append("")
    return "\n".join(lines)


def pages() -> dict[Path, str]:
    """Return the content of every file that is generated."""
    return {
        PAGE: reference(),
        ALERTS: rules(),
        DASHBOARD: dashboard(),
        OPERATIONS: replaced(OPERATIONS.read_text(encoding="utf-8")),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command at the top of the source tree; return its exit code."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when a page is stale")
    check = parser.parse_args(arguments).check
    code = 0
    for page, wanted in pages().items():
        found = page.read_text(encoding="utf-8") if page.exists() else ""
        if found == wanted:
            continue
        if not check:
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(wanted, encoding="utf-8")
            continue
        difference = difflib.unified_diff(found.splitlines(True), wanted.splitlines(True), str(page), "generated")
        print(f"{''.join(difference)}\n{page} is stale: run `{COMMAND}` and commit it.", file=sys.stderr)
        code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
