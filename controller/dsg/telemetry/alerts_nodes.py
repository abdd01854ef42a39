"""Alerts about operators, the monitor, and what runs on a storage node."""

from __future__ import annotations

from dsg.telemetry import table
from dsg.telemetry.alert import GET_POOLS, GET_REPOSITORIES, OPERATOR_LOG, Alert, Severity, select

_C, _W = Severity.CRITICAL, Severity.WARNING

OPERATOR: tuple[Alert, ...] = (
    Alert(
        "DsgNoMetrics",
        _C,
        "10m",
        f"absent({select(table.RESYNC_AGE)})",
        "No operator of any storage node is scraped",
        "Prometheus gets no metrics of any operator: none runs, or the scrape configuration is wrong. Every other "
        "alert is blind meanwhile. Data that is there stays readable on the nodes; nothing new is committed if none "
        "runs.",
        ("kubectl get pods -n dsg-system -o wide", OPERATOR_LOG),
        "Where no pod runs: `kubectl describe` says why. Where they run, correct the PodMonitor or the scrape "
        "configuration, and the network policy in between.",
    ),
    Alert(
        "DsgMonitorSilent",
        _W,
        "10m",
        f"{select(table.MONITOR_LOOK_AGE)} > 120 or absent({select(table.MONITOR_LOOK_AGE)})",
        "The monitor does not see the operators' Leases",
        "Nobody notices a lost node: `dsg-operator monitor` does not run, is not scraped, or can't read Leases. "
        "Nothing else depends on it.",
        ("kubectl get pods -n dsg-system", "kubectl logs -n dsg-system -l app.kubernetes.io/component=monitor"),
        "Start one, with `--listen`; look at its rights where its log says forbidden.",
    ),
    Alert(
        "DsgNodeLost",
        _C,
        "1m",
        f"min by (dsg_node) ({select(table.NODE_LEASE_AGE)}) > 40",
        "Storage node {{ $labels.dsg_node }} is lost: its operator is silent for {{ $value | humanizeDuration }}",
        "The node's operator has not renewed its Lease: node or operator is down, or can't reach the API server. Its "
        "Repositories say NodeLost, and nothing is committed there. What was acknowledged is on its disks.",
        (
            "kubectl get leases -n dsg-system",
            "kubectl get pods -n dsg-system -o wide",
            "kubectl get nodes",
            OPERATOR_LOG,
        ),
        "Bring the node or its operator back; nothing is to be repaired first, and open transactions go on or expire. "
        "If the machine is gone for good, see docs/procedures.md. For a node that was taken away on purpose, delete "
        "its Lease.",
    ),
    Alert(
        "DsgOperatorNotScraped",
        _W,
        "10m",
        f"count by (dsg_node) ({select(table.NODE_LEASE_AGE)} < 40) unless on (dsg_node) "
        'target_info{service_name="dsg-operator"}',
        "The operator of {{ $labels.dsg_node }} lives and is not scraped",
        "It renews its Lease, so it works; but its metrics do not arrive, and alerts about that node are blind.",
        ("kubectl get pods -n dsg-system -o wide",),
        "Correct the PodMonitor or the scrape configuration, the network policy, or `--listen` of that operator.",
    ),
    Alert(
        "DsgResyncOld",
        _W,
        "5m",
        f"{select(table.RESYNC_AGE)} > 1200",
        "The operator at <node> has not looked at everything for {{ $value | humanizeDuration }}",
        "A pass hangs or fails. Drift and changes of specs wait. Beyond 30 minutes `/healthz` fails and the process is "
        "restarted.",
        (OPERATOR_LOG, "node# zpool status -x", "node# ps -eo pid,stat,wchan:32,args | grep -E 'z(fs|pool)'"),
        "See DsgStorageCommandsStuck where commands hang. Where the log shows a fault of the operator, restart it and "
        "report it.",
    ),
    Alert(
        "DsgWatchOld",
        _W,
        "2m",
        f"{select(table.WATCH_AGE)} > 180",
        "The operator at <node> hears nothing about {{ $labels.resource }}",
        "Its watch of the API server is silent. Data is kept as it was declared; new Repositories and transactions of "
        "that node are seen late or not at all.",
        (OPERATOR_LOG, "kubectl get --raw /readyz?verbose"),
        "Look at the API server and the network in between. The operator connects again by itself, and is restarted "
        "where it can't.",
    ),
    Alert(
        "DsgApiErrors",
        _W,
        "10m",
        f"sum by (node, instance, resource) (rate({select(table.API_REQUESTS, outcome='error')}[10m])) > 0.02",
        "Requests of <node> about {{ $labels.resource }} fail",
        "The API server refuses or does not answer: it is down, overloaded, or the operator lacks a right. Statuses "
        "are old and transactions wait; nothing is lost.",
        (
            OPERATOR_LOG,
            "kubectl get --raw /readyz?verbose",
            "kubectl auth can-i --list --as=system:serviceaccount:dsg-system:dsg-operator",
        ),
        "Forbidden in the log: apply the ClusterRoles of this version again. Otherwise mend the API server.",
    ),
    Alert(
        "DsgClockSkew",
        _W,
        "10m",
        f"abs({select(table.CLOCK_OFFSET)}) > 30",
        "The clock of <node> is {{ $value | humanizeDuration }} away from the API server's",
        "Timeouts of transactions are counted from the API server's time by the node's clock: they end too early or "
        "too late. Versions carry wrong times. Beyond minutes TLS fails.",
        ("node# timedatectl", "node# chronyc tracking"),
        "Mend time synchronisation on the node, or on the API server where all nodes are off alike.",
    ),
    Alert(
        "DsgOperatorFault",
        _C,
        "0m",
        f"sum by (node, instance, kind) ({select(table.OBJECTS_UNREADY, reason='OperatorFault')}) > 0",
        "{{ $value }} {{ $labels.kind }} on <node> met a fault of the operator",
        "The operator met a case that it was not written for, and leaves these objects alone. Others go on.",
        (GET_REPOSITORIES, GET_POOLS, OPERATOR_LOG),
        "Report it with the log's lines about the object. Nothing needs to be repaired on the node first.",
    ),
    Alert(
        "DsgStorageCommandsStuck",
        _C,
        "5m",
        f"{select(table.STORAGE_TABLE[2])} > 0",
        "{{ $value }} storage commands on <node> hang and can't be killed",
        "The kernel does not return from them: a device or the pool hangs. What needs that pool waits.",
        (
            "node# zpool status",
            "node# dmesg | tail -50",
            "node# ps -eo pid,stat,wchan:32,args | grep -E 'z(fs|pool)'",
        ),
        "Mend the device. A suspended pool goes on after `zpool clear`; a hung kernel needs a reboot, which loses "
        "nothing that was acknowledged.",
    ),
    Alert(
        "DsgStorageCommandsFailing",
        _W,
        "15m",
        "sum by (node, instance, program, outcome) "
        f"(increase({select(table.STORAGE_TABLE[1], outcome='=~timeout|overflow|missing')}[15m])) > 3",
        "{{ $labels.program }} on <node> ends in {{ $labels.outcome }} again and again",
        "Storage commands run out of time, say too much, or are not there. The operator tries again; what needs them "
        "waits.",
        (OPERATOR_LOG, "node# zpool status", "node# zfs version"),
        "timeout: look at the pool's load and devices, or raise `--command-timeout`. missing: install OpenZFS on the "
        "node or in the image.",
    ),
)
