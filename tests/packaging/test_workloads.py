"""What the pods may do, as kustomize renders them; test_helm.py shows that Helm renders the same."""

from __future__ import annotations

from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from dsg.operator.cli import app as operator_app
from dsg.transfer.server.main import cli as data_plane_app
from tests.packaging.rendered import ENVIRONMENTS, Object, arguments_of, containers, find, overlay, pod_specs

POD = {"NODE_NAME": "node-a", "POD_NAMESPACE": "dsg-system"}


def node(environment: str) -> Object:
    return find(overlay(environment), "DaemonSet", "dsg-operator")


def options(container: Object) -> dict[str, Any]:
    """What the program itself makes of a container's command line, without running it."""
    program, *words = container["command"]
    command: Any = typer.main.get_command({"dsg-operator": operator_app, "dsg-data-plane": data_plane_app}[program])
    for word in words:
        command = command.commands[word]
    return dict(command.make_context(program, arguments_of(container, **POD)).params)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_programs_understand_their_command_lines(environment: str) -> None:
    parts = containers(node(environment))
    domain = {"dev": "storage.dev", "staging": "storage.staging", "production": "storage"}[environment]
    operator, data_plane = options(parts["operator"]), options(parts["data-plane"])
    assert operator["node"] == "node-a"
    assert operator["endpoint"] == f"https://{{node}}.{domain}.example.org:8443"
    assert operator["lease_namespace"] == "dsg-system"
    assert operator["grants"] == data_plane["grants"]
    security = parts["data-plane"]["securityContext"]
    assert operator["data_plane_user"] == f"{security['runAsUser']}:{security['runAsGroup']}"
    level = "debug" if environment == "dev" else "info"
    monitor = options(containers(find(overlay(environment), "Deployment", "dsg-monitor"))["monitor"])
    assert {operator["log_level"], data_plane["log_level"], monitor["log_level"]} == {level}
    assert data_plane["listen"].rpartition(":")[2] == str(port(parts["data-plane"], "transfer"))
    assert operator["listen"].rpartition(":")[2] == str(port(parts["operator"], "metrics"))
    assert data_plane["metrics_listen"].rpartition(":")[2] == str(port(parts["data-plane"], "plane-metrics"))
    assert data_plane["node"] == operator["node"]


