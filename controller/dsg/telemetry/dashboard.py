"""The Grafana dashboard, charts/dsg/files/dashboard.json: made from this table of panels."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from dsg.api.reasons import POOL, REPOSITORY, ConditionType
from dsg.telemetry import table
from dsg.telemetry.alert import select
from dsg.transfer.metric import Metric
from dsg.transfer.server import metrics as plane

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH = 24
"""Columns of Grafana's grid."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: what it shows, and how."""

    title: str
    unit: str
    """In Grafana's words, such as `s` or `percentunit`."""
    queries: tuple[tuple[str, str], ...]
    """PromQL, and what its series are called."""
    says: str = ""
    kind: str = "timeseries"
    width: int = 8
    height: int = 7
    red_from: float | None = None
    """Value from which a number is red; None: never."""


def _now(title: str, expr: str, says: str, *, unit: str = "none", red_from: float | None = None) -> Panel:
    return Panel(title, unit, ((expr, ""),), says, "stat", width=4, height=4, red_from=red_from)


def _quantile(part: float, metric: Metric, by: str) -> str:
    return f"histogram_quantile({part}, sum by (le, {by}) (rate({metric.prometheus_name}_bucket[$__rate_interval])))"


def _rate(by: str, selector: str) -> str:
    return f"sum by ({by}) (rate({selector}[$__rate_interval]))"


_ALERTS = 'sum(ALERTS{alertname=~"Dsg.+",alertstate="firing"}) or vector(0)'

_WITHOUT_VERSION = select(table.TRANSACTIONS, outcome="=~Failed|Conflict|Expired")

