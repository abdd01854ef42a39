"""Metrics are those of the table, say what is so now, and name no repository."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from dsg.api.reasons import POOL, REPOSITORY, TRANSACTION
from dsg.reconcile.cluster import Key, Raw
from dsg.telemetry.health import Heartbeats
from dsg.telemetry.metrics import MonitorMetrics, ReconcileMetrics
from dsg.telemetry.reference import reference
from dsg.telemetry.setup import exposition
from dsg.telemetry.table import ALL, MONITOR_TABLE, PLANE_TABLE, STORAGE_TABLE, TABLE
from dsg.transfer.metric import Instrument
from tests.telemetry.support import Clock, PassResult

Labels = dict[str, str]


class Page:
    """The metrics page of a `ReconcileMetrics` of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        reader = PrometheusMetricReader(scope_info_enabled=False, registry=self.registry)
        self.provider = MeterProvider([reader], shutdown_on_exit=False)
        self.clock = Clock()
        self.hearts = Heartbeats(self.clock)
        self.objects: list[Raw] = []
        self.wall = datetime(2026, 1, 1, 12, tzinfo=UTC)
        self.plane_seen: float | None = None
        self.metrics = ReconcileMetrics(
            self.hearts,
            self.read,
            plane_seen=lambda: self.plane_seen,
            now=lambda: self.wall,
            meter=self.provider.get_meter("dsg"),
        )

    def read(self) -> Iterable[Raw]:
        return self.objects

    def text(self) -> str:
        return exposition(self.registry).decode()

    def families(self) -> dict[str, Any]:
        return {family.name: family for family in text_string_to_metric_families(self.text())}

    def samples(self, name: str) -> list[tuple[Labels, float]]:
        return [
            (sample.labels, sample.value)
            for family in text_string_to_metric_families(self.text())
            for sample in family.samples
            if sample.name == name
        ]

    def value(self, name: str, **labels: str) -> float | None:
        """One sample; None where there is none."""
        found = [value for have, value in self.samples(name) if have == labels]
        assert len(found) <= 1
        return found[0] if found else None


@pytest.fixture
def page() -> Iterator[Page]:
    page = Page()
    yield page
    page.provider.shutdown()


def condition(type_: str, status: str, reason: str) -> dict[str, str]:
    return {"type": type_, "status": status, "reason": reason, "message": ""}


def repository(name: str, *conditions: dict[str, str]) -> dict[str, Any]:
    metadata = {"namespace": "research", "name": name}
    return {"kind": REPOSITORY, "metadata": metadata, "status": {"conditions": list(conditions)}}


def pool(name: str, **status: Any) -> Raw:
    return {"kind": POOL, "metadata": {"name": name}, "status": status}


def everything(page: Page) -> None:
    """Make every metric of the table have a value."""
    errors = {"read": 1, "write": 2, "checksum": 3, "data": 4}
    justice = repository("justice", condition("Ready", "False", "PathConflict"), condition("Drifted", "True", "Drift"))
    justice["status"] |= {"head": {"time": "2026-01-01T00:00:00Z"}, "storage": {"usedPercent": 91}}
    page.hearts.clock_compared(1.5)
    page.objects = [
        justice,
        pool("tank", health="ONLINE", capacityPercent=81, fragmentationPercent=12, errors=errors),
    ]
    page.hearts.watch_heard("repositories.dsg.hrdag.org")
    key = Key(REPOSITORY, "research", "justice")
    page.metrics.passed(PassResult({key}, {key: "PathConflict"}, 1, ["CreateParent"]), 0.2, 3)
    page.metrics.request("repositories/status", "PUT", "ok")
    page.metrics.transaction_ended("Sync", "Committed", "Committed")
    page.metrics.transaction_step("commit", 0.2)


