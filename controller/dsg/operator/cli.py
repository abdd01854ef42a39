"""`dsg-operator`: the command that a storage node's container or service runs."""

from __future__ import annotations

import re
import signal
import sys
import threading
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from dsg.api.rules import NodeName
from dsg.operator import audit_commands, support_command, verify_command

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

    from dsg.audit.auditor import Auditor

app = typer.Typer(
    name="dsg-operator",
    help="Keeps the Repositories of one storage node as they are declared.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(audit_commands.app, name="audit")

Kubeconfig = Annotated[
    str | None,
    typer.Option(help="Kubeconfig file; left out, the pod's service account, then the default kubeconfig."),
]
Namespace = Annotated[str, typer.Option(help="Namespace of the operators' Leases.")]
LogLevel = Annotated[str, typer.Option(help="debug, info, warning or error; SIGUSR1 switches to debug, SIGUSR2 back.")]
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
    grants: Annotated[
        Path | None,
        typer.Option(help="Directory of grants, shared with this node's dsg-data-plane; needs --endpoint."),
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(
            help="Address at which researchers reach the data plane, such as https://node-a.example.org:8443; "
            "{node} in it stands for this node's name."
        ),
    ] = None,
    data_plane_user: Annotated[
        str | None,
        typer.Option(help="UID:GID of dsg-data-plane, where it is not who owns the repositories."),
    ] = None,
    audit: Annotated[
        Path | None, typer.Option(help="File of the audit log; left out, nothing is recorded (docs/audit.md).")
    ] = None,
    lease_namespace: Namespace = "dsg-system",
    log_level: LogLevel = "info",
    log_format: LogFormat = "json",
) -> None:
    """Reconcile the Repositories and StoragePools of one node until told to stop."""
    try:
        TypeAdapter(NodeName).validate_python(node)
    except ValidationError as error:
        raise _fail(f"--node {node!r}: {error.errors()[0]['msg']}") from None
    host, port = _address(listen)
    if (grants is None) != (endpoint is None):
        raise _fail("--grants and --endpoint belong together: the one without the other is of no use")
    if endpoint is not None:
        endpoint = endpoint.replace("{node}", node)
    if endpoint is not None and not re.fullmatch(r"https://[^/?#@\s{}]+", endpoint):
        raise _fail(f"--endpoint {endpoint!r} is not https://HOST:PORT, such as https://node-a.example.org:8443")
    if data_plane_user is not None and not re.fullmatch(r"[0-9]{1,9}:[0-9]{1,9}", data_plane_user):
        raise _fail(f"--data-plane-user {data_plane_user!r} is not UID:GID, such as 2100:2100")

    from dsg.operator import run as process
    from dsg.operator.data_plane import GrantFiles
    from dsg.operator.node import NodeSettings
    from dsg.telemetry.logs import set_level
    from dsg.telemetry.setup import telemetry
    from dsg.transfer.log_levels import switch_by_signal

    with telemetry(node=node, level=log_level, log_format=log_format):
        switch_by_signal(log_level, set_level)
        client = _client(kubeconfig)
        process.serve(
            NodeSettings(node, resync),
            process.local_storage(command_timeout),
            client,
            lease_namespace=lease_namespace,
            listen=process.Listen(host, port),
            data_plane=GrantFiles(grants, endpoint) if grants is not None and endpoint is not None else None,
            receiver=_user(data_plane_user),
            audit=_audit(audit, node),
        )


@app.command()
def monitor(
    kubeconfig: Kubeconfig = None,
    lease_namespace: Namespace = "dsg-system",
    listen: Annotated[
        str | None, typer.Option(help="HOST:PORT of /healthz, /readyz and /metrics; left out, nothing is shown.")
    ] = None,
    log_level: LogLevel = "info",
    log_format: LogFormat = "json",
) -> None:
    """Mark the objects of nodes whose operators have fallen silent. One of it runs in a cluster."""
    from dsg.operator.monitor_process import serve
    from dsg.telemetry.logs import set_level
    from dsg.telemetry.setup import telemetry
    from dsg.transfer.log_levels import switch_by_signal

    address = _address(listen) if listen is not None else None
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with telemetry(node="", service="dsg-monitor", level=log_level, log_format=log_format):
        switch_by_signal(log_level, set_level)
        try:
            serve(_client(kubeconfig), lease_namespace, address, stop)
        except OSError as error:
            raise _fail(f"--listen {listen} can't be had: {error.strerror or error}") from None


app.command()(verify_command.verify)
app.command()(support_command.support)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(installed_version("dsg"))


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit():
        raise _fail(f"--listen {listen!r} is not HOST:PORT, such as 127.0.0.1:8080")
    return host.strip("[]"), int(port)


def _audit(path: Path | None, node: str) -> Auditor | None:
    import structlog

    from dsg.audit.auditor import Auditor
    from dsg.audit.errors import AuditError
    from dsg.audit.log import AuditLog

    if path is None:
        return None
    try:
        return Auditor(AuditLog(path, "operator", node), structlog.get_logger("dsg.audit").warning)
    except AuditError as error:
        raise _fail(f"--audit: {error}") from None


def _user(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    uid, _, gid = text.partition(":")
    return int(uid), int(gid)


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
