"""Every metric of the operator, the monitor and the data plane: name, kind, unit, labels, meaning, in one table.

Names follow OpenTelemetry's conventions; the Prometheus endpoint shows the same ones with dots as underscores, the unit
and `_total` at the end. Labels are few and bounded: no metric carries the name of a repository, because a node may hold
thousands and every label set is kept for ever by whoever collects them. Which repository is unwell is what conditions,
Events, logs and traces say. StoragePools are the exception: a node has a handful of them.
"""

from __future__ import annotations

from dsg.transfer.metric import Instrument, Metric
from dsg.transfer.server import metrics as plane

_KIND = "Repository, StoragePool or SyncTransaction"
_POOL_NAME = "name of the StoragePool object"

PASS_DURATION = Metric(
    "dsg.reconcile.duration",
    Instrument.HISTOGRAM,
    "s",
    "Time that one pass took. A pass reconciles, against one look at the storage, all objects that were asked for.",
    {"outcome": "settled, or again where an object is to be looked at again soon"},
)
RECONCILED = Metric(
    "dsg.reconcile.objects",
    Instrument.COUNTER,
    "{object}",
    "Objects reconciled, by what their Ready condition says afterwards.",
    {"kind": _KIND, "outcome": "ready, working or stalled"},
)
QUEUE_DEPTH = Metric("dsg.queue.depth", Instrument.GAUGE, "{object}", "Objects that wait for the next pass.")
STEPS = Metric(
    "dsg.steps",
    Instrument.COUNTER,
    "{step}",
    "Steps of plans that were taken on the node. A node that is as declared takes none.",
    {"step": "kind of the step, such as CreateParent"},
)
DRIFT_CORRECTED = Metric(
    "dsg.drift.corrected", Instrument.COUNTER, "{difference}", "Changes made by hand on the node that were set back."
)
OBJECTS = Metric(
    "dsg.objects",
    Instrument.GAUGE,
    "{object}",
    "Objects of this node by the status of their Ready condition; every status is there, with 0 where none has it.",
    {"kind": _KIND, "ready": "True, False or Unknown"},
)
OBJECTS_UNREADY = Metric(
    "dsg.objects.unready",
    Instrument.GAUGE,
    "{object}",
    "Objects of this node whose Ready condition is not True, by its reason.",
    {"kind": _KIND, "reason": "a reason out of docs/reference/conditions.md, or Unreported"},
)
CONDITIONS = Metric(
    "dsg.objects.condition",
    Instrument.GAUGE,
    "{object}",
    "Objects of this node for which a condition is True: how many have drifted, are suspended, are short of space.",
    {"kind": _KIND, "type": "type of the condition"},
)
POOL_CAPACITY = Metric(
    "dsg.pool.capacity.ratio", Instrument.GAUGE, "1", "Part of a pool's space that is taken.", {"pool": _POOL_NAME}
)
POOL_FRAGMENTATION = Metric(
    "dsg.pool.fragmentation.ratio",
    Instrument.GAUGE,
    "1",
    "Fragmentation of a pool's free space, from 0 to 1.",
    {"pool": _POOL_NAME},
)
POOL_HEALTH = Metric(
    "dsg.pool.health",
    Instrument.GAUGE,
    "{pool}",
    "1 for the state that a pool is in, 0 for the others.",
    {"pool": _POOL_NAME, "health": "ONLINE, DEGRADED, FAULTED, OFFLINE, UNAVAIL, REMOVED or SUSPENDED"},
)
POOL_ERRORS = Metric(
    "dsg.pool.errors",
    Instrument.GAUGE,
    "{error}",
    "Errors that a pool's status shows; `zpool clear` sets them back.",
    {"pool": _POOL_NAME, "type": "read, write, checksum or data"},
)
WATCH_AGE = Metric(
    "dsg.watch.age",
    Instrument.GAUGE,
    "s",
    "Time since a Kubernetes watch last brought anything; /healthz fails beyond its limit.",
    {"resource": "plural.group of what is watched"},
)
RESYNC_AGE = Metric(
    "dsg.resync.age", Instrument.GAUGE, "s", "Time since a pass over all objects last ended, or since the start."
)
API_REQUESTS = Metric(
    "dsg.api.requests",
    Instrument.COUNTER,
    "{request}",
    "Requests to the Kubernetes API other than watches. A quiet node makes no writes but those of its Lease.",
    {
        "resource": "plural of the resource, with /status where only that is written",
        "verb": "HTTP method",
        "outcome": "ok, conflict, gone or error",
    },
)

