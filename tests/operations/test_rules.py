"""Every alert fires when its cause is there, no other does, and all are silent again when the cause is gone.

Causes are made on the model of a node with the operator's own parts; where it can't have them, on what measures.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dsg.reconcile.cluster import Key, Raw
from dsg.storage.zfs.interface import Scan
from dsg.telemetry.alerts import ALERTS
from dsg.telemetry.table import STORAGE_TABLE
from dsg.transfer.problems import Code
from lab.tools import promtool
from tests.operations.promtool import RULES, Scenario, judge, run
from tests.operations.scene import MONITOR, OPERATOR, PLANE, Break, Scene
from tests.operations.test_alerts import expressions
from tests.reconcile.specs import pool, repository
from tests.reconcile.test_transactions import FIRST, commit, get, intend, transaction

pytestmark = pytest.mark.lab

HEALTHY, REPAIRED = 60, 70
"""Minutes before a cause, and after it; the longest window of a rule is an hour."""
HOLD = {alert.name: int(alert.hold[:-1]) * {"m": 1, "h": 60}[alert.hold[-1]] for alert in ALERTS}
REPOSITORY = Key("Repository", "research", "justice")
DATASET = "tank/dsg/justice"


def nothing(_scene: Scene) -> None:
    """Repair nothing: the cause ends by itself."""


@dataclass(frozen=True)
class Cause:
    """What breaks, and what repairs it."""

    alerts: frozenset[str]
    breaks: Break
    repairs: Break = nothing
    objects: tuple[Raw, ...] = field(default_factory=lambda: (pool(), repository()))
    minutes: int | None = None
    """How long it lasts; left out, a little longer than the alerts wait."""


CAUSES: dict[str, Cause] = {}


def cause(
    *alerts: str, repairs: Break = nothing, minutes: int | None = None, **objects: Any
) -> Callable[[Break], Break]:
    def keep(breaks: Break) -> Break:
        made = tuple(objects.get("objects", (pool(), repository())))
        name = breaks.__name__.replace("_", " ")
        CAUSES[name] = Cause(frozenset(alerts), breaks, repairs, made, minutes)
        return breaks

    return keep


def changed(**spec: Any) -> Raw:
    obj = repository()
    obj["spec"].update(spec)
    return obj


def small() -> Raw:
    obj = repository()
    obj["spec"]["storage"]["properties"] |= {"quota": "64Mi", "refquota": "64Mi"}
    return obj


# ---- pools


def condition(scene: Scene, **values: Any) -> None:
    for name, value in values.items():
        setattr(scene.world.node.pool("tank").condition, name, value)
    scene.run()


@cause("DsgPoolDegraded", repairs=lambda s: condition(s, health="ONLINE"))
def a_degraded_pool(scene: Scene) -> None:
    condition(scene, health="DEGRADED")


@cause("DsgPoolErrors", repairs=lambda s: condition(s, checksum_errors=0, read_errors=0))
def errors_of_a_disk(scene: Scene) -> None:
    condition(scene, checksum_errors=2, read_errors=1)


@cause("DsgPoolDataErrors", repairs=lambda s: condition(s, data_errors=0))
def damaged_files(scene: Scene) -> None:
    condition(scene, data_errors=1)


def mended(scene: Scene) -> None:
    scene.world.node.resume("tank")
    scene.run()


@cause("DsgPoolUnusable", repairs=mended)
def a_suspended_pool(scene: Scene) -> None:
    scene.world.node.suspend("tank")
    scene.run()


def imported(scene: Scene) -> None:
    scene.world.node.import_pool("tank")
    scene.run()


@cause("DsgPoolUnusable", "DsgRepositoryWaiting", repairs=imported)
def an_exported_pool(scene: Scene) -> None:
    scene.world.host.unmount("/srv/dsg/.justice/g1")
    scene.world.node.export_pool("tank")
    scene.run()


@cause(
    "DsgPoolUnusable",
    "DsgPoolRejected",
    "DsgRepositoryStalled",
    repairs=lambda s: condition(s, health="ONLINE"),
)
def a_faulted_pool(scene: Scene) -> None:
    condition(scene, health="FAULTED")


def emptied(scene: Scene) -> None:
    scene.world.node.remove(f"{DATASET}/g1", "big")
    scene.world.node.sync()
    scene.run()


def fill(scene: Scene, size: int) -> None:
    scene.world.node.write(f"{DATASET}/g1", "big", random.Random(1).randbytes(size))
    scene.world.node.sync()
    scene.run()


@cause(
    "DsgPoolFilling",
    "DsgQuotaNearFull",
    repairs=emptied,
    objects=(pool(thresholds={"capacityPercent": 40}), small()),
    minutes=32,
)
def much_content(scene: Scene) -> None:
    scene.world.node.pool("tank").size = 128 << 20
    fill(scene, 59 << 20)


@cause("DsgPoolAlmostFull", "DsgPoolFilling", repairs=emptied, minutes=17)
def a_full_pool(scene: Scene) -> None:
    fill(scene, 59 << 20)
    # The model, as OpenZFS, lets nobody write into the last part; a pool that shrinks shows more.
    scene.world.node.pool("tank").size = 61 << 20
    scene.run()


def scrubbed(scene: Scene) -> None:
    condition(scene, scan=Scan("scrub", "finished", 0, int(scene.world.now.timestamp()), 0, 100.0))


@cause(
    "DsgScrubOverdue",
    repairs=scrubbed,
    objects=(pool(thresholds={"capacityPercent": 80, "scrubAgeDays": 30}), repository()),
)
def no_scrub(scene: Scene) -> None:
    scene.run()


# ---- repositories


def fitting(scene: Scene) -> None:
    scene.world.cluster.delete(Key("Repository", "research", "late"))
    scene.run()


@cause("DsgRepositoryStalled", repairs=fitting)
def two_repositories_in_one_place(scene: Scene) -> None:
    scene.world.apply(repository("late", dataset=DATASET))
    scene.run()


def as_declared(scene: Scene) -> None:
    scene.world.zfs.set_properties(DATASET, {"compression": "lz4"})
    scene.run()


@cause("DsgDrift", repairs=as_declared, objects=(pool(), changed(driftPolicy="Report")))
def a_change_by_hand_that_is_only_reported(scene: Scene) -> None:
    scene.world.zfs.set_properties(DATASET, {"compression": "off"})
    scene.run()


@cause("DsgDriftAgainAndAgain")
def a_script_that_works_against_the_operator(scene: Scene) -> None:
    for _ in range(15):
        scene.world.zfs.set_properties(DATASET, {"compression": "off"})
        scene.run()


def unforeign(scene: Scene) -> None:
    scene.world.zfs.destroy(f"{DATASET}/notes")
    scene.run()


@cause("DsgUnexpectedData", repairs=unforeign)
def a_dataset_that_nobody_declared(scene: Scene) -> None:
    scene.world.zfs.create(f"{DATASET}/notes", {})
    scene.run()


def confirmed(scene: Scene) -> None:
    obj = scene.world.get()
    obj["metadata"].setdefault("annotations", {})["dsg.hrdag.org/confirm-delete"] = "justice"
    scene.world.apply(obj)
    scene.run()


@cause("DsgDeletionBlocked", repairs=confirmed, objects=(pool(), changed(deletionPolicy="Delete")))
def a_deletion_that_is_not_confirmed(scene: Scene) -> None:
    scene.world.cluster.delete(REPOSITORY)
    scene.run()


def released(scene: Scene) -> None:
    head = scene.world.local(DATASET, "org.hrdag.dsg:head")
    scene.world.zfs.release([f"{DATASET}/{head}@s1"], "court")
    for _ in range(2):
        scene.world.now += timedelta(hours=2)
        scene.run()


@cause(
    "DsgRetentionBacklog", "DsgUnexpectedData", repairs=released, objects=(pool(), changed(retention={"keepLast": 1}))
)
def a_hold_on_a_version_that_should_go(scene: Scene) -> None:
    commit(scene.world, "first", "Init", {}, FIRST)
    commit(scene.world, "second", "Sync", FIRST, {"input/a": b"2"}, base="s1")
    head = scene.world.local(DATASET, "org.hrdag.dsg:head")
    scene.world.zfs.hold([f"{DATASET}/{head}@s1"], "court")
    for _ in range(2):
        scene.world.now += timedelta(minutes=10)
        scene.run()


# ---- transactions


@cause("DsgTransactionsFailing")
def content_that_was_never_sent(scene: Scene) -> None:
    scene.world.apply(transaction("first", "Init", content=FIRST))
    scene.world.advance("first")
    intend(scene.world, "first", "Commit")
    scene.world.advance("first")
    assert get(scene.world, "first")["status"]["phase"] == "Failed"
    scene.world.watch()


def plane_there(scene: Scene) -> None:
    assert scene.world.data_plane is not None
    scene.world.data_plane.at = Scene().world.data_plane.at  # type: ignore[union-attr]
    scene.world.now += timedelta(minutes=1)
    scene.world.advance("first")
    scene.world.watch()


@cause("DsgTransactionsHeldUp", repairs=plane_there)
def a_data_plane_that_never_started(scene: Scene) -> None:
    assert scene.world.data_plane is not None
    scene.world.data_plane.at = None
    scene.world.apply(transaction("first", "Init", content=FIRST))
    scene.world.advance("first")
    scene.world.watch()


def expired(scene: Scene) -> None:
    scene.world.advance("first")
    assert get(scene.world, "first")["status"]["phase"] == "Expired"
    scene.world.watch()


@cause("DsgTransactionStuck", repairs=expired)
def a_transaction_that_nobody_ends(scene: Scene) -> None:
    scene.world.apply(transaction("first", "Init", content=FIRST))
    scene.world.advance("first")
    scene.world.now += timedelta(hours=2)
    scene.world.watch()


# ---- operator and monitor


def beating(scene: Scene) -> None:
    scene.beat()


@cause("DsgResyncOld", "DsgWatchOld", repairs=beating)
def an_operator_that_hangs(scene: Scene) -> None:
    scene.clock.wait(1500)
    scene.monitor_hearts.resync_finished()
    scene.leases.lost({"node-a": "renewed"}, scene.clock())


@cause("DsgWatchOld", repairs=beating)
def a_watch_that_is_silent(scene: Scene) -> None:
    scene.clock.wait(200)
    scene.monitor_hearts.resync_finished()
    scene.hearts.resync_finished()
    scene.leases.lost({"node-a": "renewed"}, scene.clock())


@cause("DsgNodeLost", repairs=beating)
def a_node_that_is_gone(scene: Scene) -> None:
    scene.clock.wait(100)
    scene.beat(lease=False)
    scene.world.cluster.apply(scene.world.get())


@cause("DsgNoMetrics", "DsgOperatorNotScraped", repairs=lambda s: s.quiet.clear())
def an_operator_that_is_not_scraped(scene: Scene) -> None:
    scene.quiet.add(OPERATOR)


@cause("DsgMonitorSilent", repairs=lambda s: s.quiet.clear())
def no_monitor(scene: Scene) -> None:
    scene.quiet.add(MONITOR)


@cause("DsgMonitorSilent", repairs=beating)
def a_monitor_that_may_not_read_leases(scene: Scene) -> None:
    scene.clock.wait(130)
    looked = scene.monitor_hearts.beats().resync
    scene.hearts.watch_heard("repositories.dsg.hrdag.org")
    scene.hearts.resync_finished()
    scene.leases.lost({"node-a": "renewed"}, scene.clock())
    assert scene.monitor_hearts.beats().resync == looked


@cause("DsgClockSkew", repairs=beating)
def a_clock_that_is_wrong(scene: Scene) -> None:
    scene.hearts.clock_compared(-95.0)


@cause("DsgOperatorFault", "DsgRepositoryStalled", repairs=lambda s: s.run())
def a_fault_of_the_operator(scene: Scene) -> None:
    from dsg.storage.zfs.repository import ZfsRepositories

    plan = ZfsRepositories.plan

    def fail(*_: object) -> Any:
        raise ZeroDivisionError("a bug")

    ZfsRepositories.plan = fail  # type: ignore[method-assign, assignment]
    try:
        scene.run()
    finally:
        ZfsRepositories.plan = plan  # type: ignore[method-assign]


# ---- data plane


def living(scene: Scene) -> None:
    scene.plane_sign = 0.0


@cause("DsgDataPlaneDown", repairs=living)
def a_data_plane_that_is_dead(scene: Scene) -> None:
    scene.plane_sign = 600.0


@cause("DsgDataPlaneNotScraped", repairs=lambda s: s.quiet.clear())
def a_data_plane_that_is_not_scraped(scene: Scene) -> None:
    scene.quiet.add(PLANE)


@cause("DsgDataPlaneFailing")
def a_full_disk_under_the_data_plane(scene: Scene) -> None:
    scene.plane.refused(Code.NO_SPACE)


def answering(scene: Scene) -> None:
    scene.calls.close()


@cause("DsgDataPlaneHung", repairs=answering)
def storage_that_does_not_answer(scene: Scene) -> None:
    scene.calls.enter_context(scene.hanging.noted("/srv/dsg/justice"))


def test_the_rules_and_the_dashboards_queries_are_valid(tmp_path: Path) -> None:
    said = run(promtool(), "check", "rules", "--lint=all", "--lint-fatal", str(RULES))
    assert f"{len(ALERTS)} rules found" in said
    queries = tmp_path / "queries.yaml"
    rules = [
        f"  - record: q{number}\n    expr: |\n      {expr.replace('$__rate_interval', '5m')}"
        for number, expr in enumerate(expressions().values())
    ]
    queries.write_text("groups:\n- name: dashboard\n  rules:\n" + "\n".join(rules) + "\n")
    run(promtool(), "check", "rules", str(queries))


def scenarios() -> Iterator[Scenario]:
    for name, one in CAUSES.items():
        scene = Scene(*one.objects)
        try:
            minutes = one.minutes or max(HOLD[alert] for alert in one.alerts) + 2
            course = [(HEALTHY, scene.pages())]
            one.breaks(scene)
            course.append((minutes, scene.pages()))
            yield Scenario(name, tuple(course), one.alerts)
            one.repairs(scene)
            course.append((REPAIRED, scene.pages()))
            yield Scenario(f"after {name}", tuple(course), frozenset())
        finally:
            scene.close()


def test_each_cause_fires_its_alerts_and_no_others_until_it_is_gone(tmp_path: Path) -> None:
    healthy = Scene(pool(), repository())
    calm = Scenario("a healthy node", ((500, healthy.pages()),), frozenset())
    healthy.close()
    judge(promtool(), [calm, *scenarios()], tmp_path)


def rates() -> dict[str, tuple[str, dict[str, str]]]:
    """Return what only a rate shows: per minute, by alert, with the values of healthy ones below it."""
    commands = STORAGE_TABLE[1].prometheus_name
    return {
        "DsgApiErrors": ("0+3x90", {"dsg_api_requests_total": 'outcome="error",resource="leases",verb="PATCH"'}),
        "DsgStorageCommandsFailing": ("0+1x90", {commands: 'outcome="timeout",program="zfs",verb="list"'}),
        "DsgDataPlaneRefusing": ("0+60x90", {"dsg_plane_refusals_total": 'code="no-certificate"'}),
        "DsgDataPlaneBusy": ("0+12x90", {"dsg_plane_refusals_total": 'code="busy"'}),
        "DsgStorageCommandsStuck": ("1x90", {"dsg_storage_commands_stuck": ""}),
        "DsgAuditUnavailable": (
            "2x90",
            {"dsg_objects_unready": 'kind="SyncTransaction",reason="AuditUnavailable"'},
        ),
    }


def test_what_only_a_rate_shows(tmp_path: Path) -> None:
    tests = []
    for alert, (values, series) in rates().items():
        for fires in (True, False):
            shown = (
                values if fires else re.sub(r"^0\+\d+x", "0x", values).replace("1x90", "0x90").replace("2x90", "0x90")
            )
            tests.append(
                {
                    "name": f"{alert} {fires}",
                    "interval": "1m",
                    "input_series": [
                        {"series": f'{name}{{{labels}{"," if labels else ""}instance="i"}}', "values": shown}
                        for name, labels in series.items()
                    ],
                    "promql_expr_test": [
                        {
                            "expr": f'count(ALERTS{{alertstate="firing",alertname="{alert}"}})',
                            "eval_time": "60m",
                            "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
                        }
                    ],
                }
            )
    file = tmp_path / "rates.json"
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    run(promtool(), "test", "rules", str(file))


@pytest.mark.parametrize(("labels", "shown"), [({"node": "node-a"}, "node-a"), ({}, "10.0.0.1:8080")])
def test_a_summary_names_the_node_where_it_is_known(labels: dict[str, str], shown: str, tmp_path: Path) -> None:
    target = {"instance": "10.0.0.1:8080", **labels}
    of = {"kind": "Repository", "type": "Drifted", **target}
    selector = ",".join(f"{name}={json.dumps(text)}" for name, text in of.items())
    (drift,) = (alert for alert in ALERTS if alert.name == "DsgDrift")
    summary = f"2 Repositories of {shown} differ from what was declared"
    annotations = {"summary": summary, "description": drift.means, "runbook_url": drift.runbook}
    expected = {"exp_labels": {"severity": "warning", **of}, "exp_annotations": annotations}
    test = {
        "interval": "1m",
        "input_series": [{"series": f"dsg_objects_condition{{{selector}}}", "values": "2x60"}],
        "alert_rule_test": [{"eval_time": "30m", "alertname": drift.name, "exp_alerts": [expected]}],
    }
    file = tmp_path / "summary.json"
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]}))
    run(promtool(), "test", "rules", str(file))


def test_every_alert_has_been_seen_to_fire() -> None:
    fired = {alert for one in CAUSES.values() for alert in one.alerts} | rates().keys()
    assert {alert.name for alert in ALERTS} - fired == set()
