"""All alerts in one table: charts/dsg/files/alerts.yaml and the runbooks in docs/operations.md are made from it.

An alert is about what a person has to act on. What the operator mends by itself is given time to, and what is the
business of one researcher alone is told to that one by the client.
"""

from __future__ import annotations

from dsg.telemetry.alert import Alert
from dsg.telemetry.alerts_nodes import OPERATOR
from dsg.telemetry.alerts_storage import POOLS, REPOSITORIES
from dsg.telemetry.alerts_transfers import DATA_PLANE, TRANSACTIONS

GROUPS: dict[str, tuple[Alert, ...]] = {
    "dsg-operator": OPERATOR,
    "dsg-pools": POOLS,
    "dsg-repositories": REPOSITORIES,
    "dsg-transactions": TRANSACTIONS,
    "dsg-data-plane": DATA_PLANE,
}
"""All alerts by the group of rules that they stand in."""
ALERTS: tuple[Alert, ...] = tuple(alert for group in GROUPS.values() for alert in group)
