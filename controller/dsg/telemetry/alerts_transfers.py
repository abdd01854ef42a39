"""Alerts about transactions and the data plane."""

from __future__ import annotations

from dsg.api.reasons import TRANSACTION
from dsg.telemetry import table
from dsg.telemetry.alert import (
    GET_POOLS,
    GET_REPOSITORIES,
    GET_TRANSACTIONS,
    OPERATOR_LOG,
    PLANE_LOG,
    Alert,
    Severity,
    select,
)
from dsg.transfer.problems import Code
from dsg.transfer.server import metrics as plane

_C, _W = Severity.CRITICAL, Severity.WARNING

TRANSACTIONS: tuple[Alert, ...] = (
    Alert(
        "DsgTransactionsFailing",
        _W,
        "0m",
        "sum by (node, instance, reason) (increase("
        + select(
            table.TRANSACTIONS,
            outcome="Failed",
            reason="=~CommitRefused|ContentMissing|ContentWrong|DataPlaneMissing|ManifestWrong",
        )
        + "[30m])) > 0",
        "Transactions of <node> fail: {{ $labels.reason }}",
        "Nothing was committed by them, and researchers see the error. ContentWrong and ManifestWrong should not "
        "happen: content was damaged on its way, or the client is at fault.",
        (GET_TRANSACTIONS, "kubectl describe synctransaction NAME -n NAMESPACE", OPERATOR_LOG),
        "docs/reference/conditions.md says what each reason means. If ContentWrong repeats, test the memory of node "
        "and laptop.",
    ),
    Alert(
        "DsgTransactionsHeldUp",
        _W,
        "10m",
        "sum by (node, instance, reason) ("
        + select(table.OBJECTS_UNREADY, kind=TRANSACTION, reason="=~DataPlaneNotReady|RepositoryNotReady|StagingFailed")
        + ") > 0",
        "{{ $value }} transactions of <node> wait: {{ $labels.reason }}",
        "Researchers wait. The operator tries again until each transaction's timeout; nothing is committed meanwhile.",
        (GET_TRANSACTIONS, GET_REPOSITORIES, OPERATOR_LOG),
        "StagingFailed: the message says what the storage said. DataPlaneNotReady: see DsgDataPlaneDown. "
        "RepositoryNotReady: see the Repository.",
    ),
    Alert(
        "DsgAuditUnavailable",
        _C,
        "5m",
        f"sum by (node, instance) ({select(table.OBJECTS_UNREADY, kind=TRANSACTION, reason='AuditUnavailable')}) > 0",
        "The audit log of <node> can't be written, so {{ $value }} transactions are not committed",
        "Nothing is committed that can't be recorded. Researchers wait, and their transactions expire in the end.",
        (GET_TRANSACTIONS, OPERATOR_LOG, "node# df -h"),
        "Free space where `--audit` lies, or mend that file system; the operator goes on by itself (docs/audit.md).",
    ),
    Alert(
        "DsgTransactionStuck",
        _C,
        "5m",
        f"{select(table.TRANSACTIONS_OVERDUE)} > 900",
        "A transaction of <node> is {{ $value | humanizeDuration }} beyond its timeout and still open",
        "It should have been committed or given up. Verifying very much content may take so long; otherwise something "
        "hangs, and what it has staged takes space.",
        (
            f"{GET_TRANSACTIONS} --sort-by=.metadata.creationTimestamp",
            "kubectl describe synctransaction NAME -n NAMESPACE",
            OPERATOR_LOG,
        ),
        "Look at its phase and message. Pending: its Repository is not ready, or its node is lost. Verifying, and "
        "the log shows work: wait. Otherwise restart the operator, which finds whether it was committed. The "
        "researcher may also abort it.",
    ),
)

DATA_PLANE: tuple[Alert, ...] = (
    Alert(
        "DsgDataPlaneDown",
        _C,
        "2m",
        f"{select(table.PLANE_SILENCE)} > 60",
        "The data plane beside <node> is silent for {{ $value | humanizeDuration }}",
        "`dsg-data-plane` of that node does not run, or can't write to the directory of grants: nobody sends or reads "
        "content there. What was committed is safe.",
        ("kubectl get pods -n dsg-system -o wide", PLANE_LOG, "node# ls -la /run/dsg/grants"),
        "Start it, with the directory of grants that the operator has. Clients that were sending go on where they "
        "were.",
    ),
    Alert(
        "DsgDataPlaneNotScraped",
        _W,
        "15m",
        f"count({select(table.PLANE_SILENCE)} < 60) > (count({select(plane.CONNECTIONS)}) or vector(0))",
        "More data planes live than are scraped",
        "Alerts about what a data plane refuses are blind for some node.",
        ("kubectl get pods -n dsg-system -o wide",),
        "Give it `--metrics-listen` and correct the PodMonitor or scrape configuration.",
    ),
    Alert(
        "DsgDataPlaneFailing",
        _W,
        "0m",
        "sum by (node, instance, code) (increase("
        + select(plane.REFUSED, code=f"=~{Code.CHANGED}|{Code.INTERNAL}|{Code.NO_SPACE}|{Code.STORAGE}")
        + "[15m])) > 0",
        "The data plane at <node> fails requests: {{ $labels.code }}",
        "Researchers' transfers fail for a reason on the node: `storage` and `no-space` name the disks, `changed` "
        "means that a committed file is not as its version says, `internal` is a fault of the program.",
        (PLANE_LOG, GET_POOLS, "node# zpool status -v"),
        "no-space: see DsgQuotaNearFull and DsgPoolFilling. changed: run `kubectl dsg validate`; somebody wrote past "
        "the transactions, or the disk is damaged. internal: report it with the log.",
    ),
    Alert(
        "DsgDataPlaneRefusing",
        _W,
        "10m",
        "sum by (node, instance, code) (rate("
        + select(plane.REFUSED, code=f"=~{Code.NO_CERTIFICATE}|{Code.WRONG_CERTIFICATE}|{Code.NO_ROUTE}")
        + "[10m])) > 0.5",
        "The data plane at <node> refuses many requests: {{ $labels.code }}",
        "Somebody knocks without a grant: a scanner, an attack, or a client that is broken. None of them gets in.",
        (PLANE_LOG,),
        "Find where they come from, in the firewall or the audit log, and shut them out there.",
    ),
    Alert(
        "DsgDataPlaneBusy",
        _W,
        "15m",
        f"sum by (node, instance) (rate({select(plane.REFUSED, code=Code.BUSY.value)}[15m])) > 0.1 or "
        f"sum by (node, instance) (rate({select(plane.TURNED_AWAY)}[15m])) > 0.1",
        "The data plane at <node> turns clients away because it is busy",
        "Clients wait for their turn and try again; transfers are slow.",
        (PLANE_LOG, "node# iostat -x 5 3"),
        "If disks and network have room, raise `--in-flight`, `--per-author` or `--connections`.",
    ),
    Alert(
        "DsgDataPlaneHung",
        _C,
        "2m",
        f"{select(plane.HANGING)} > 0",
        "Storage under the data plane of <node> does not answer {{ $value }} calls",
        "Transfers that need that storage stand still or are refused as `storage`; others go on. A pool is suspended, "
        "or a device hangs.",
        ("node# zpool status", "node# dmesg | tail -50", PLANE_LOG),
        "The log names the storage. Mend it; what hung goes on by itself when it answers, and clients send the rest.",
    ),
)
