"""What the chart renders, on the real API server: taken as it is, upgraded under live objects, and enough for its pods.

The pods' containers run as processes of this machine with the command lines, volumes, users and tokens that the chart
says (tests/packaging/pods.py). Storage is the `xfs` type: what is only of ZFS is shown in tests/e2e.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path

import pytest
import yaml

from lab import tools
from lab.audit import Request
from lab.binaries import kubectl
from lab.chart import NAMESPACE, render
from lab.controlplane import ControlPlane
from lab.processes import free_port
from tests.e2e.cluster import wait
from tests.packaging.pods import Pod
from tests.packaging.rendered import TREE, Object, find, overlay

pytestmark = [
    pytest.mark.kube,
    pytest.mark.skipif(os.geteuid() != 0, reason="mount namespaces and other users take root"),
]

_MANAGER = ("--field-manager=installer",)
RELEASED = TREE / "tests" / "packaging" / "released"
TEAM = "research"
NODE = "localhost"
"""The node's name is part of the endpoint, and here that has to lead to this machine."""


@dataclass
class Upgrade:
    """A control plane on which an earlier release's objects lived when the chart of this tree was applied."""

    plane: ControlPlane
    before: dict[str, Object]
    rendered: list[Object]
    port: int
    """Of the endpoint that was rendered."""

    def apply(self, *options: str) -> str:
        text = yaml.safe_dump_all(self.rendered)
        command = ("apply", "--server-side", *_MANAGER, "--validate=strict", *options, "-f", "-")
        return self.plane.kubectl("admin", *command, input=text, timeout=120).stdout

    def live(self) -> dict[str, Object]:
        return _live(self.plane)


def _live(plane: ControlPlane) -> dict[str, Object]:
    """Every object of our kinds, by kind and name."""
    kinds = "repositories,storagepools,synctransactions"
    listed = json.loads(plane.kubectl("admin", "get", kinds, "-A", "-o", "json").stdout)["items"]
    return {f"{obj['kind']}/{obj['metadata']['name']}": obj for obj in listed}


def _released_objects(release: Path) -> list[Object]:
    return [
        o for file in ("examples.yaml", "objects.yaml") for o in yaml.safe_load_all((release / file).read_text()) if o
    ]


def _create(plane: ControlPlane, obj: Object, *options: str) -> subprocess.CompletedProcess[str]:
    """Create an object, a transaction as its author, with its status where it has one."""
    author = obj["spec"].get("author")
    who = ("--as", author, "--as-group", "system:masters") if author else ()
    made = plane.kubectl("admin", "create", *options, *who, "-f", "-", input=json.dumps(obj), check=False)
    if made.returncode == 0 and "status" in obj and not options:
        name = (obj["kind"], obj["metadata"]["name"], "-n", obj["metadata"].get("namespace", "default"))
        patch = json.dumps({"status": obj["status"]})
        plane.kubectl("admin", "patch", *name, "--subresource=status", "--type=merge", "-p", patch)
    return made