def port(container: Object, name: str) -> int:
    (found,) = [p["containerPort"] for p in container["ports"] if p["name"] == name]
    return int(found)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_data_plane_has_no_rights_but_reading(environment: str) -> None:
    data_plane = containers(node(environment))["data-plane"]
    security = data_plane["securityContext"]
    assert security["runAsNonRoot"] is True and security["runAsUser"] == 2100
    assert security["readOnlyRootFilesystem"] is True
    assert security["capabilities"] == {"drop": ["ALL"], "add": ["DAC_READ_SEARCH"]}
    assert security["seccompProfile"]["type"] in {"RuntimeDefault", "Localhost"}
    assert "privileged" not in security
    mounts = {mount["mountPath"]: mount for mount in data_plane["volumeMounts"]}
    assert set(mounts) == {"/run/dsg/grants", "/var/lib/dsg-data-plane", "/var/log/dsg", "/srv/dsg"}
    assert mounts["/srv/dsg"]["mountPropagation"] == "HostToContainer"


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_only_the_operator_has_a_token_and_zfs(environment: str) -> None:
    workload = node(environment)
    spec = workload["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert not spec.get("hostNetwork") and not spec.get("hostPID") and not spec.get("hostIPC")
    sources = {volume["name"]: volume for volume in spec["volumes"]}
    tokens = {
        name
        for name, volume in sources.items()
        if any("serviceAccountToken" in source for source in volume.get("projected", {}).get("sources", []))
    }
    zfs = {name for name, volume in sources.items() if volume.get("hostPath", {}).get("path") == "/dev/zfs"}
    assert tokens and zfs
    for name, container in containers(workload).items():
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert bool(mounted & tokens) == bool(mounted & zfs) == (name == "operator")
    mounts = {m["mountPath"]: m for m in containers(workload)["operator"]["volumeMounts"]}
    assert mounts["/srv/dsg"]["mountPropagation"] == "Bidirectional"


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_grants_are_in_memory_and_sticky(environment: str) -> None:
    workload = node(environment)
    (grants,) = [v for v in workload["spec"]["template"]["spec"]["volumes"] if v["name"] == "grants"]
    assert grants["emptyDir"]["medium"] == "Memory"
    first = containers(workload)["grants-directory"]
    assert first["command"] == ["install", "-d", "-m", "1775", "-o", "0", "-g", "2100", "/run/dsg/grants"]
    # The volume itself, so that there is no directory above it in which it could be exchanged.
    assert first["volumeMounts"] == [{"name": "grants", "mountPath": "/run/dsg/grants"}]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_all_but_the_operator_gain_nothing(environment: str) -> None:
    for name, spec in pod_specs(overlay(environment)):
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            security = container["securityContext"]
            if (name, container["name"]) == ("dsg-operator", "operator"):
                assert security["privileged"] is True
                continue
            assert "privileged" not in security
            assert security["capabilities"]["drop"] == ["ALL"]
            assert security["readOnlyRootFilesystem"] is True
            assert container["resources"]["limits"]["memory"]
            if container["name"] != "data-plane":
                assert security["allowPrivilegeEscalation"] is False


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_no_secret_in_arguments_or_variables(environment: str) -> None:
    for _, spec in pod_specs(overlay(environment)):
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            for entry in container.get("env", []):
                assert "secretKeyRef" not in entry.get("valueFrom", {})
            assert not any(
                word in " ".join(container.get("args", [])).lower() for word in ("token", "password", "secret")
            )


def test_production_is_pinned() -> None:
    for _, spec in pod_specs(overlay("production")):
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            assert "@sha256:" in container["image"]


def test_the_monitor_is_one_without_rights_on_its_node() -> None:
    monitor = find(overlay("production"), "Deployment", "dsg-monitor")
    assert monitor["spec"]["replicas"] == 1
    assert "volumes" not in monitor["spec"]["template"]["spec"]
    assert containers(monitor)["monitor"]["securityContext"]["runAsNonRoot"] is True


def test_only_researchers_networks_reach_the_data_plane_in_production() -> None:
    policy = find(overlay("production"), "NetworkPolicy", "dsg-node")
    (rule,) = [r for r in policy["spec"]["ingress"] if {"protocol": "TCP", "port": "transfer"} in r["ports"]]
    assert [source["ipBlock"]["cidr"] for source in rule["from"]] == ["192.0.2.0/24", "2001:db8::/32"]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_named_port_is_one_of_the_pods(environment: str) -> None:
    objects = overlay(environment)
    named = {p["name"] for _, spec in pod_specs(objects) for c in spec["containers"] for p in c.get("ports", [])}
    for policy in (obj for obj in objects if obj["kind"] == "NetworkPolicy"):
        for rule in policy["spec"]["ingress"]:
            assert {p["port"] for p in rule["ports"]} <= named
    for monitor in (obj for obj in objects if obj["kind"] == "PodMonitor"):
        assert {e["port"] for e in monitor["spec"]["podMetricsEndpoints"]} == named - {"transfer"}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_each_audit_log_is_its_writers_own(environment: str) -> None:
    workload = node(environment)
    volumes = {v["name"]: v for v in workload["spec"]["template"]["spec"]["volumes"]}
    where = {}
    for name in ("operator", "data-plane"):
        container = containers(workload)[name]
        (mount,) = [m for m in container["volumeMounts"] if m["mountPath"] == "/var/log/dsg"]
        where[name] = volumes[mount["name"]]["hostPath"]["path"]
        assert str(options(container)["audit"]).startswith("/var/log/dsg/")
    assert where == {"operator": "/var/log/dsg/operator", "data-plane": "/var/log/dsg/data-plane"}


def test_the_namespace_lets_the_operator_in() -> None:
    labels = find(overlay("production"), "Namespace", "dsg-system")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "privileged"


@pytest.mark.parametrize("endpoint", ["https://{nodes}.example.org", "http://{node}.example.org", "https://{node}/dsg"])
def test_the_operator_refuses_an_endpoint_that_is_none(endpoint: str) -> None:
    options = ["run", "--node=node-a", "--grants=/run/dsg/grants", f"--endpoint={endpoint}"]
    result = CliRunner().invoke(operator_app, options)
    assert result.exit_code == 2
    assert "is not https://HOST:PORT" in result.output
