"""Objects in every state that tools should tell apart, from a real kube-apiserver with the operator at work.

`play` goes through them on one site; each object is taken the moment it is in its state. Names are those of the files
in testdata.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from typing import Any

from dsg.operator.api_server import ApiServer, load_client
from dsg.operator.kubernetes_cluster import KubernetesCluster
from dsg.operator.leases import Leases
from dsg.operator.monitor import Monitor
from tests.gitops.judged import condition
from tests.gitops.site import Site, wait
from tests.reconcile.specs import pool, repository
from tests.reconcile.test_transactions import FIRST, SECOND
from tests.reconcile.test_transactions import transaction as anybodys

Scene = tuple[str, dict[str, Any]]
"""A name, and the object."""

OURS = {**FIRST, "input/a": b"ours"}


def _repository(name: str, *, storage: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    obj = repository(name, **(storage or {}))
    obj["spec"].update(spec)
    return obj


def _pool(name: str, root: str, **thresholds: Any) -> dict[str, Any]:
    obj = pool(name, thresholds={"capacityPercent": 80, **thresholds})
    obj["spec"]["storage"]["root"] = root
    return obj


def transaction(name: str, operation: str = "Sync", **spec: Any) -> dict[str, Any]:
    """Return a SyncTransaction of whoever applies it: the API server admits no other author."""
    return anybodys(name, operation, **{"author": "admin", **spec})


JUSTICE, POOL = repository("justice"), pool()
STEADY = repository("steady")
INIT = transaction("first", "Init", content=FIRST)


def play(site: Site) -> Iterator[Scene]:
    """Go through all states; the operator must not run yet, and does not run in the end."""
    site.apply(POOL, JUSTICE, INIT)
    yield "not_looked_at", site.get(POOL)
    yield "not_looked_at", site.get(JUSTICE)
    yield "not_looked_at", site.get(INIT)
    site.start()
    yield "well", site.wait_reason(JUSTICE, "Reconciled")
    yield "well", site.wait_reason(POOL, "Reconciled")
    yield from _refused(site)
    yield from _transactions(site)
    yield from _by_hand(site)
    yield from _deleted(site)
    yield from _pools(site)
    yield from _sick(site)
    site.stop()
    yield from _silent(site)


def _refused(site: Site) -> Iterator[Scene]:
    site.api.kubectl("admin", "create", "namespace", "elsewhere")
    site.zfs.create("tank/dsg/theirs", {"mountpoint": "none"})
    homeless = repository("homeless", pool="vault", dataset="vault/dsg/homeless")
    outside = repository("outside", dataset="tank/outside")
    stranger = repository("stranger", namespace="elsewhere")
    rival = repository("rival", dataset="tank/dsg/justice")
    foreign = repository("foreign", dataset="tank/dsg/theirs")
    late = (homeless, outside, stranger)
    site.apply(rival, foreign, *late)
    yield "waits_for_its_pool", site.wait_reason(homeless, "AwaitingPool")
    yield "path_conflict", site.wait_reason(rival, "PathConflict")
    yield "dataset_foreign", site.wait_reason(foreign, "DatasetForeign")
    for name, obj, reason in (
        ("pool_not_declared", homeless, "PoolNotDeclared"),
        ("outside_pool", outside, "OutsidePool"),
        ("namespace_not_admitted", stranger, "NamespaceNotAdmitted"),
    ):
        yield name, site.wait_reason(obj, reason)
    site.delete(rival, foreign, *late, cascade="background")


def _intend(site: Site, obj: dict[str, Any], intent: str) -> None:
    site.patch(obj, {"spec": {"intent": intent}})


def _transactions(site: Site) -> Iterator[Scene]:
    yield "staged", site.wait_reason(INIT, "Staged")
    site.send(INIT, "justice", {}, FIRST)
    _intend(site, INIT, "Commit")
    yield "committed", site.wait_reason(INIT, "Committed")
    theirs = transaction("theirs", content=SECOND, base="s1")
    ours = transaction("ours", content=OURS, base="s1")
    lost = transaction("lost", content=SECOND, base="s9")
    short = transaction("short", content=SECOND, base="s1", timeout="1s")
    early = transaction("early", "Init", content=FIRST, repositoryRef={"name": "nowhere"})
    same = transaction("same", "Restore", base="s1", restore="s1")
    site.apply(theirs, ours, lost, short, early, same)
    yield "repository_not_found", site.wait_reason(early, "RepositoryNotFound")
    yield "failed", site.wait_reason(lost, "BaseGone")
    yield "expired", site.wait_reason(short, "Expired")
    for obj, content in ((theirs, SECOND), (ours, OURS)):
        site.wait_reason(obj, "Staged")
        site.send(obj, "justice", FIRST, content)
    site.wait_reason(same, "Staged")
    _intend(site, same, "Commit")
    yield "nothing_to_change", site.wait_reason(same, "NothingToChange")
    _intend(site, theirs, "Commit")
    site.wait_reason(theirs, "Committed")
    _intend(site, ours, "Commit")
    yield "conflict", site.wait_reason(ours, "PathsConflict")
    _intend(site, early, "Abort")
    yield "aborted", site.wait_reason(early, "Aborted")


def _by_hand(site: Site) -> Iterator[Scene]:
    lenient = _repository("lenient", driftPolicy="Report")
    site.apply(lenient, _repository("paused", suspend=True), STEADY)
    site.wait_reason(lenient, "Reconciled")
    site.wait_reason(STEADY, "Reconciled")
    site.zfs.set_properties("tank/dsg/lenient", {"compression": "off"})
    yield "drift_reported", site.wait_reason(lenient, "DriftReported", "Drifted")
    yield "suspended_before_it_was_created", site.wait_reason(_repository("paused"), "SuspendedBySpec", "Suspended")
    site.patch(lenient, {"spec": {"suspend": True}})
    yield "suspended", site.wait_reason(lenient, "SuspendedBySpec", "Suspended")


def _deleted(site: Site) -> Iterator[Scene]:
    guarded = _repository("guarded", deletionPolicy="Delete")
    site.apply(guarded)
    site.wait_reason(guarded, "Reconciled")
    site.delete(guarded, cascade="background")
    yield "deletion_not_confirmed", site.wait_reason(guarded, "NotConfirmed", "DeletionBlocked")
    site.patch(guarded, {"spec": {"deletionPolicy": "Retain"}})
    wait("guarded to be gone", lambda: site.find(guarded) is None)


def _pools(site: Site) -> Iterator[Scene]:
    twin, dusty = _pool("twin", "tank/dsg"), _pool("dusty", "tank/cold", scrubAgeDays=30)
    site.apply(twin, dusty)
    yield "overlap", site.wait_reason(twin, "PoolOverlap")
    yield "scrub_overdue", site.wait_reason(dusty, "AboveThreshold", "ScrubOverdue")
    site.delete(twin, dusty, cascade="background")


def _sick(site: Site) -> Iterator[Scene]:
    state = site.node.pool("tank").condition
    state.health = "DEGRADED"
    yield "device_failed", site.wait_reason(POOL, "PoolDegraded", "Healthy")
    state.health = "FAULTED"
    yield "faulted", site.wait_reason(POOL, "PoolFaulted")
    yield "pool_faulted", site.wait_reason(JUSTICE, "PoolFaulted")
    state.health = "ONLINE"
    site.wait_reason(JUSTICE, "Reconciled")
    site.node.suspend("tank")
    yield "io_suspended", site.wait_reason(POOL, "PoolSuspended")
    yield "pool_suspended", site.wait_reason(JUSTICE, "PoolSuspended")
    site.node.resume("tank")
    site.wait_reason(JUSTICE, "Reconciled")


def _silent(site: Site) -> Iterator[Scene]:
    changed = copy.deepcopy(JUSTICE)
    changed["spec"]["storage"]["properties"]["compression"] = "zstd"
    site.apply(changed)
    yield "spec_changed", site.get(JUSTICE)
    server = ApiServer(load_client(str(site.api.kubeconfig("monitor"))))
    moment = [0.0]
    monitor = Monitor(KubernetesCluster(server, "monitor"), Leases(server, "dsg-system"), lambda: moment[0])
    monitor.look()
    moment[0] = time.monotonic()
    assert monitor.look() == {"node-a"}
    yield "node_lost", site.get(POOL)
    for name, obj in (("node_lost", STEADY), ("suspended_on_a_lost_node", _repository("lenient"))):
        lost = site.get(obj)
        assert condition(lost, "Ready")["reason"] == "NodeLost"
        yield name, lost
