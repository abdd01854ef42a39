"""`dsg-operator`: the command that a storage node's container or service runs."""

from __future__ import annotations

import signal
import sys
import threading
from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from dsg.api.rules import NodeName

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

app = typer.Typer(
    name="dsg-operator",
    help="Keeps the Repositories of one storage node as they are declared.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Kubeconfig = Annotated[
    str | None,
    typer.Option(help="Kubeconfig file; left out, the pod's service account, then the default kubeconfig."),
]
Namespace = Annotated[str, typer.Option(help="Namespace of the operators' Leases.")]
LogLevel = Annotated[str, typer.Option(help="debug, info, warning or error.")]
LogFormat = Annotated[str, typer.Option(help="json, or console for people.")]


def _fail(message: str) -> typer.Exit:
    typer.echo(f"dsg-operator: {message}", err=True)
    return typer.Exit(2)


@app.command()
def run(
    node: Annotated[str, typer.Option(help="This node's name, as spec.storage.node has it.")],
    kubeconfig: Kubeconfig = None,
    resync: Annotated[float, typer.Option(min=1, help="Seconds between two looks at everything.")] = 60.0,
    listen: Annotated[str, typer.Option(help="HOST:PORT of /healthz, /readyz and /metrics.")] = "127.0.0.1:8080",
    command_timeout: Annotated[
        float,
        typer.Option(min=1, help="Seconds that a storage command may take that changes nothing; others twice that."),
    ] = 60.0,
    lease_namespace: Namespace = "dsg-system",
    log_level: LogLevel = "info",
    log_format: LogFormat = "json",
) -> None:
    """Reconcile the Repositories and StoragePools of one node until told to stop."""
    try:
        TypeAdapter(NodeName).validate_python(node)
    except ValidationError as error:
        raise _fail(f"--node {node!r}: {error.errors()[0]['msg']}") from None
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit():
        raise _fail(f"--listen {listen!r} is not HOST:PORT, such as 127.0.0.1:8080")

    from dsg.operator import run as process
    from dsg.operator.node import NodeSettings
    from dsg.telemetry.setup import telemetry

    with telemetry(node=node, level=log_level, log_format=log_format):
        client = _client(kubeconfig)
        process.serve(
            NodeSettings(node, resync),
            process.local_storage(command_timeout),
            client,
            lease_namespace=lease_namespace,
            listen=process.Listen(host.strip("[]"), int(port)),
        )


@app.command()
def monitor(
    kubeconfig: Kubeconfig = None,
    lease_namespace: Namespace = "dsg-system",
    log_level: LogLevel = "info",
    log_format: LogFormat = "json",
) -> None:
    """Mark the objects of nodes whose operators have fallen silent. One of it runs in a cluster."""
    from dsg.operator.api_server import ApiServer
    from dsg.operator.kubernetes_cluster import KubernetesCluster
    from dsg.operator.leases import Leases
    from dsg.operator.monitor import Monitor
    from dsg.telemetry.setup import telemetry

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with telemetry(node="", level=log_level, log_format=log_format):
        server = ApiServer(_client(kubeconfig))
        Monitor(KubernetesCluster(server, "monitor"), Leases(server, lease_namespace)).run(stop)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(installed_version("dsg"))


def _client(kubeconfig: str | None) -> ApiClient:
    import kubernetes.config

    from dsg.operator.api_server import load_client

    try:
        return load_client(kubeconfig)
    except (kubernetes.config.ConfigException, OSError) as error:
        raise _fail(f"no way to reach a Kubernetes API: {error}") from None


def main() -> None:
    """Entry point of the script."""
    try:
        app()
    except ModuleNotFoundError as error:
        typer.echo(
            f"dsg-operator: {error.name} is not installed; the operator needs the extra: pip install 'dsg[operator]'",
            err=True,
        )
        sys.exit(2)
