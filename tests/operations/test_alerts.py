"""Alerts, runbooks and the dashboard speak of what there is: metrics, labels, reasons, commands."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from dsg.api.reasons import BY_NAME, CONDITION_TYPES
from dsg.plugin.cli import PANELS
from dsg.telemetry.alert import Alert, Severity, select
from dsg.telemetry.alerts import ALERTS
from dsg.telemetry.dashboard import dashboard
from dsg.telemetry.rules import BEGIN, END, replaced
from dsg.telemetry.table import ALL, TRANSACTIONS
from dsg.transfer.metric import Instrument
from dsg.transfer.problems import Code
from tests.operations.promtool import NAME, loaded_rules

TREE = Path(__file__).resolve().parents[2]
PAGE = (TREE / "docs/operations.md").read_text()
LABELS = {label for metric in ALL for label in metric.attributes}
SHOWN = {
    metric.prometheus_name + suffix
    for metric in ALL
    for suffix in (("_bucket", "_sum", "_count") if metric.instrument is Instrument.HISTOGRAM else ("",))
}
BY_SHOWN = {metric.prometheus_name: metric for metric in ALL}
_SELECTOR = re.compile(r"(dsg_[a-z_]+)\{([^}]*)\}")
_MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')


NOT_DRAWN = {
    "dsg_monitor_look_age_seconds",
    "dsg_lease_age_seconds",
    "dsg_queue_depth",
    "dsg_reconcile_objects_total",
    "dsg_storage_commands_stuck",
}
"""What only alerts or a search for a cause look at."""


def expressions() -> dict[str, str]:
    found = {alert.name: alert.expr for alert in ALERTS}
    for panel in json.loads(dashboard())["panels"]:
        for target in panel.get("targets", ()):
            found[f"{panel['title']} {target['refId']}"] = target["expr"]
    return found


@pytest.mark.parametrize("where", expressions())
def test_every_metric_and_label_of_an_expression_exists(where: str) -> None:
    expr = expressions()[where]
    names = set(NAME.findall(expr)) - LABELS
    assert names or "ALERTS{" in expr
    assert names <= SHOWN, names - SHOWN
    for name, matchers in _SELECTOR.findall(expr):
        metric = BY_SHOWN[re.sub("_(bucket|sum|count)$", "", name)]
        for label, _, _ in _MATCHER.findall(matchers):
            assert label in metric.attributes


@pytest.mark.parametrize("where", expressions())
def test_every_value_of_a_label_is_one_that_there_is(where: str) -> None:
    known: dict[str, set[str]] = {
        "reason": set(BY_NAME),
        "code": {code.value for code in Code},
        "type": {*map(str, CONDITION_TYPES), "read", "write", "checksum", "data"},
        "kind": {"Repository", "StoragePool", "SyncTransaction"},
        "ready": {"True", "False", "Unknown"},
    }
    for _, matchers in _SELECTOR.findall(expressions()[where]):
        for label, _, value in _MATCHER.findall(matchers):
            if label in known:
                assert set(value.split("|")) <= known[label]


def test_a_label_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="repository"):
        select(TRANSACTIONS, repository="justice")


def test_names_are_unique_and_the_rules_are_those_of_the_table() -> None:
    names = [alert.name for alert in ALERTS]
    assert len(set(names)) == len(names)
    rules = loaded_rules()
    assert [rule["alert"] for rule in rules] == names
    for rule, alert in zip(rules, ALERTS, strict=True):
        assert (rule["expr"], rule["for"]) == (alert.expr, alert.hold)
        assert rule["labels"] == {"severity": alert.severity}
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert {alert.severity for alert in ALERTS} == set(Severity)


def anchors(page: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MkDocs make them of one word."""
    return {heading.strip().lower() for heading in re.findall("(?m)^#+ +(.+)$", page)}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_every_alert_has_a_runbook_that_says_what_to_look_at_and_do(alert: Alert) -> None:
    page, _, anchor = alert.runbook.partition("#")
    assert anchor in anchors((TREE / page).read_text())
    section = re.split("(?m)^#### ", PAGE)
    (runbook,) = [part for part in section if part.startswith(alert.name + "\n")]
    assert f"```promql\n{alert.expr}\n```" in runbook
    assert alert.look and alert.means and alert.do
    assert "\nDo: " in runbook and "Look at:" in runbook
    for other in re.findall(r"\bDsg[A-Z]\w+", runbook):
        assert other in {one.name for one in ALERTS}, f"{alert.name} sends to {other}, which there is not"


def test_commands_of_the_plugin_that_runbooks_name_exist() -> None:
    known = {command.__name__ for commands in PANELS.values() for command in commands}
    named = set(re.findall(r"kubectl dsg (\w+)", PAGE))
    assert named and named <= known


def test_a_page_without_its_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks"):
        replaced(PAGE.replace(END, ""))
    assert PAGE.count(BEGIN) == PAGE.count(END) == 1


def test_the_dashboard_is_one_that_grafana_can_lay_out() -> None:
    whole: dict[str, Any] = json.loads(dashboard())
    panels = whole["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["type"] == "row" or panel["targets"]
        references = [target["refId"] for target in panel.get("targets", ())]
        assert len(set(references)) == len(references)
    assert [variable["name"] for variable in whole["templating"]["list"]] == ["datasource"]
    shown = {name for panel in panels for target in panel.get("targets", ()) for name in NAME.findall(target["expr"])}
    assert {re.sub("_(bucket|sum|count)$", "", name) for name in shown} & BY_SHOWN.keys() >= {
        metric.prometheus_name for metric in ALL
    } - NOT_DRAWN
