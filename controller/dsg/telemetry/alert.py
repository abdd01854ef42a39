"""What an alert is made of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dsg.api.reasons import REASONS, ConditionType, Readiness
from dsg.telemetry import table
from dsg.transfer.metric import Metric

RUNBOOKS = "docs/operations.md"

GET_REPOSITORIES = "kubectl get repositories -A"
GET_POOLS = "kubectl get storagepools"
GET_TRANSACTIONS = "kubectl get synctransactions -A"
OPERATOR_LOG = "kubectl logs -n dsg-system -l app.kubernetes.io/component=node -c operator --since=1h"
PLANE_LOG = "kubectl logs -n dsg-system -l app.kubernetes.io/component=node -c data-plane --since=1h"
"""Commands that many runbooks begin with."""


class Severity(StrEnum):
    """Who is told, and when."""

    CRITICAL = "critical"
    """Somebody is woken: data is in danger, or nobody can work."""
    WARNING = "warning"
    """Somebody looks on the same day: it gets worse if nobody does."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert: when it fires, what that means, and what to do."""

    name: str
    severity: Severity
    hold: str
    """How long it must be so, as Prometheus writes durations."""
    expr: str
    """PromQL."""
    summary: str
    """One line; may hold Prometheus' templates, and `<node>` for the node that it is about."""
    means: str
    """What is so, and whom it hurts."""
    look: tuple[str, ...]
    """Commands that show more; those that begin with `node#` are for the storage node."""
    do: str
    """What ends it."""

    @property
    def runbook(self) -> str:
        """Where its runbook stands."""
        return f"{RUNBOOKS}#{self.name.lower()}"


_OPERATORS = ("=~", "!~", "!=")


def select(metric: Metric, **labels: str) -> str:
    """Return PromQL for a metric's series with these labels; a value may begin with an operator: `=~`, `!~`, `!=`.

    Raises ValueError for a label that the metric does not have.
    """
    if unknown := labels.keys() - metric.attributes.keys():
        raise ValueError(f"{metric.name} has no label {', '.join(sorted(unknown))}")
    return metric.prometheus_name + (f"{{{','.join(_matcher(*one) for one in labels.items())}}}" if labels else "")


def _matcher(label: str, value: str) -> str:
    operator = value[:2] if value.startswith(_OPERATORS) else "="
    return f'{label}{operator}"{value.removeprefix(operator) if operator != "=" else value}"'


def working(kind: str, *without: str) -> str:
    """Return a matcher of the reasons with which the operator works on an object of a kind, but for some."""
    names = [r.name for r in REASONS if kind in r.kinds and r.readiness is Readiness.WORKING and r.name not in without]
    return "=~" + "|".join(names)


def condition(kind: str, type_: ConditionType) -> str:
    """Return PromQL that is true while a condition of some object is."""
    return f"{select(table.CONDITIONS, kind=kind, type=type_.value)} > 0"