def test_transactions_are_counted_and_shown_like_other_objects(page: Page) -> None:
    assert page.value("dsg_transactions_total", operation="Sync", outcome="Failed", reason="ContentWrong") == 0
    for outcome, reason in (("Committed", "Committed"), ("Committed", "Committed"), ("Conflict", "PathsConflict")):
        page.metrics.transaction_ended("Sync", outcome, reason)
    page.metrics.transaction_step("verify", 2.0)
    page.objects = [{"kind": TRANSACTION, "metadata": {"namespace": "n", "name": "t"}}]
    assert page.value("dsg_transactions_total", operation="Sync", outcome="Committed", reason="Committed") == 2
    assert page.value("dsg_transactions_total", operation="Sync", outcome="Conflict", reason="PathsConflict") == 1
    assert page.value("dsg_transactions_step_duration_seconds_sum", step="verify") == 2.0
    assert page.value("dsg_objects", kind=TRANSACTION, ready="Unknown") == 1


def test_what_is_shown_is_the_table_and_nothing_else(page: Page) -> None:
    everything(page)
    families = page.families()
    del families["target_info"]
    # The parser leaves `_total` out of the names of counters.
    expected = {metric.prometheus_name.removesuffix("_total"): metric for metric in TABLE}
    assert families.keys() == expected.keys()
    for name, metric in expected.items():
        family = families[name]
        assert family.documentation == metric.description
        assert family.type == str(metric.instrument)
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert labels == metric.attributes.keys(), name


def test_no_metric_names_a_repository(page: Page) -> None:
    everything(page)
    assert "tank" in page.text()
    assert "justice" not in page.text() and "research" not in page.text()


def test_names_follow_the_conventions() -> None:
    for metric in ALL:
        assert metric.name.startswith("dsg.") and metric.name == metric.name.lower()
        assert "total" not in metric.name and "seconds" not in metric.name
        assert metric.prometheus_name.endswith("_total") == (metric.instrument is Instrument.COUNTER)
        assert metric.unit != "s" or "_seconds" in metric.prometheus_name
        for attribute in metric.attributes:
            assert attribute.isidentifier() and attribute not in {"name", "namespace", "repository", "dataset"}
    assert len({metric.name for metric in ALL}) == len({metric.prometheus_name for metric in ALL}) == len(ALL)
    assert set(ALL) == {*TABLE, *STORAGE_TABLE, *MONITOR_TABLE, *PLANE_TABLE}


def test_passes_add_up(page: Page) -> None:
    one, two = Key(REPOSITORY, "a", "one"), Key(POOL, "", "tank")
    page.metrics.passed(PassResult(outcomes={one: "Reconciled", two: "PoolSuspended"}, again={two}), 0.2, 5)
    page.metrics.passed(PassResult(outcomes={one: "Reconciled"}, steps=["SetOwner", "SetOwner"]), 40.0, 0)
    page.metrics.passed(PassResult(outcomes={one: "InvalidSpec"}, corrected=2), 0.2, 1)
    ready = "dsg_reconcile_objects_total"
    assert page.value(ready, kind=REPOSITORY, outcome="ready") == 2
    assert page.value(ready, kind=REPOSITORY, outcome="stalled") == 1
    assert page.value(ready, kind=POOL, outcome="working") == 1
    assert page.value("dsg_reconcile_duration_seconds_count", outcome="settled") == 2
    assert page.value("dsg_reconcile_duration_seconds_count", outcome="again") == 1
    assert page.value("dsg_steps_total", step="SetOwner") == 2
    assert page.value("dsg_drift_corrected_total") == 2
    assert page.value("dsg_queue_depth") == 1


def test_requests_are_counted_by_how_they_went(page: Page) -> None:
    for outcome in ("ok", "ok", "Conflict", "Gone", "ClusterError"):
        page.metrics.request("repositories/status", "PUT", outcome)
    shown = {
        outcome: page.value("dsg_api_requests_total", resource="repositories/status", verb="PUT", outcome=outcome)
        for outcome in ("ok", "conflict", "gone", "error")
    }
    assert shown == {"ok": 2, "conflict": 1, "gone": 1, "error": 1}


