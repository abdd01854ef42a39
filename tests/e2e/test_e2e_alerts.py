"""Causes of all alerts, made and mended on real OpenZFS and real processes; their metrics pages are judged by promtool.

Those that take long are left to lots, or to `make soak`: a network that is cut for three minutes, a pass that hangs for
twenty.
"""

from __future__ import annotations

import json
import random
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from dsg.telemetry.alerts import ALERTS
from lab.node import PYTHON
from lab.processes import Process, free_port, spawn
from lab.tools import promtool
from tests.e2e.alerts import (
    AUDIT,
    MONITOR,
    NODE,
    OPERATOR,
    OTHER,
    PLANE,
    SHELF,
    SIGHT,
    Cause,
    Scraped,
    course,
    growing,
    offer,
    placed,
    small,
    value,
)
from tests.e2e.cluster import NAMESPACE, Cluster, wait
from tests.e2e.conftest import QUICK
from tests.e2e.test_e2e_researchers import Researcher
from tests.operations.promtool import Pages, Scenario, judge
from tests.operations.test_rules import HOLD

pytestmark = pytest.mark.lab

HALF = f"/var/tmp/{SHELF}-2"
SINGLE, BRIM = "single", "brim"
HANG = "/tmp/hang"
SEEN: set[str] = set()
"""Alerts that fired as their causes were made, and ended with them."""


def judged(scenarios: Sequence[Scenario], directory: Path) -> None:
    judge(promtool(), scenarios, directory)
    for one in scenarios:
        SEEN.update(one.firing)


@pytest.fixture(scope="module")
def monitor(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, int]]:
    directory, port = tmp_path_factory.mktemp("monitor"), free_port()
    command = [sys.executable, "-m", "dsg.operator", "monitor", f"--kubeconfig={cluster.api.kubeconfig('monitor')}"]
    process = spawn([*command, f"--listen=127.0.0.1:{port}"], directory / "log", directory / "pid", tied=True)
    yield process, port
    process.end()


