"""Alerts about pools and repositories."""

from __future__ import annotations

from dsg.api.reasons import POOL, REPOSITORY, ConditionType
from dsg.telemetry import table
from dsg.telemetry.alert import GET_POOLS, GET_REPOSITORIES, OPERATOR_LOG, Alert, Severity, condition, select, working

_C, _W = Severity.CRITICAL, Severity.WARNING

POOLS: tuple[Alert, ...] = (
    Alert(
        "DsgPoolUnusable",
        _C,
        "1m",
        "max by (node, instance, pool) "
        f"({select(table.POOL_HEALTH, health='=~FAULTED|OFFLINE|UNAVAIL|REMOVED|SUSPENDED')} == 1) or "
        "max by (node, instance, reason) "
        f"({select(table.OBJECTS_UNREADY, kind=POOL, reason='=~PoolUnavailable|PoolSuspended|PoolFaulted')} > 0)",
        "A pool of <node> can't be used: {{ $labels.pool }}{{ $labels.reason }}",
        "Nobody can commit to its repositories, and where it is not mounted, nobody can read them.",
        (GET_POOLS, "node# zpool status", "node# dmesg | tail -50"),
        "Bring the devices back, then `zpool clear POOL` (SUSPENDED) or `zpool import POOL` (not imported). The "
        "operator goes on by itself. Where more devices are lost than redundancy covers, see docs/procedures.md: "
        "restore.",
    ),
    Alert(
        "DsgPoolDegraded",
        _W,
        "5m",
        f"{select(table.POOL_HEALTH, health='DEGRADED')} == 1",
        "Pool {{ $labels.pool }} is degraded",
        "A device failed and redundancy covers it; the next failure may lose data. Everything works meanwhile.",
        (f"{GET_POOLS}", "node# zpool status -v"),
        "Replace the device (`zpool replace`) or bring it back (`zpool online`), and wait for the resilver. See that "
        "the last backup is good.",
    ),
    Alert(
        "DsgPoolErrors",
        _W,
        "0m",
        f"sum by (node, instance, pool) ({select(table.POOL_ERRORS, type='=~read|write|checksum')}) > 0",
        "Pool {{ $labels.pool }} counts {{ $value }} errors of devices",
        "Devices returned errors or wrong data. Redundancy has mended what could be mended.",
        ("node# zpool status -v", "node# zpool events -v | tail -100", "node# smartctl -a DEVICE"),
        "Run `zpool scrub`. Replace a device whose counts grow. `zpool clear` sets the counts back and ends this.",
    ),
    Alert(
        "DsgPoolDataErrors",
        _C,
        "0m",
        f"sum by (node, instance, pool) ({select(table.POOL_ERRORS, type='data')}) > 0",
        "Pool {{ $labels.pool }} has {{ $value }} files or objects with permanent errors",
        "Content is damaged beyond what redundancy could mend. `kubectl dsg validate` and reads of these files fail; "
        "damaged content is never passed on as sound.",
        ("node# zpool status -v",),
        "Restore what `zpool status -v` names from a replica or backup (docs/procedures.md), then scrub twice.",
    ),
    Alert(
        "DsgPoolAlmostFull",
        _C,
        "5m",
        f"{select(table.POOL_CAPACITY)} > 0.95",
        "Pool {{ $labels.pool }} is {{ $value | humanizePercentage }} full",
        "Commits soon end with OutOfSpace, and ZFS is slow in a pool that is so full. Nothing acknowledged is lost.",
        (f"{GET_POOLS}", GET_REPOSITORIES, "node# zfs list -o space -r POOL"),
        "Add devices, or prune: lower `spec.retention` of repositories that hold many versions. Removing files in a "
        "new version frees nothing until older versions are pruned.",
    ),
    Alert(
        "DsgPoolFilling",
        _W,
        "15m",
        condition(POOL, ConditionType.CAPACITY_PRESSURE),
        "A pool of <node> has reached the threshold of its capacity",
        "More is taken than `spec.thresholds.capacityPercent` of the StoragePool allows.",
        (GET_POOLS, "node# zpool list -v", "node# zfs list -o space -r POOL"),
        "Plan more space, lower retention, or raise the threshold.",
    ),
    Alert(
        "DsgScrubOverdue",
        _W,
        "1h",
        condition(POOL, ConditionType.SCRUB_OVERDUE),
        "A pool of <node> has not been scrubbed for longer than declared",
        "Silent damage stays unnoticed, and redundancy that is not tested is not there.",
        (GET_POOLS, "node# zpool status | grep scan"),
        "Run `zpool scrub POOL`, and see that the node's timer for it works.",
    ),
    Alert(
        "DsgPoolRejected",
        _W,
        "10m",
        f"{select(table.OBJECTS, kind=POOL, ready='False')} > 0",
        "{{ $value }} StoragePools of <node> need somebody",
        "A StoragePool is Stalled: its spec is wrong, it overlaps another, or the pool is faulted. No Repository "
        "gets a place there.",
        (GET_POOLS, "kubectl describe storagepool NAME"),
        "The condition's message says what to do; docs/reference/conditions.md has every reason.",
    ),
)