def test_objects_are_counted_as_they_are_now(page: Page) -> None:
    page.objects = [
        repository("a", condition("Ready", "True", "Reconciled")),
        repository("b", condition("Ready", "True", "Reconciled"), condition("Drifted", "True", "Drift")),
        repository("c", condition("Ready", "False", "PathConflict"), condition("Drifted", "False", "NoDrift")),
        repository("d", condition("Ready", "Unknown", "PoolSuspended")),
        repository("e"),
        {"kind": REPOSITORY, "metadata": {"namespace": "n", "name": "f"}},
    ]
    shown = {
        status: page.value("dsg_objects", kind=REPOSITORY, ready=status) for status in ("True", "False", "Unknown")
    }
    assert shown == {"True": 2, "False": 1, "Unknown": 3}
    assert page.value("dsg_objects", kind=POOL, ready="True") == 0
    reasons = {labels["reason"]: value for labels, value in page.samples("dsg_objects_unready")}
    assert reasons == {"PathConflict": 1, "PoolSuspended": 1, "Unreported": 2}
    assert page.value("dsg_objects_condition", kind=REPOSITORY, type="Drifted") == 1
    assert page.value("dsg_objects_condition", kind=REPOSITORY, type="Suspended") == 0
    page.objects = []
    assert page.value("dsg_objects", kind=REPOSITORY, ready="True") == 0
    assert page.samples("dsg_objects_unready") == []


def test_pools_show_what_their_status_says_and_go_with_it(page: Page) -> None:
    errors = {"read": 1, "write": 0, "checksum": 3, "data": 4}
    page.objects = [
        pool("tank", health="DEGRADED", capacityPercent=81, fragmentationPercent=12, errors=errors),
        pool("files", health="MOUNTED", capacityPercent=5, fragmentationPercent=None),
        pool("new"),
    ]
    assert page.value("dsg_pool_capacity_ratio", pool="tank") == 0.81
    assert page.value("dsg_pool_fragmentation_ratio", pool="tank") == 0.12
    assert page.value("dsg_pool_fragmentation_ratio", pool="files") is None
    states = {labels["health"]: value for labels, value in page.samples("dsg_pool_health") if labels["pool"] == "tank"}
    assert states["DEGRADED"] == 1 and sum(states.values()) == 1 and states["ONLINE"] == 0
    assert page.value("dsg_pool_health", pool="files", health="MOUNTED") == 1
    assert page.value("dsg_pool_errors", pool="tank", type="checksum") == 3
    assert page.value("dsg_pool_errors", pool="files", type="read") is None
    assert not [labels for labels, _ in page.samples("dsg_pool_health") if labels["pool"] == "new"]
    page.objects = []
    assert page.samples("dsg_pool_health") == []


def test_ages_grow_and_start_again(page: Page) -> None:
    page.hearts.watch_heard("repositories.dsg.hrdag.org")
    page.clock.wait(42)
    assert page.value("dsg_watch_age_seconds", resource="repositories.dsg.hrdag.org") == 42
    assert page.value("dsg_resync_age_seconds") == 42
    page.hearts.watch_heard("repositories.dsg.hrdag.org")
    page.hearts.resync_finished()
    assert page.value("dsg_watch_age_seconds", resource="repositories.dsg.hrdag.org") == 0
    assert page.value("dsg_resync_age_seconds") == 0


def transaction(name: str, made: datetime, phase: str | None, timeout: str = "1h") -> Raw:
    metadata = {"namespace": "research", "name": name, "creationTimestamp": made.strftime("%Y-%m-%dT%H:%M:%SZ")}
    status = {} if phase is None else {"phase": phase}
    return {"kind": TRANSACTION, "metadata": metadata, "spec": {"timeout": timeout}, "status": status}