@pytest.fixture(scope="module", params=sorted(path.name for path in RELEASED.iterdir()))
def upgrade(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upgrade]:
    release = RELEASED / request.param
    port = free_port()
    values = {
        "image.repository": "registry.example.org/dsg",
        "endpoint": f"https://{{node}}:{port}",
        "storage.directories[0]": "/srv/dsg",
        "storage.directories[1]": "/srv/data",
        "storage.zfs": "false",
        "namespace.create": "true",
        **{f"monitoring.{part}.enabled": "true" for part in ("podMonitor", "rules", "dashboard")},
    }
    rendered = render(*(word for name, value in values.items() for word in ("--set", f"{name}={value}")))
    with ControlPlane(tmp_path_factory.mktemp("api")) as plane:
        for file in [*tools.monitoring_crds(), *release.glob("dsg.hrdag.org_*.yaml")]:
            plane.kubectl("admin", "apply", "--server-side", *_MANAGER, "-f", str(file))
        plane.kubectl("admin", "wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        plane.kubectl("admin", "create", "namespace", TEAM)
        for obj in _released_objects(release):
            made = _create(plane, obj)
            assert made.returncode == 0, made.stderr
        upgraded = Upgrade(plane, _live(plane), rendered, port)
        upgraded.apply()
        plane.kubectl("admin", "wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        yield upgraded


# ---- what the API server says of it


def test_objects_of_an_earlier_release_stay_as_they_are(upgrade: Upgrade) -> None:
    assert {name.partition("/")[0] for name in upgrade.before} == {"Repository", "StoragePool", "SyncTransaction"}
    assert any("status" in obj for obj in upgrade.before.values())
    now = upgrade.live()
    for name, obj in upgrade.before.items():
        assert now[name] == obj


def test_objects_of_an_earlier_release_are_valid_today(upgrade: Upgrade) -> None:
    for obj in upgrade.before.values():
        metadata = {key: obj["metadata"][key] for key in ("namespace",) if key in obj["metadata"]}
        again = {**obj, "metadata": {**metadata, "name": f"again-{obj['metadata']['name']}"}}
        made = _create(upgrade.plane, again, "--dry-run=server", "--validate=strict")
        assert made.returncode == 0, made.stderr


def test_applying_again_changes_nothing(upgrade: Upgrade) -> None:
    def versions() -> dict[str, str]:
        text = yaml.safe_dump_all(upgrade.rendered)
        listed = upgrade.plane.kubectl("admin", "get", "-o", "json", "-f", "-", input=text).stdout
        return {
            f"{o['kind']}/{o['metadata']['name']}": o["metadata"]["resourceVersion"]
            for o in json.loads(listed)["items"]
        }

    before = versions()
    assert len(before) == len(upgrade.rendered)
    upgrade.apply()
    assert versions() == before


@pytest.mark.parametrize("environment", ["dev", "staging", "production"])
def test_the_server_takes_every_object_of_an_overlay(upgrade: Upgrade, environment: str) -> None:
    objects = overlay(environment)
    command = ("apply", "--server-side", *_MANAGER, "--dry-run=server", "--validate=strict", "-f", "-")
    said = upgrade.plane.kubectl("admin", *command, input=yaml.safe_dump_all(objects), timeout=120).stdout
    assert len(said.splitlines()) == len(objects)
    assert all(line.endswith("(server dry run)") for line in said.splitlines())


# ---- its pods at work


@dataclass
class Site:
    """The chart's pods at work, and researchers."""

    upgrade: Upgrade
    node: Pod
    monitor: Pod
    people: Path
    mark: int

    def dsg(self, user: str, *args: str, copy: str | None = None) -> str:
        """Run `kubectl dsg` as a user, in a working copy or beside them."""
        where = self.people if copy is None else self.people / copy
        beside = [str(Path(sys.executable).parent), str(kubectl().parent), os.environ["PATH"]]
        environment = {
            **os.environ,
            "PATH": os.pathsep.join(beside),
            "KUBECONFIG": str(self.upgrade.plane.kubeconfig(user)),
            "KUBECACHEDIR": str(self.people / f".{user}-cache"),
        }
        argv = ["kubectl", "dsg", *args]
        done = subprocess.run(
            argv, cwd=where, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"{argv}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def requests(self, account: str) -> list[Request]:
        """What a ServiceAccount has asked of the API server since its pod started."""
        name = f"system:serviceaccount:{NAMESPACE}:{account}"
        return [r for r in self.upgrade.plane.requests(since=self.mark) if r.user == name]


def _storage(upgrade: Upgrade) -> None:
    said = {"storage": {"type": "xfs", "node": NODE}}
    pool = {
        "apiVersion": "dsg.hrdag.org/v1alpha1",
        "kind": "StoragePool",
        "metadata": {"name": "here"},
        "spec": {
            "storage": {**said["storage"], "directory": "/srv/data", "mountRoot": "/srv/dsg"},
            "namespaceSelector": {},
            "thresholds": {"capacityPercent": 99},
        },
    }
    repository = {
        "apiVersion": "dsg.hrdag.org/v1alpha1",
        "kind": "Repository",
        "metadata": {"name": "field", "namespace": TEAM},
        "spec": {
            "storage": {**said["storage"], "directory": "/srv/data/field", "mountpoint": "/srv/dsg/field"},
            "owner": {"uid": 2000, "gid": 2000, "mode": "0750"},
            "dataDirs": ["*"],
        },
    }
    upgrade.plane.kubectl("admin", "apply", "-f", "-", input=yaml.safe_dump_all([pool, repository]))


def _ready(upgrade: Upgrade) -> bool:
    conditions = upgrade.live()["Repository/field"].get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


@pytest.fixture(scope="module")
def site(upgrade: Upgrade, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Alice has made a first version, and its content lies on the node."""
    plane = upgrade.plane
    role = ("--clusterrole=dsg-researcher", "--group=researchers")
    plane.kubectl("admin", "create", "rolebinding", "researchers", "-n", TEAM, *role)
    places = tmp_path_factory.mktemp("site")
    mark = plane.audit_mark()
    node = Pod(find(upgrade.rendered, "DaemonSet", "dsg-operator"), places / "node", NODE, api=plane)
    node.ports[8443] = upgrade.port
    monitor = Pod(find(upgrade.rendered, "Deployment", "dsg-monitor"), places / "monitor", NODE, api=plane)
    (places / "people" / "alice" / "input").mkdir(parents=True)
    with node, monitor:
        _storage(upgrade)
        wait("the Repository to be ready", partial(_ready, upgrade))
        at_work = Site(upgrade, node, monitor, places / "people", mark)
        (at_work.people / "alice" / "input" / "names.csv").write_text("name\nAna\n")
        at_work.dsg("alice", "init", "field", "-n", TEAM, "-m", "First", copy="alice")
        yield at_work


def _succeeds(pod: Pod, name: str, probe: str) -> bool:
    return pod.probe(name, probe) == HTTPStatus.OK


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_every_probe_succeeds(site: Site) -> None:
    for pod in (site.node, site.monitor):
        for name, container in pod.containers.items():
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                if probe in container:
                    wait(f"{probe} of {name}", partial(_succeeds, pod, name, probe), 30)


def test_researchers_work(site: Site) -> None:
    site.dsg("bob", "clone", "field", "bob", "-n", TEAM)
    assert (site.people / "bob" / "input" / "names.csv").read_text() == "name\nAna\n"
    (site.people / "bob" / "input" / "more.csv").write_text("name\nBen\n")
    site.dsg("bob", "sync", "-m", "Second", copy="bob")
    site.dsg("alice", "sync", copy="alice")
    assert (site.people / "alice" / "input" / "more.csv").read_text() == "name\nBen\n"


def test_a_transaction_is_removed_when_its_time_is_over(site: Site) -> None:
    sample = site.upgrade.before["SyncTransaction/justice-alice-7f3k"]
    spec = {**sample["spec"], "repositoryRef": {"name": "field"}, "node": NODE, "base": "s1", "ttlAfterFinished": "1s"}
    obj = {**sample, "metadata": {"name": "given-up", "namespace": TEAM}, "spec": spec}
    plane = site.upgrade.plane
    plane.kubectl("alice", "create", "-f", "-", input=json.dumps(obj))
    name = ("synctransaction", "given-up", "-n", TEAM)
    plane.kubectl("alice", "patch", *name, "--type=merge", "-p", '{"spec": {"intent": "Abort"}}')
    wait("the transaction to be gone", lambda: plane.kubectl("admin", "get", *name, check=False).returncode != 0)


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_a_replaced_pod_goes_on(site: Site) -> None:
    shown = json.loads((site.node.volume("grants") / "server.json").read_text())
    site.node.__exit__(None, None, None)
    site.node.__enter__()
    wait("the operator's probe", partial(_succeeds, site.node, "operator", "readinessProbe"))
    (site.people / "alice" / "input" / "third.csv").write_text("name\nCleo\n")
    site.dsg("alice", "sync", "-m", "Third", copy="alice")
    # The same certificate: what researchers have pinned stays true.
    assert json.loads((site.node.volume("grants") / "server.json").read_text()) == shown


def _status(process: subprocess.Popen[bytes]) -> dict[str, str]:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_the_data_plane_reads_and_nothing_else(site: Site) -> None:
    process = site.node.running["data-plane"]
    said = _status(process)
    assert set(said["Uid"].split()) == {"2100"}
    for kind in ("CapEff", "CapPrm", "CapBnd"):
        assert int(said[kind], 16) == 1 << 2, kind  # CAP_DAC_READ_SEARCH
    inside = Path(f"/proc/{process.pid}/root")
    assert not (inside / "var/run/secrets").exists()
    assert (inside / "run/dsg/grants").stat().st_mode & 0o7777 == 0o1775


def test_both_audit_logs_verify(site: Site) -> None:
    for name in ("operator", "data-plane"):
        file = site.node.volume(f"audit-{name}") / f"{name}.jsonl"
        argv = [str(Path(sys.executable).parent / "dsg-operator"), "audit", "verify", str(file)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


# ---- its rights


def _granted(objects: list[Object], account: str) -> set[tuple[str, str]]:
    """What the roles bound to a ServiceAccount allow: verb, and group/resource."""
    bound = {
        (o["roleRef"]["kind"], o["roleRef"]["name"])
        for o in objects
        if o["kind"] in {"ClusterRoleBinding", "RoleBinding"} and account in {s["name"] for s in o["subjects"]}
    }
    rules = [r for o in objects if (o["kind"], o["metadata"]["name"]) in bound for r in o["rules"]]
    return {
        (verb, f"{group}/{resource}")
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def _used(requests: list[Request]) -> set[tuple[str, str]]:
    found = set()
    for r in requests:
        if r.resource:
            found.add((r.verb, f"{r.group}/{r.resource}{'/' + r.subresource if r.subresource else ''}"))
    return found


def test_the_operators_rights_are_enough(site: Site) -> None:
    asked = site.requests("dsg-operator")
    assert {r.verb for r in asked} >= {"list", "watch", "patch", "update", "create"}
    assert [r for r in asked if r.code == 403] == []


def test_the_operators_rights_are_not_more(site: Site) -> None:
    assert _granted(site.upgrade.rendered, "dsg-operator") == _used(site.requests("dsg-operator"))


def test_the_monitors_rights_are_enough(site: Site) -> None:
    asked = site.requests("dsg-monitor")
    assert _used(asked) >= {("list", "coordination.k8s.io/leases")}
    assert [r for r in asked if r.code == 403] == []


@pytest.mark.parametrize("account", ["dsg-operator", "dsg-monitor"])
@pytest.mark.parametrize(
    "what",
    [
        "get secrets",
        "create pods",
        "create pods/exec",
        "create serviceaccounts/token",
        "create repositories.dsg.hrdag.org",
        "delete repositories.dsg.hrdag.org",
        "delete storagepools.dsg.hrdag.org",
        "create synctransactions.dsg.hrdag.org",
        "update customresourcedefinitions.apiextensions.k8s.io",
        "update validatingadmissionpolicies.admissionregistration.k8s.io",
        "create clusterrolebindings.rbac.authorization.k8s.io",
        "impersonate users",
    ],
)
def test_what_no_account_may(upgrade: Upgrade, account: str, what: str) -> None:
    who = f"--as=system:serviceaccount:{NAMESPACE}:{account}"
    answer = upgrade.plane.kubectl("admin", "auth", "can-i", *what.split(), who, "-n", NAMESPACE, check=False)
    assert answer.stdout.strip() == "no"


# ---- Helm itself; last, since it takes the chart's objects away


def _helm(upgrade: Upgrade, *arguments: str) -> str:
    argv = [str(tools.helm()), *arguments, "--namespace", NAMESPACE]
    environment = {**os.environ, "KUBECONFIG": str(upgrade.plane.kubeconfig("admin"))}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{argv}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_helm_takes_over_upgrades_and_leaves_the_data(upgrade: Upgrade) -> None:
    plane, values = upgrade.plane, str(TREE / "examples" / "helm" / "production.yaml")
    before = upgrade.live()
    install: tuple[str, ...] = ("upgrade", "--install", "dsg", str(TREE / "charts" / "dsg"), "--values", values)
    # Another tool has made these objects, and keeps none of their fields from now on.
    install += ("--take-ownership", "--force-conflicts")
    said = _helm(upgrade, *install)
    assert "https://{node}.storage.example.org:8443" in said
    assert "go on by themselves" not in said

    def level() -> str:
        query = 'jsonpath={.spec.template.spec.containers[0].env[?(@.name=="DSG_LOG_LEVEL")].value}'
        return plane.kubectl("admin", "get", "ds", "dsg-operator", "-n", NAMESPACE, "-o", query).stdout

    assert level() == "info"
    assert "go on by themselves" in _helm(upgrade, *install, "--set", "logLevel=debug")
    assert level() == "debug"
    _helm(upgrade, "rollback", "dsg", "1", "--force-conflicts")
    assert level() == "info"

    _helm(upgrade, "uninstall", "dsg")
    left = plane.kubectl("admin", "get", "ds,deployment,sa,role", "-n", NAMESPACE, "-o", "name").stdout.split()
    assert left == []
    now = upgrade.live()
    assert set(now) == set(before)
    for name, obj in before.items():
        assert now[name]["spec"] == obj["spec"]
        assert now[name]["metadata"]["uid"] == obj["metadata"]["uid"]
        assert "deletionTimestamp" not in now[name]["metadata"]
