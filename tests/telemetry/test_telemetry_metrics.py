"""Metrics are those of the table, say what is so now, and name no repository."""

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from dsg.api.reasons import POOL, REPOSITORY
from dsg.reconcile.cluster import Key, Raw
from dsg.telemetry.health import Heartbeats
from dsg.telemetry.metrics import STORAGE_TABLE, TABLE, Instrument, ReconcileMetrics, reference
from dsg.telemetry.setup import exposition
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
        self.metrics = ReconcileMetrics(self.hearts, self.read, meter=self.provider.get_meter("dsg"))

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


def repository(name: str, *conditions: dict[str, str]) -> Raw:
    metadata = {"namespace": "research", "name": name}
    return {"kind": REPOSITORY, "metadata": metadata, "status": {"conditions": list(conditions)}}


def pool(name: str, **status: Any) -> Raw:
    return {"kind": POOL, "metadata": {"name": name}, "status": status}


def everything(page: Page) -> None:
    """Make every metric of the table have a value."""
    errors = {"read": 1, "write": 2, "checksum": 3, "data": 4}
    page.objects = [
        repository("justice", condition("Ready", "False", "PathConflict"), condition("Drifted", "True", "Drift")),
        pool("tank", health="ONLINE", capacityPercent=81, fragmentationPercent=12, errors=errors),
    ]
    page.hearts.watch_heard("repositories.dsg.hrdag.org")
    key = Key(REPOSITORY, "research", "justice")
    page.metrics.passed(PassResult({key}, {key: "PathConflict"}, 1, ["CreateParent"]), 0.2, 3)
    page.metrics.request("repositories/status", "PUT", "ok")


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
    for metric in (*TABLE, *STORAGE_TABLE):
        assert metric.name.startswith("dsg.") and metric.name == metric.name.lower()
        assert "total" not in metric.name and "seconds" not in metric.name
        assert metric.prometheus_name.endswith("_total") == (metric.instrument is Instrument.COUNTER)
        assert metric.unit != "s" or "_seconds" in metric.prometheus_name
        for attribute in metric.attributes:
            assert attribute.isidentifier() and attribute not in {"name", "namespace", "repository", "dataset"}
    assert len({metric.name for metric in (*TABLE, *STORAGE_TABLE)}) == len(TABLE) + len(STORAGE_TABLE)


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


def test_the_reference_names_every_metric_and_label_once() -> None:
    text = reference()
    for metric in (*TABLE, *STORAGE_TABLE):
        assert text.count(f"## `{metric.prometheus_name}`\n") == 1
        assert f"OpenTelemetry: `{metric.name}`, {metric.instrument}" in text
        section = text.split(f"## `{metric.prometheus_name}`\n")[1].split("\n## ")[0]
        for attribute in metric.attributes:
            assert f"- `{attribute}`: " in section
    assert text.endswith("\n") and "\n\n\n" not in text
    assert text == reference()