def test_open_transactions_show_their_phase_age_and_lateness(page: Page) -> None:
    assert page.value("dsg_transactions_open", phase="Staging") == 0
    assert page.value("dsg_transactions_open_age_seconds") == 0
    assert page.value("dsg_transactions_overdue_seconds") == 0
    hour = timedelta(hours=1)
    page.objects = [
        transaction("new", page.wall, None),
        transaction("open", page.wall - 2 * hour, "Staging", timeout="8h"),
        transaction("late", page.wall - 1.5 * hour, "Verifying"),
        transaction("over", page.wall - 9 * hour, "Committed"),
    ]
    phases = {labels["phase"]: value for labels, value in page.samples("dsg_transactions_open")}
    assert phases == {"Pending": 1, "Staging": 1, "Serving": 0, "Verifying": 1, "Committing": 0}
    assert page.value("dsg_transactions_open_age_seconds") == 7200
    assert page.value("dsg_transactions_overdue_seconds") == 1800


def test_commits_quota_and_backlog_are_those_of_the_statuses(page: Page) -> None:
    assert page.value("dsg_commit_time_seconds") is None
    assert page.value("dsg_quota_used_ratio") is None
    one, two, three = repository("one"), repository("two"), repository("three")
    one["status"] |= {"head": {"time": "2026-01-01T00:00:00Z"}, "storage": {"usedPercent": 12}}
    two["status"] |= {"head": {"time": "2026-01-01T03:00:00Z"}, "storage": {"usedPercent": 97}}
    two["status"]["retention"] = {"pruneTotal": 3, "held": ["s1: a hold"]}
    three["status"]["storage"] = {"generation": "g1"}
    page.objects = [one, two, three]
    assert page.value("dsg_commit_time_seconds") == datetime(2026, 1, 1, 3, tzinfo=UTC).timestamp()
    assert page.value("dsg_quota_used_ratio") == 0.97
    assert page.value("dsg_retention_backlog", state="due") == 3
    assert page.value("dsg_retention_backlog", state="held") == 1


def test_a_silent_data_plane_is_shown_by_its_last_sign_or_the_start(page: Page) -> None:
    page.wall += timedelta(seconds=50)
    assert page.value("dsg_plane_silence_seconds") == 50, "it has never started"
    page.plane_seen = page.wall.timestamp() - 7
    assert page.value("dsg_plane_silence_seconds") == 7


def test_the_clock_is_compared_only_when_the_server_has_answered(page: Page) -> None:
    assert page.value("dsg_clock_offset_seconds") is None
    page.hearts.clock_compared(-42.5)
    assert page.value("dsg_clock_offset_seconds") == -42.5


def test_the_monitor_shows_each_nodes_lease_and_its_own_looks(page: Page) -> None:
    registry, clock = CollectorRegistry(), Clock()
    reader = PrometheusMetricReader(scope_info_enabled=False, registry=registry)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    hearts = Heartbeats(clock)
    metrics = MonitorMetrics(hearts, meter=provider.get_meter("dsg"))
    metrics.watch(lambda: {"node-a": 3.0, "node-b": 90.0})
    metrics.request("leases", "GET", "ok")
    clock.wait(12)
    families = {family.name: family for family in text_string_to_metric_families(exposition(registry).decode())}
    del families["target_info"]
    provider.shutdown()
    assert families.keys() == {metric.prometheus_name.removesuffix("_total") for metric in MONITOR_TABLE}
    ages = {sample.labels["dsg_node"]: sample.value for sample in families["dsg_node_lease_age_seconds"].samples}
    assert ages == {"node-a": 3.0, "node-b": 90.0}
    assert families["dsg_monitor_look_age_seconds"].samples[0].value == 12


def test_the_reference_names_every_metric_and_label_once() -> None:
    text = reference()
    for metric in ALL:
        assert text.count(f"## `{metric.prometheus_name}`\n") == 1
        assert (f"OpenTelemetry: `{metric.name}`, {metric.instrument}" in text) == (metric not in PLANE_TABLE)
        section = text.split(f"## `{metric.prometheus_name}`\n")[1].split("\n## ")[0]
        for attribute in metric.attributes:
            assert f"- `{attribute}`: " in section
    assert text.endswith("\n") and "\n\n\n" not in text
    assert text == reference()