@pytest.fixture(scope="module")
def scraped(
    request: pytest.FixtureRequest,
    cluster: Cluster,
    researchers: str,
    monitor: tuple[Process, int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Scraped]:
    node, disks = cluster.node(NODE), [f"/var/tmp/{SHELF}-1", HALF]
    made = Scraped(cluster, monitor[1], tmp_path_factory.mktemp("alerts"))
    node.stop_operator()
    cluster.sh("mkdir", "-p", AUDIT, f"/srv/{SHELF}", f"/srv/{SINGLE}", f"/srv/{BRIM}", node=NODE)
    cluster.sh("mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", AUDIT, node=NODE)
    made.start_plane()
    made.start_operator()
    cluster.sh("truncate", "-s", "512M", *disks, node=NODE)
    cluster.sh("zpool", "create", "-O", "mountpoint=none", SHELF, "mirror", *disks, node=NODE)
    # The lab's own pools are to be scrubbed within a month.
    for name in (NODE, "node-a"):
        cluster.sh("zpool", "scrub", "-w", "tank", node=name)
    # ZFS keeps 128 MiB for itself, which is less than 4 % of this.
    cluster.sh("truncate", "-s", "3600M", f"/var/tmp/{BRIM}", node=NODE)
    quick = ("-O", "compression=off", "-O", "checksum=off", "-O", "recordsize=1M", "-O", "atime=off")
    cluster.sh("zpool", "create", "-O", "mountpoint=none", *quick, BRIM, f"/var/tmp/{BRIM}", node=NODE)
    cluster.sh("zfs", "create", "-o", f"mountpoint=/srv/{BRIM}-filler", f"{BRIM}/filler", node=NODE)
    cluster.apply(offer(SHELF, f"/srv/{SHELF}"), offer(BRIM, f"/srv/{BRIM}"))
    for name in (SHELF, BRIM):
        cluster.wait_reason(f"{NODE}-{name}", "Reconciled", kind="storagepool", timeout=SIGHT)
    wait("the data plane's first sign of life", lambda: "dsg_plane_silence_seconds" in made.operator(), 60)
    wait("the monitor's first look", lambda: f'dsg_node="{NODE}"' in made.monitor(), 60)
    overdue = condition("ScrubOverdue", "StoragePool")
    wait(
        "no scrub to be overdue",
        lambda: not any(value(page, "dsg_objects_condition", overdue) for page in made.pages().values()),
        SIGHT,
    )
    made.well = made.pages()
    if any(item.name == test_a_full_pool.__name__ for item in request.session.items):
        # It takes a minute, and other things are broken meanwhile.
        fill = f"dd if=/dev/zero of=/srv/{BRIM}-filler/all bs=1M conv=fsync; zpool sync {BRIM}"
        node.start_daemon("fill", ["nice", "-n", "19", "sh", "-c", fill])
    assert made.well.keys() == {OPERATOR, OTHER, MONITOR, PLANE}
    try:
        yield made
    finally:
        made.way.mend()
        found = cluster.api.kubectl("admin", "get", "repositories", "-n", NAMESPACE, "-o", "json").stdout
        pools = {SHELF, SINGLE, BRIM}
        names = [o["metadata"]["name"] for o in json.loads(found)["items"] if o["spec"]["storage"]["pool"] in pools]
        if names:
            cluster.api.kubectl("admin", "delete", "repository", *names, "-n", NAMESPACE)
        gone = [f"{NODE}-{name}" for name in sorted(pools)]
        cluster.api.kubectl("admin", "delete", "storagepool", *gone, "--ignore-not-found")
        node.stop_operator()
        node.stop_data_plane()
        made.way.close()
        for name in sorted(pools):
            node.run("zpool", "destroy", "-f", name, check=False)
        cluster.sh("rm", "-f", *disks, f"/var/tmp/{BRIM}", node=NODE)
        cluster.sh("umount", AUDIT, node=NODE)
        cluster.lab.start_operator(NODE, QUICK)


def by_hand(scraped: Scraped, *argv: str) -> Callable[[], object]:
    """Return what an administrator does on the node."""
    return lambda: scraped.cluster.sh(*argv, node=NODE)


def in_shell(scraped: Scraped, text: str) -> Callable[[], object]:
    return lambda: scraped.node.run("sh", "-c", text, timeout=300)


def condition(type_: str, kind: str = "Repository") -> dict[str, str]:
    return {"kind": kind, "type": type_}


# ---- what is wrong with requests to the data plane


@pytest.mark.lot
def test_a_data_plane_that_is_knocked_at_crowded_and_not_scraped(scraped: Scraped, tmp_path: Path) -> None:
    def happen(seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for _ in range(10):
                scraped.knock()
            scraped.crowd(4)

    scenarios = growing(scraped, ["DsgDataPlaneRefusing", "DsgDataPlaneBusy"], 15, happen)
    unseen = {address: page for address, page in scraped.well.items() if address != PLANE}
    alert = "DsgDataPlaneNotScraped"
    scenarios.append(Scenario("not scraped", [(60, scraped.well), (17, unseen)], frozenset([alert]), alert))
    course_ = [(60, scraped.well), (17, unseen), (60, scraped.well)]
    scenarios.append(Scenario("scraped again", course_, frozenset(), alert))
    judged(scenarios, tmp_path)


@pytest.mark.lot
def test_more_content_than_there_is_room_for(scraped: Scraped, tmp_path: Path) -> None:
    cluster = scraped.cluster
    cluster.apply(small("tight"))
    cluster.wait_ready("tight", timeout=SIGHT)
    alice = Researcher(cluster, "alice", tmp_path / "alice")
    alice.copy.mkdir()
    for number in range(3):
        (alice.copy / f"evidence-{number}").write_bytes(random.Random(number).randbytes(8 << 20))
    code = {"code": "no-space"}

    def send() -> None:
        said = alice.dsg("init", "tight", "-n", NAMESPACE, "-m", "first", code=1)
        assert "space" in said

    sent = Cause("DsgDataPlaneFailing", "dsg_plane_refusals_total", code, send, counts=True, page=Scraped.plane)
    scenarios = course(scraped, [sent])
    cluster.apply(small("tight", "64Mi"))
    cluster.wait_ready("tight", timeout=SIGHT)
    # What did not fit is there now that there is room, and nothing of the first attempt is in the way.
    alice.dsg("init", "tight", "-n", NAMESPACE, "-m", "first")
    judged(scenarios, tmp_path)


# ---- pools, repositories, transactions


def test_causes_in_a_pool_and_its_repositories(scraped: Scraped, tmp_path: Path) -> None:
    cluster, began = scraped.cluster, time.monotonic()
    watched, late = small("watched", driftPolicy="Report"), placed("late")
    late["spec"]["storage"]["dataset"] = f"{SHELF}/dsg/watched"
    again = offer(SHELF, f"/srv/{SHELF}-again")
    again["metadata"]["name"] = f"{NODE}-again"
    cluster.apply(watched, placed("leaving", deletionPolicy="Delete"), placed("fought"))
    cluster.wait_ready("watched", "leaving", "fought", timeout=SIGHT)

    def delete_late() -> None:
        scraped.forget("held-up")
        cluster.delete("late")
        cluster.wait_gone("late")

    def delete_again() -> None:
        cluster.api.kubectl("admin", "delete", "storagepool", f"{NODE}-again")

    # As a script would that puts its own policy in place again and again.
    fight = f"""
        for round in $(seq 12); do
            zfs set compression=off {SHELF}/dsg/fought
            for look in $(seq 200); do
                if [ "$(zfs get -H -o value compression {SHELF}/dsg/fought)" = lz4 ]; then break; fi
                sleep 0.2
            done
        done
    """
    scrub = f"zpool wait -t resilver {SHELF}; zpool scrub -w {SHELF}"
    causes = [
        Cause(
            "DsgPoolDegraded",
            "dsg_pool_health",
            {"pool": f"{NODE}-{SHELF}", "health": "DEGRADED"},
            by_hand(scraped, "zpool", "offline", SHELF, HALF),
            by_hand(scraped, "zpool", "online", SHELF, HALF),
        ),
        Cause(
            "DsgDrift",
            "dsg_objects_condition",
            condition("Drifted"),
            by_hand(scraped, "zfs", "set", "compression=off", f"{SHELF}/dsg/watched"),
            by_hand(scraped, "zfs", "set", "compression=lz4", f"{SHELF}/dsg/watched"),
        ),
        Cause(
            "DsgRepositoryStalled",
            "dsg_objects",
            {"kind": "Repository", "ready": "False"},
            lambda: cluster.apply(late),
            delete_late,
        ),
        Cause(
            "DsgTransactionsHeldUp",
            "dsg_objects_unready",
            {"kind": "SyncTransaction", "reason": "RepositoryNotReady"},
            lambda: scraped.open("held-up", "late", "Init", {"a": "1"}),
        ),
        Cause(
            "DsgUnexpectedData",
            "dsg_objects_condition",
            condition("UnexpectedData"),
            by_hand(scraped, "zfs", "create", f"{SHELF}/dsg/watched/notes"),
            by_hand(scraped, "zfs", "destroy", f"{SHELF}/dsg/watched/notes"),
        ),
        Cause(
            "DsgDeletionBlocked",
            "dsg_objects_condition",
            condition("DeletionBlocked"),
            lambda: cluster.delete("leaving"),
            lambda: cluster.annotate("leaving", confirm_delete="leaving"),
        ),
        Cause(
            "DsgPoolRejected",
            "dsg_objects",
            {"kind": "StoragePool", "ready": "False"},
            lambda: cluster.apply(again),
            delete_again,
        ),
        Cause(
            "DsgDriftAgainAndAgain",
            "dsg_drift_corrected_total",
            {},
            in_shell(scraped, fight),
            above=10,
            counts=True,
        ),
        Cause(
            "DsgScrubOverdue",
            "dsg_objects_condition",
            condition("ScrubOverdue", "StoragePool"),
            lambda: cluster.apply(offer(SHELF, f"/srv/{SHELF}", scrubAgeDays=30)),
            in_shell(scraped, scrub),
        ),
    ]
    judged(course(scraped, causes), tmp_path)
    print(f"{len(causes)} causes made and mended in {time.monotonic() - began:.0f} s")


@pytest.mark.lot
def test_causes_in_transactions(scraped: Scraped, tmp_path: Path) -> None:
    cluster = scraped.cluster
    kept = placed("kept", retention={"keepLast": 1})
    cluster.apply(kept, placed("busy"))
    cluster.wait_ready("kept", "busy", timeout=SIGHT)

    first = f"zfs list -H -o name -t snapshot -r {SHELF}/dsg/kept | grep '@s1$'"

    def hold() -> None:
        scraped.commit("kept-1", "kept", "Init", {}, {"a": "1"})
        in_shell(scraped, f"{first} | xargs zfs hold court")()
        scraped.commit("kept-2", "kept", "Sync", {"a": "1"}, {"a": "2"})

    def release() -> None:
        in_shell(scraped, f"{first} | xargs zfs release court")()
        cluster.apply(placed("kept", retention={"keepLast": 5}))

    def promise_too_much() -> None:
        scraped.open("empty", "busy", "Init", {"a": "never sent"})
        wait("the transaction to be staged", lambda: scraped.phase("empty") == "Staging", SIGHT)
        scraped.intend("empty", "Commit")
        wait("the transaction to fail", lambda: scraped.phase("empty") == "Failed", SIGHT)

    def unrecorded() -> None:
        in_shell(scraped, f"cat /dev/zero > {AUDIT}/filler 2>/dev/null || true")()
        # What is left of the last page takes a few records.
        for number in range(12):
            scraped.open(f"unrecorded-{number}", "busy", "Init", {"a": "1"}, message="m" * 1000)

    def recorded() -> None:
        by_hand(scraped, "rm", f"{AUDIT}/filler")()
        scraped.forget(*(f"unrecorded-{number}" for number in range(12)))

    failed = {"outcome": "Failed"}
    causes = [
        Cause("DsgRetentionBacklog", "dsg_retention_backlog", {}, hold, release),
        Cause("DsgTransactionsFailing", "dsg_transactions_total", failed, promise_too_much, counts=True),
        Cause(
            "DsgAuditUnavailable",
            "dsg_objects_unready",
            {"kind": "SyncTransaction", "reason": "AuditUnavailable"},
            unrecorded,
            recorded,
        ),
    ]
    judged(course(scraped, causes), tmp_path)


def test_a_pool_that_is_away(scraped: Scraped, tmp_path: Path) -> None:
    def export() -> None:
        wait("the export", lambda: scraped.node.run("zpool", "export", SHELF, check=False).returncode == 0, 30)

    waits = {"kind": "Repository", "reason": "PoolUnavailable"}
    causes = [
        Cause(
            "DsgPoolUnusable",
            "dsg_objects_unready",
            {"kind": "StoragePool", "reason": "PoolUnavailable"},
            export,
            by_hand(scraped, "zpool", "import", "-d", "/var/tmp", SHELF),
        ),
        Cause("DsgRepositoryWaiting", "dsg_objects_unready", waits, lambda: None),
    ]
    judged(course(scraped, causes), tmp_path)


@pytest.mark.lot
def test_a_quota_and_damage(scraped: Scraped, tmp_path: Path) -> None:
    cluster, pool_is = scraped.cluster, {"pool": f"{NODE}-{SHELF}"}
    cluster.wait_ready("watched", timeout=90)
    head = f"/srv/{SHELF}/.watched/g1"
    # A MiB of chance, many times: no record of it compresses, and an emulated node makes it quickly.
    block = "head -c 1M /dev/urandom > /tmp/block && for i in $(seq 15); do cat /tmp/block; done"
    write = f"mount -o remount,rw {head} && ({block}) > {head}/big && zpool sync {SHELF}"
    more = small("watched", quota="32Mi", driftPolicy="Report")
    quota = Cause(
        "DsgQuotaNearFull",
        "dsg_quota_used_ratio",
        {},
        in_shell(scraped, write),
        lambda: cluster.apply(more),
        above=0.9,
    )
    scenarios = course(scraped, [quota])

    # One side is overwritten where there is data; the other mends it.
    spoil = f"dd if=/dev/urandom of={HALF} bs=1M seek=5 count=500 conv=notrunc 2>/dev/null; zpool scrub -w {SHELF}"
    errors = Cause(
        "DsgPoolErrors",
        "dsg_pool_errors",
        {**pool_is, "type": "checksum"},
        in_shell(scraped, spoil),
        in_shell(scraped, f"zpool clear {SHELF}; zpool scrub -w {SHELF}"),
    )
    scenarios += course(scraped, [errors])

    # Both sides of one block of a file, which zdb names: hexadecimal, behind labels and boot block of 4 MiB.
    by_hand(scraped, "zfs", "create", "-o", f"mountpoint=/srv/{SHELF}-loose", f"{SHELF}/loose")()
    loose = f"/srv/{SHELF}-loose/file"
    in_shell(scraped, f"head -c 128K /dev/urandom > {loose}; zpool sync {SHELF}")()
    number = cluster.sh("stat", "-c", "%i", loose, node=NODE)
    told = cluster.sh("zdb", "-ddddd", f"{SHELF}/loose", number, node=NODE)
    place = re.search(r"\bL0 (?:DVA\[0\]=<)?0:([0-9a-f]+):", told)
    assert place is not None, told
    at = (int(place.group(1), 16) + (4 << 20)) // 512
    sides = (
        f"for side in /var/tmp/{SHELF}-1 {HALF}; do dd if=/dev/urandom of=$side seek={at} count=64 conv=notrunc; done"
    )
    lost = Cause(
        "DsgPoolDataErrors",
        "dsg_pool_errors",
        {**pool_is, "type": "data"},
        in_shell(scraped, f"({sides}) 2>/dev/null; zpool scrub -w {SHELF}"),
        # As its runbook says: what is damaged goes, and the pool is scrubbed twice.
        in_shell(scraped, f"rm {loose}; zpool scrub -w {SHELF}; zpool scrub -w {SHELF}; zpool clear {SHELF}"),
    )
    scenarios += course(scraped, [lost])
    judged(scenarios, tmp_path)


# ---- operator


def test_the_operator_tells_more_when_it_is_asked_to_and_no_secret(scraped: Scraped) -> None:
    node, kept = scraped.node, len(scraped.node.operator_log())
    pid = node.daemon_pid("dsg-operator")
    for number, level in (("USR1", "debug"), ("USR2", "info")):
        scraped.cluster.sh("kill", f"-{number}", str(pid), node=NODE)
        words = f"log level changed to {level}"
        wait(words, lambda words=words: words in node.operator_log()[kept:], 30)  # type: ignore[misc]
        time.sleep(14 if level == "debug" else 0)
    log = node.operator_log()[kept:]
    told = [
        line for text in log.splitlines() if text.startswith("{") and (line := json.loads(text))["level"] == "debug"
    ]
    assert any(line["event"] == "pass ended" for line in told), "one was taken meanwhile"
    assert scraped.cluster.api.credentials.token("operator") not in log


@pytest.mark.lot
def test_commands_and_rights_that_are_missing(scraped: Scraped, tmp_path: Path) -> None:
    kubectl = scraped.cluster.api.kubectl
    said = kubectl("admin", "get", "rolebinding", "dsg-operator-leases", "-n", "dsg-system", "-o", "json").stdout

    def happen(seconds: float) -> None:
        scraped.cluster.sh("mv", "/usr/sbin/zpool", "/usr/sbin/zpool.away", node=NODE)
        kubectl("admin", "delete", "rolebinding", "dsg-operator-leases", "-n", "dsg-system")
        try:
            time.sleep(seconds)
        finally:
            binding = json.loads(said)
            kept = {key: binding["metadata"][key] for key in ("name", "namespace")}
            kubectl("admin", "apply", "-f", "-", input=json.dumps({**binding, "metadata": kept}))
            scraped.cluster.sh("mv", "/usr/sbin/zpool.away", "/usr/sbin/zpool", node=NODE)

    scenarios = growing(scraped, ["DsgStorageCommandsFailing", "DsgApiErrors"], 35, happen)
    judged(scenarios, tmp_path)
    scraped.cluster.wait_ready("watched", timeout=SIGHT)


@contextmanager
def bug(scraped: Scraped, module: str, text: str) -> Iterator[None]:
    """Put a bug into a module of the operator that is installed, at the end of it, and take it out again."""
    cluster, node = scraped.cluster, scraped.node
    file = cluster.sh(PYTHON, "-c", f"import {module} as m; print(m.__file__)", node=NODE).strip()
    cluster.sh("cp", file, "/tmp/sound.py", node=NODE)

    def restart() -> None:
        node.stop_operator()
        scraped.start_operator()
        wait("the operator to look", lambda: value(scraped.operator(), "dsg_objects", {"kind": "StoragePool"}) >= 2, 90)

    node.run("sh", "-c", f"cat >> {file}", input=text)
    try:
        restart()
        yield
    finally:
        cluster.sh("cp", "/tmp/sound.py", file, node=NODE)
        restart()


@pytest.mark.lot
def test_a_fault_of_the_operator(scraped: Scraped, tmp_path: Path) -> None:
    """A bug is put into the program that is installed, for one Repository; the others go on."""
    cluster = scraped.cluster
    fails = """
_sound = ZfsRepositories.plan
def _faulty(self, target, observed):
    if target.name == "faulty":
        raise ZeroDivisionError("a bug")
    return _sound(self, target, observed)
ZfsRepositories.plan = _faulty
"""
    cluster.apply(placed("faulty"))
    cluster.wait_ready("faulty", timeout=SIGHT)
    with ExitStack() as stack:

        def broken() -> None:
            stack.enter_context(bug(scraped, "dsg.storage.zfs.repository", fails))

        fault = Cause("DsgOperatorFault", "dsg_objects_unready", {"reason": "OperatorFault"}, broken, stack.close)
        scenarios = course(scraped, [fault])
    judged(scenarios, tmp_path)
    assert cluster.condition("watched", "Ready")["status"] == "True"


@pytest.mark.soak
def test_a_pass_that_hangs(scraped: Scraped, tmp_path: Path) -> None:
    """No storage makes a pass hang for twenty minutes, for commands are given up; so a bug does."""
    hangs = f"""
_sound = Engine.reconcile
def _hanging(self, keys):
    import pathlib, time
    while pathlib.Path("{HANG}").exists():
        time.sleep(0.2)
    return _sound(self, keys)
Engine.reconcile = _hanging
"""

    def age() -> float:
        return value(scraped.operator(), "dsg_resync_age_seconds")

    with bug(scraped, "dsg.reconcile.engine", hangs):
        before = scraped.pages()
        assert age() < 60
        scraped.cluster.sh("touch", HANG, node=NODE)
        try:
            wait("the passes' age to show", lambda: age() > 1200, 1500)
            during = scraped.pages()
        finally:
            scraped.cluster.sh("rm", HANG, node=NODE)
        wait("a pass to end", lambda: age() < 60, SIGHT)
        after = scraped.pages()
    alert = "DsgResyncOld"
    seen: list[tuple[int, Pages]] = [(60, before), (HOLD[alert] + 2, during)]
    ended = Scenario("a pass ends", [*seen, (60, after)], frozenset(), alert)
    judged([Scenario("a pass hangs", seen, frozenset([alert]), alert), ended], tmp_path)


def on_a_disk_that_can_break(scraped: Scraped, *names: str) -> None:
    """Have Repositories in a pool of one disk that is not this node's only one."""
    cluster, node = scraped.cluster, scraped.node
    if SINGLE not in node.run("zpool", "list", "-H", "-o", "name").stdout.split():
        node.create_pool(SINGLE, "-O", "mountpoint=none", disks=(1,))
    cluster.apply(offer(SINGLE, f"/srv/{SINGLE}"), *(placed(name, SINGLE) for name in names))
    cluster.wait_ready(*names, timeout=SIGHT)


@pytest.mark.lot
def test_a_disk_that_breaks_under_a_command(scraped: Scraped, tmp_path: Path) -> None:
    """The operator begins nothing in a pool that it knows to be suspended; so nobody may find it out before it does."""
    node = scraped.node
    on_a_disk_that_can_break(scraped, "caught")
    node.run("zpool", "sync", SINGLE)

    def broken() -> None:
        node.break_disk(1)
        scraped.open("caught-1", "caught", "Init", {"a": "1"})

    def mended() -> None:
        node.mend_disk(1)
        node.run("zpool", "clear", SINGLE, timeout=120)

    stuck = Cause("DsgStorageCommandsStuck", "dsg_storage_commands_stuck", {}, broken, mended)
    judged(course(scraped, [stuck]), tmp_path)
    scraped.cluster.wait_ready("caught", timeout=SIGHT)
    scraped.forget("caught-1")


@pytest.mark.lot
def test_storage_that_hangs_and_a_clock_that_is_wrong(scraped: Scraped, tmp_path: Path) -> None:
    cluster, node = scraped.cluster, scraped.node
    on_a_disk_that_can_break(scraped, "hung", "hanging")
    alice = Researcher(cluster, "alice", tmp_path / "alice")
    alice.copy.mkdir()
    (alice.copy / "evidence").write_bytes(random.Random(5).randbytes(200 << 20))
    scraped.open("overdue", "hanging", "Init", {"a": "1"}, timeout="60s")
    wait("the transaction to be staged", lambda: scraped.phase("overdue") == "Staging", SIGHT)
    before = scraped.pages()
    sending = alice.start("init", "hung", "-n", NAMESPACE, "-m", "first")
    arrived = value(before[PLANE], "dsg_plane_transferred_bytes_total") + (8 << 20)
    try:
        wait("content to arrive", lambda: value(scraped.plane(), "dsg_plane_transferred_bytes_total") > arrived, SIGHT)
    except BaseException:
        sending.kill()
        sending.communicate()
        raise
    node.break_disk(1)
    try:
        # As if a battery had run out.
        node.run("date", "-s", "+1000 seconds")
        pool_is = {"pool": f"{NODE}-{SINGLE}", "health": "SUSPENDED"}
        shows: dict[str, Callable[[], bool]] = {
            "DsgPoolUnusable": lambda: value(scraped.operator(), "dsg_pool_health", pool_is) > 0,
            "DsgClockSkew": lambda: abs(value(scraped.operator(), "dsg_clock_offset_seconds")) > 30,
            "DsgTransactionStuck": lambda: value(scraped.operator(), "dsg_transactions_overdue_seconds") > 900,
            "DsgDataPlaneHung": lambda: value(scraped.plane(), "dsg_plane_calls_hanging") > 0,
        }
        for alert, there in shows.items():
            wait(f"{alert}: the cause to show", there, 240)
        during = scraped.pages()
    finally:
        node.mend_disk(1)
        cluster.sh("zpool", "clear", SINGLE, node=NODE)
        node.run("date", "-s", "-1000 seconds")
        sending.kill()
        sending.communicate()
    for alert, there in shows.items():
        wait(f"{alert}: the cause to go", lambda there=there: not there(), 240)  # type: ignore[misc]
    cluster.wait_ready("hung", "hanging", timeout=SIGHT)
    after = scraped.pages()
    scenarios = []
    for alert in shows:
        seen: list[tuple[int, Pages]] = [(60, before), (8 if alert != "DsgClockSkew" else 12, during)]
        scenarios.append(Scenario(f"{alert} fires", seen, frozenset([alert]), alert))
        scenarios.append(Scenario(f"{alert} ends", [*seen, (70, after)], frozenset(), alert))
    judged(scenarios, tmp_path)
    scraped.forget("overdue")


@pytest.mark.lot
def test_a_full_pool(scraped: Scraped, tmp_path: Path) -> None:
    wait("the pool to be full", lambda: scraped.node.daemon_pid("fill") is None, 300)
    emptied = in_shell(scraped, f"zfs destroy {BRIM}/filler; zpool sync {BRIM}")
    pool_is = {"pool": f"{NODE}-{BRIM}"}
    causes = [
        Cause("DsgPoolAlmostFull", "dsg_pool_capacity_ratio", pool_is, lambda: None, emptied, 0.95),
        Cause("DsgPoolFilling", "dsg_objects_condition", condition("CapacityPressure", "StoragePool"), lambda: None),
    ]
    judged(course(scraped, causes, before=scraped.well), tmp_path)


# ---- what is silent


@pytest.mark.soak
def test_a_network_that_is_cut(scraped: Scraped, tmp_path: Path) -> None:
    def silence() -> float:
        repositories = {"resource": "repositories.dsg.hrdag.org"}
        return value(scraped.operator(), "dsg_watch_age_seconds", repositories)

    before = scraped.pages()
    scraped.way.cut()
    try:
        wait("the watches' silence to show", lambda: silence() > 180, 260)
        during = scraped.pages()
    finally:
        scraped.way.mend()
    wait("the watches to be heard", lambda: silence() < 60, SIGHT)
    alert = "DsgWatchOld"
    seen: list[tuple[int, Pages]] = [(60, before), (5, during)]
    ended = Scenario("heard again", [*seen, (60, scraped.pages())], frozenset(), alert)
    judged([Scenario("nothing is heard", seen, frozenset([alert]), alert), ended], tmp_path)


def test_a_silent_data_plane_operator_and_monitor(
    scraped: Scraped, monitor: tuple[Process, int], tmp_path: Path
) -> None:
    began, node, healthy = time.monotonic(), scraped.node, scraped.well
    about = "DsgDataPlane.+|DsgNodeLost|DsgOperatorNotScraped|DsgNoMetrics|DsgMonitorSilent|DsgClockSkew"
    node.stop_data_plane("KILL")
    scraped.way.cut()
    wait("the data plane's silence to show", lambda: value(scraped.operator(), "dsg_plane_silence_seconds") > 60, SIGHT)
    wait(
        "the operator's silence to show",
        lambda: value(scraped.monitor(), "dsg_node_lease_age_seconds", {"dsg_node": NODE}) > 45,
        SIGHT,
    )
    cut_off = scraped.pages()
    assert PLANE not in cut_off
    node.stop_operator("KILL")
    lost = scraped.pages()
    assert lost.keys() == {OTHER, MONITOR}
    scraped.way.mend()
    monitor[0].kill()
    dark = {address: page for address, page in scraped.pages().items() if address == OTHER}
    silent = frozenset(["DsgDataPlaneDown", "DsgNodeLost"])
    scenarios = [
        Scenario("all well", [(120, healthy)], frozenset(), about),
        Scenario("no data plane, no network", [(60, healthy), (5, cut_off)], silent, about),
        Scenario("no operator", [(60, healthy), (5, lost)], frozenset(["DsgNodeLost"]), about),
        Scenario("no monitor", [(60, healthy), (12, dark)], frozenset(["DsgMonitorSilent"]), about),
        Scenario("nothing at all", [(60, healthy), (12, {})], frozenset(["DsgNoMetrics", "DsgMonitorSilent"]), about),
    ]
    unseen = {address: page for address, page in healthy.items() if address != OPERATOR}
    not_scraped = frozenset(["DsgOperatorNotScraped"])
    scenarios.append(Scenario("not scraped", [(60, healthy), (12, unseen)], not_scraped, "DsgOperatorNotScraped"))
    scenarios.append(Scenario("scraped again", [(60, healthy), (12, unseen), (60, healthy)], frozenset(), about))
    judged(scenarios, tmp_path)
    print(f"data plane, network, operator and monitor silent, and seen so, in {time.monotonic() - began:.0f} s")


def test_all_are_back(scraped: Scraped, monitor: tuple[Process, int], tmp_path: Path) -> None:
    directory = tmp_path / "monitor"
    directory.mkdir()
    command = [sys.executable, "-m", "dsg.operator", "monitor"]
    command += [f"--kubeconfig={scraped.cluster.api.kubeconfig('monitor')}", f"--listen=127.0.0.1:{monitor[1]}"]
    again = spawn(command, directory / "log", directory / "pid", tied=True)
    try:
        scraped.start_plane()
        scraped.start_operator()
        wait("the node to be back", lambda: value(scraped.operator(), "dsg_objects", {"kind": "StoragePool"}) >= 2, 90)
        wait(
            "the Lease to be renewed",
            lambda: 0 < value(scraped.monitor(), "dsg_node_lease_age_seconds", {"dsg_node": NODE}) < 20,
            90,
        )
        wait("the data plane to be heard", lambda: value(scraped.operator(), "dsg_plane_silence_seconds") < 30, 90)
        back = scraped.pages()
    finally:
        again.end()
    about = "DsgDataPlaneDown|DsgNodeLost|DsgOperatorNotScraped|DsgNoMetrics|DsgMonitorSilent|DsgClockSkew|DsgWatchOld"
    judged([Scenario("well again", [(60, scraped.well), (15, {}), (60, back)], frozenset(), about)], tmp_path)


@pytest.mark.soak
def test_every_alert_fired_by_its_cause() -> None:
    assert {alert.name for alert in ALERTS} == SEEN