REPOSITORIES: tuple[Alert, ...] = (
    Alert(
        "DsgRepositoryStalled",
        _W,
        "10m",
        f"{select(table.OBJECTS, kind=REPOSITORY, ready='False')} > 0",
        "{{ $value }} Repositories of <node> need somebody",
        "The operator can't go on with them until a person acts. Their data is untouched.",
        (GET_REPOSITORIES, "kubectl describe repository NAME -n NAMESPACE"),
        "The condition's message says what to do; docs/reference/conditions.md has every reason. Often it is for the "
        "team that declared it.",
    ),
    Alert(
        "DsgRepositoryWaiting",
        _W,
        "30m",
        "sum by (node, instance, reason) "
        f"({select(table.OBJECTS_UNREADY, kind=REPOSITORY, reason=working(REPOSITORY, 'NotYetCreated'))}) > 0",
        "{{ $value }} Repositories of <node> are not ready: {{ $labels.reason }}",
        "The operator tries again and again without success. Nothing is committed there meanwhile.",
        (GET_REPOSITORIES, "kubectl describe repository NAME -n NAMESPACE", OPERATOR_LOG),
        "docs/reference/conditions.md says what ends that reason.",
    ),
    Alert(
        "DsgDrift",
        _W,
        "15m",
        condition(REPOSITORY, ConditionType.DRIFTED),
        "{{ $value }} Repositories of <node> differ from what was declared",
        "Somebody changed policy on the node by hand, and it is left so: `driftPolicy` is Report, or the repository is "
        "suspended.",
        (
            GET_REPOSITORIES,
            "kubectl get repository NAME -n NAMESPACE -o yaml",
            "node# zpool history -il POOL | tail -50",
        ),
        "Change the spec, set the value back on the node, or set `driftPolicy: Correct`.",
    ),
    Alert(
        "DsgDriftAgainAndAgain",
        _W,
        "0m",
        f"increase({select(table.DRIFT_CORRECTED)}[1h]) > 10",
        "On <node> something keeps changing what is set back",
        "The operator corrects hand-made changes again and again: a script or another tool works against it.",
        ("kubectl get events -A --field-selector reason=DriftCorrected", "node# zpool history -il POOL | tail -50"),
        "Find who does it; the history names user and time. Put what they want into the spec.",
    ),
    Alert(
        "DsgUnexpectedData",
        _W,
        "30m",
        condition(REPOSITORY, ConditionType.UNEXPECTED_DATA),
        "{{ $value }} Repositories of <node> hold something that no transaction made",
        "Snapshots, datasets or files were made by hand. They are kept, and keep what they hang on: old generations "
        "and versions that retention would prune.",
        ("kubectl describe repository NAME -n NAMESPACE",),
        "Copy what is needed into a working copy and sync it; remove the rest by hand.",
    ),
    Alert(
        "DsgDeletionBlocked",
        _W,
        "15m",
        condition(REPOSITORY, ConditionType.DELETION_BLOCKED),
        "The deletion of {{ $value }} Repositories of <node> does not go on",
        "The object is being deleted and something keeps its data, or the deletion is not confirmed.",
        ("kubectl describe repository NAME -n NAMESPACE",),
        "The message names what is in the way. To keep the data, set `deletionPolicy: Retain`. Never remove the "
        "finalizer by hand.",
    ),
    Alert(
        "DsgQuotaNearFull",
        _W,
        "30m",
        f"{select(table.QUOTA_USED)} > 0.9",
        "A Repository of <node> has used {{ $value | humanizePercentage }} of its quota",
        "Its next large transaction ends with TransactionQuota. Nothing is lost by that.",
        (f"{GET_REPOSITORIES}    # USE%",),
        "Raise `quota`, or lower `spec.retention`. Files that are removed in a new version are still in the older "
        "ones.",
    ),
    Alert(
        "DsgRetentionBacklog",
        _W,
        "6h",
        f"sum by (node, instance) ({select(table.RETENTION_BACKLOG)}) > 0",
        "{{ $value }} versions of <node> should be pruned and are still there",
        "Holds, clones or failing commands keep them, and their space. `held` is what something holds; `due` is what "
        "the operator has not come to.",
        (
            "kubectl get repositories -A -o yaml | grep -A8 retention:",
            "node# zfs holds -r DATASET",
            OPERATOR_LOG,
        ),
        "Release what `status.retention.held` names, or leave it: it is kept until then.",
    ),
)
