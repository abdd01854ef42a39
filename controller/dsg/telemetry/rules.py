"""What is made from the table of alerts: Prometheus' rules, and the runbooks."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

import yaml

from dsg.telemetry.alert import Alert
from dsg.telemetry.alerts import GROUPS

BEGIN = "<!-- alerts: made by python -m dsg.telemetry.reference from dsg.telemetry.alerts; do not edit -->"
END = "<!-- end of alerts -->"
_TITLES = {
    "dsg-operator": "Operator and monitor",
    "dsg-pools": "Pools",
    "dsg-repositories": "Repositories",
    "dsg-transactions": "Transactions",
    "dsg-data-plane": "Data plane",
}
_ON_NODE = "node# "
_NODE = "{{ or $labels.node $labels.instance }}"
"""Who it is about: the label that the chart's PodMonitor sets, else the address."""
_COLUMNS = 130
_PAGE = re.compile(r"\bdocs/([\w/-]+\.md)")
"""A page of the documentation, as seen from the top of the tree; runbooks stand beside it."""


def rules() -> str:
    """Return alerts.yaml: groups of alerting rules as Prometheus and a PrometheusRule's spec have them."""
    groups = [{"name": name, "rules": [_rule(alert) for alert in alerts]} for name, alerts in GROUPS.items()]
    head = "# Made by python -m dsg.telemetry.reference from dsg.telemetry.alerts; do not edit.\n"
    return head + yaml.safe_dump({"groups": groups}, sort_keys=False, width=110, allow_unicode=True)


def _rule(alert: Alert) -> dict[str, object]:
    return {
        "alert": alert.name,
        "expr": alert.expr,
        "for": alert.hold,
        "labels": {"severity": alert.severity.value},
        "annotations": {
            "summary": alert.summary.replace("<node>", _NODE),
            "description": alert.means,
            "runbook_url": alert.runbook,
        },
    }


def runbooks() -> str:
    """Return the runbooks as Markdown, without their marks."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    for name, alerts in GROUPS.items():
        yield f"\n### {_TITLES[name]}"
        for alert in alerts:
            yield from _runbook(alert)


def _runbook(alert: Alert) -> Iterator[str]:
    hold = "at once" if alert.hold == "0m" else f"after {alert.hold}"
    yield f"\n#### {alert.name}\n"
    yield _wrapped(f"{alert.severity.capitalize()}, {hold}. {alert.means}\n") + "\n"
    yield "```promql"
    yield alert.expr
    yield "```\n"
    yield "Look at:\n"
    for command in alert.look:
        on_node = command.startswith(_ON_NODE)
        yield f"- `{command.removeprefix(_ON_NODE)}`{' (on the node)' if on_node else ''}"
    yield "\n" + _wrapped(f"Do: {alert.do}")


def _wrapped(text: str) -> str:
    linked = _PAGE.sub(r"[\1](\1)", text)
    return textwrap.fill(linked, _COLUMNS, break_long_words=False, break_on_hyphens=False)


def replaced(text: str) -> str:
    """Return docs/operations.md with the runbooks made anew. Raises ValueError where a mark is missing."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document lacks {BEGIN} or {END}")
    return f"{head}{BEGIN}\n{runbooks()}\n\n{END}{tail}"