TRANSACTIONS = Metric(
    "dsg.transactions",
    Instrument.COUNTER,
    "{transaction}",
    "SyncTransactions that ended, by how.",
    {
        "operation": "Init, Sync, Restore or Read",
        "outcome": "Committed, Closed, Conflict, Aborted, Expired or Failed",
        "reason": "a reason out of docs/reference/conditions.md",
    },
)
TRANSACTION_STEPS = Metric(
    "dsg.transactions.step.duration",
    Instrument.HISTOGRAM,
    "s",
    "Time that the steps of transactions took.",
    {"step": "stage, open, verify, rebase, commit, reveal or clean"},
)
TRANSACTIONS_OPEN = Metric(
    "dsg.transactions.open",
    Instrument.GAUGE,
    "{transaction}",
    "SyncTransactions of this node that are not over, by phase; every phase is there.",
    {"phase": "Pending, Staging, Serving, Verifying or Committing"},
)
TRANSACTIONS_AGE = Metric(
    "dsg.transactions.open.age",
    Instrument.GAUGE,
    "s",
    "Time since the oldest open SyncTransaction was made; 0 when none is open.",
)
TRANSACTIONS_OVERDUE = Metric(
    "dsg.transactions.overdue",
    Instrument.GAUGE,
    "s",
    "How far the open SyncTransaction that is latest is beyond its timeout; 0 when none is. What is being committed "
    "may go beyond for a while.",
)
LAST_COMMIT = Metric(
    "dsg.commit.time",
    Instrument.GAUGE,
    "s",
    "When the newest version of any repository of this node was committed, in seconds since 1970.",
)
QUOTA_USED = Metric(
    "dsg.quota.used.ratio",
    Instrument.GAUGE,
    "1",
    "Used part of the quota of the repository that is nearest to its quota; `kubectl get repositories` shows which.",
)
RETENTION_BACKLOG = Metric(
    "dsg.retention.backlog",
    Instrument.GAUGE,
    "{version}",
    "Versions that retention would prune and that are still there, for want of time or because something holds them.",
    {"state": "due or held"},
)
CLOCK_OFFSET = Metric(
    "dsg.clock.offset",
    Instrument.GAUGE,
    "s",
    "How far this node's clock is before the API server's, by the Date of its last answer; exact to about 2 seconds.",
)
LEASE_AGE = Metric(
    "dsg.lease.age", Instrument.GAUGE, "s", "Time since this node's Lease was renewed, or since the start."
)
PLANE_SILENCE = Metric(
    "dsg.plane.silence",
    Instrument.GAUGE,
    "s",
    "Time since this node's data plane last said that it lives, or since the operator's start; where one is declared.",
)

TABLE: tuple[Metric, ...] = (
    PASS_DURATION,
    RECONCILED,
    QUEUE_DEPTH,
    STEPS,
    DRIFT_CORRECTED,
    OBJECTS,
    OBJECTS_UNREADY,
    CONDITIONS,
    POOL_CAPACITY,
    POOL_FRAGMENTATION,
    POOL_HEALTH,
    POOL_ERRORS,
    WATCH_AGE,
    RESYNC_AGE,
    API_REQUESTS,
    TRANSACTIONS,
    TRANSACTION_STEPS,
    TRANSACTIONS_OPEN,
    TRANSACTIONS_AGE,
    TRANSACTIONS_OVERDUE,
    LAST_COMMIT,
    QUOTA_USED,
    RETENTION_BACKLOG,
    CLOCK_OFFSET,
    LEASE_AGE,
    PLANE_SILENCE,
)
"""What `dsg.telemetry.metrics` records in an operator."""

NODE_LEASE_AGE = Metric(
    "dsg.node.lease.age",
    Instrument.GAUGE,
    "s",
    "Time since the monitor last saw a node's operator renew its Lease, on the monitor's own clock.",
    # Not `node`: scrape configurations have a label of that name for the node of what is scraped.
    {"dsg_node": "name of the storage node"},
)
MONITOR_LOOK_AGE = Metric(
    "dsg.monitor.look.age", Instrument.GAUGE, "s", "Time since the monitor last saw all Leases, or since its start."
)
MONITOR_TABLE: tuple[Metric, ...] = (NODE_LEASE_AGE, MONITOR_LOOK_AGE, API_REQUESTS)
"""What `dsg-operator monitor` shows."""

_COMMAND = {
    "program": "zfs, zpool, mount …",
    "verb": "what the program was to do, such as list",
    "outcome": "success, failure, timeout, overflow, missing or refused",
}
STORAGE_TABLE: tuple[Metric, ...] = (
    Metric(
        "dsg.storage.command.duration",
        Instrument.HISTOGRAM,
        "s",
        "How long the commands of the storage node ran",
        _COMMAND,
    ),
    Metric("dsg.storage.commands", Instrument.COUNTER, "", "Commands of the storage node, by outcome", _COMMAND),
    Metric("dsg.storage.commands.stuck", Instrument.GAUGE, "", "Commands that ran out of time and cannot be killed"),
)
"""What `dsg.storage.process` records, which knows nothing of this module."""

PLANE_TABLE: tuple[Metric, ...] = plane.TABLE
"""What the data plane shows at an endpoint of its own, and sends to no collector."""

ALL: tuple[Metric, ...] = tuple(dict.fromkeys((*TABLE, *STORAGE_TABLE, *MONITOR_TABLE, *PLANE_TABLE)))
"""Each metric once."""