ROWS: dict[str, tuple[Panel, ...]] = {
    "Overview": (
        _now("Alerts firing", _ALERTS, "Each has a runbook in docs/operations.md.", red_from=1),
        _now(
            "Nodes lost",
            f"count(min by (dsg_node) ({select(table.NODE_LEASE_AGE)}) > 40) or vector(0)",
            "Nodes whose operators have not renewed their Lease.",
            red_from=1,
        ),
        _now(
            "Repositories not ready",
            f"sum({select(table.OBJECTS, kind=REPOSITORY, ready='!=True')})",
            "Of all nodes; the reasons are below.",
            red_from=1,
        ),
        _now(
            "Pools not ready",
            f"sum({select(table.OBJECTS, kind=POOL, ready='!=True')})",
            "StoragePools of all nodes.",
            red_from=1,
        ),
        _now("Open transactions", f"sum({select(table.TRANSACTIONS_OPEN)})", "Reads and writes of all nodes."),
        _now(
            "Since the last commit",
            f"time() - max({select(table.LAST_COMMIT)})",
            "Since the newest version of any repository.",
            unit="s",
        ),
        Panel(
            "Not ready, by reason",
            "none",
            ((f"sum by (kind, reason) ({select(table.OBJECTS_UNREADY)})", "{{kind}} {{reason}}"),),
            "docs/reference/conditions.md says what each reason means.",
        ),
        Panel(
            "Drifted, blocked, unexpected",
            "none",
            ((f"sum by (type) ({select(table.CONDITIONS, kind=REPOSITORY)})", "{{type}}"),),
            "Repositories for which a condition is True.",
        ),
        Panel(
            "Ages",
            "s",
            (
                (f"max by (node, instance) ({select(table.RESYNC_AGE)})", "resync {{node}} {{instance}}"),
                (f"max by (node, instance) ({select(table.WATCH_AGE)})", "watch {{node}} {{instance}}"),
                (f"max by (dsg_node) ({select(table.NODE_LEASE_AGE)})", "Lease {{dsg_node}}"),
            ),
            "How old the operators' view is.",
        ),
        Panel(
            "Passes",
            "s",
            (
                (_quantile(0.5, table.PASS_DURATION, "node, instance"), "median {{node}} {{instance}}"),
                (_quantile(0.99, table.PASS_DURATION, "node, instance"), "99 % {{node}} {{instance}}"),
            ),
            "How long passes take.",
        ),
        Panel(
            "Requests to the Kubernetes API",
            "reqps",
            ((_rate("resource, outcome", select(table.API_REQUESTS)), "{{resource}} {{outcome}}"),),
        ),
        Panel(
            "Clock against the API server's",
            "s",
            ((select(table.CLOCK_OFFSET), "{{node}} {{instance}}"),),
            "Exact to about 2 seconds.",
        ),
    ),
    "Pools": (
        Panel("Capacity", "percentunit", ((select(table.POOL_CAPACITY), "{{pool}}"),)),
        Panel(
            "State",
            "none",
            ((f"{select(table.POOL_HEALTH)} == 1", "{{pool}} {{health}}"),),
            "One line for the state that each pool is in.",
        ),
        Panel("Errors", "none", ((f"sum by (pool, type) ({select(table.POOL_ERRORS)})", "{{pool}} {{type}}"),)),
        Panel("Fragmentation", "percentunit", ((select(table.POOL_FRAGMENTATION), "{{pool}}"),)),
        Panel(
            "Warnings of pools",
            "none",
            (
                (
                    "sum by (type) ("
                    + select(
                        table.CONDITIONS,
                        kind=POOL,
                        type=f"=~{ConditionType.CAPACITY_PRESSURE}|{ConditionType.FRAGMENTED}|{ConditionType.SCRUB_OVERDUE}",
                    )
                    + ")",
                    "{{type}}",
                ),
            ),
            "Pools beyond a threshold of their StoragePool.",
        ),
        Panel("Fullest quota", "percentunit", ((select(table.QUOTA_USED), "{{node}} {{instance}}"),)),
        Panel(
            "Storage commands",
            "s",
            ((_quantile(0.99, table.STORAGE_TABLE[0], "program, verb"), "{{program}} {{verb}}"),),
            "99 % take no longer.",
        ),
        Panel(
            "Storage commands that failed",
            "ops",
            (
                (
                    _rate("program, outcome", select(table.STORAGE_TABLE[1], outcome="!=success")),
                    "{{program}} {{outcome}}",
                ),
            ),
        ),
        Panel(
            "Changes on the node",
            "ops",
            (
                (_rate("step", select(table.STEPS)), "{{step}}"),
                (_rate("node, instance", select(table.DRIFT_CORRECTED)), "drift set back {{node}} {{instance}}"),
            ),
            "A quiet node takes no steps.",
        ),
    ),
    "Transactions": (
        Panel("Open, by phase", "none", ((f"sum by (phase) ({select(table.TRANSACTIONS_OPEN)})", "{{phase}}"),)),
        Panel(
            "Ended in an hour",
            "none",
            (
                (
                    f"sum by (operation, outcome) (increase({select(table.TRANSACTIONS)}[1h])) > 0",
                    "{{operation}} {{outcome}}",
                ),
            ),
        ),
        Panel(
            "Without a version, in an hour",
            "none",
            ((f"sum by (reason) (increase({_WITHOUT_VERSION}[1h])) > 0", "{{reason}}"),),
        ),
        Panel(
            "Steps, median",
            "s",
            ((_quantile(0.5, table.TRANSACTION_STEPS, "step"), "{{step}}"),),
        ),
        Panel("Steps, 99 %", "s", ((_quantile(0.99, table.TRANSACTION_STEPS, "step"), "{{step}}"),)),
        Panel(
            "Oldest open, and beyond its timeout",
            "s",
            (
                (select(table.TRANSACTIONS_AGE), "oldest {{node}} {{instance}}"),
                (select(table.TRANSACTIONS_OVERDUE), "overdue {{node}} {{instance}}"),
            ),
        ),
        Panel(
            "Versions that retention would prune",
            "none",
            (
                (
                    f"sum by (node, instance, state) ({select(table.RETENTION_BACKLOG)})",
                    "{{node}} {{instance}} {{state}}",
                ),
            ),
        ),
    ),
    "Data plane": (
        Panel(
            "Bytes",
            "Bps",
            ((_rate("node, instance, direction", select(plane.BYTES)), "{{node}} {{instance}} {{direction}}"),),
        ),
        Panel("Requests", "reqps", ((_rate("route, status", select(plane.REQUESTS)), "{{route}} {{status}}"),)),
        Panel(
            "Refused",
            "reqps",
            ((f"{_rate('code', select(plane.REFUSED))} > 0", "{{code}}"),),
            "docs/data-plane.md says what each code means.",
        ),
        Panel("Request duration, 99 %", "s", ((_quantile(0.99, plane.DURATION, "route"), "{{route}}"),)),
        Panel(
            "Under way",
            "none",
            (
                (select(plane.IN_FLIGHT), "requests {{node}} {{instance}}"),
                (select(plane.CONNECTIONS), "connections {{node}} {{instance}}"),
                (select(plane.HANGING), "hanging calls {{node}} {{instance}}"),
            ),
        ),
        Panel(
            "Idle timeouts, connections turned away",
            "ops",
            (
                (_rate("node, instance, direction", select(plane.IDLE)), "idle {{node}} {{instance}} {{direction}}"),
                (_rate("node, instance", select(plane.TURNED_AWAY)), "turned away {{node}} {{instance}}"),
            ),
        ),
        Panel(
            "Silence of data planes",
            "s",
            ((select(table.PLANE_SILENCE), "beside {{node}} {{instance}}"),),
            "As the operator beside it sees it.",
        ),
    ),
}
"""All panels, by row."""


def dashboard() -> str:
    """Return the dashboard as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS.items():
        panels.append({"type": "row", "title": title, "gridPos": _place(0, y, _WIDTH, 1), "collapsed": False})
        y += 1
        x = tallest = 0
        for panel in row:
            if x + panel.width > _WIDTH:
                x, y, tallest = 0, y + tallest, 0
            panels.append(_panel(panel, _place(x, y, panel.width, panel.height)))
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest
    for number, panel_json in enumerate(panels, 1):
        panel_json["id"] = number
    whole = {
        "title": "dsg",
        "uid": "dsg",
        "tags": ["dsg"],
        "description": "Made by python -m dsg.telemetry.reference from dsg.telemetry.dashboard.",
        "schemaVersion": 39,
        "editable": True,
        "timezone": "browser",
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "1m",
        "templating": {
            "list": [{"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}]
        },
        "panels": panels,
    }
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def _place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def _panel(panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.red_from is not None:
        steps.append({"color": "red", "value": panel.red_from})
    made: dict[str, Any] = {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.says,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}},
            "overrides": [],
        },
        "targets": [
            {"refId": chr(ord("A") + number), "datasource": _SOURCE, "expr": expr, "legendFormat": legend or "__auto"}
            for number, (expr, legend) in enumerate(panel.queries)
        ],
    }
    if panel.kind == "stat":
        made["options"] = {"colorMode": "value", "reduceOptions": {"calcs": ["lastNotNull"]}}
    else:
        made["options"] = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
    return made
