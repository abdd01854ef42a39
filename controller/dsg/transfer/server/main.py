"""`dsg-data-plane`: the process that serves contents on a storage node.

It needs no access to ZFS, none to the Kubernetes API, and no root: only to read what grants name (CAP_DAC_READ_SEARCH,
or its owner's rights), and to own `.dsg/incoming` of stages.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated

import typer

from dsg.audit.actions import Action
from dsg.audit.auditor import Auditor
from dsg.audit.errors import AuditError
from dsg.audit.log import AuditLog
from dsg.audit.record import Entry
from dsg.transfer import log_levels
from dsg.transfer.grants import GrantError, Grants, sign_of_life, write_server
from dsg.transfer.server.app import application
from dsg.transfer.server.confinement import confine
from dsg.transfer.server.limits import Limits
from dsg.transfer.server.listening import Listening
from dsg.transfer.server.metrics import MetricsPage, PrometheusRecorder
from dsg.transfer.server.plane import Plane
from dsg.transfer.server.trail import Trail
from dsg.transfer.tls import CertificateError, ServerFiles, Trust, server_files

_log = logging.getLogger("dsg.transfer.server")
_MAX_PORT = 65535
_TELL_HEAD = 300.0
"""Seconds between two log lines that tell where the audit log ends."""
_RECORDING = 5.0
"""Seconds for the last records of the audit log."""
_DEFAULTS = Limits()

cli = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@cli.command()
def serve(
    grants: Annotated[Path, typer.Option(help="Directory of grants, shared with this node's dsg-operator.")],
    state: Annotated[Path, typer.Option(help="Directory of this server's own key and certificate.")],
    listen: Annotated[str, typer.Option(help="HOST:PORT; port 0 takes a free one.")] = "0.0.0.0:8443",
    idle: Annotated[
        float, typer.Option(min=0.1, help="Seconds without progress after which a connection ends.")
    ] = _DEFAULTS.idle,
    in_flight: Annotated[int, typer.Option(min=1, help="Requests that move data at a time.")] = _DEFAULTS.in_flight,
    per_author: Annotated[int, typer.Option(min=1, help="Of these, those of one author.")] = _DEFAULTS.per_author,
    connections: Annotated[int, typer.Option(min=1, help="Connections at a time.")] = _DEFAULTS.connections,
    metrics_listen: Annotated[
        str | None, typer.Option(help="HOST:PORT of /metrics in plain HTTP; left out, nothing is shown.")
    ] = None,
    audit: Annotated[
        Path | None, typer.Option(help="File of the audit log; left out, nothing is recorded. Needs --node.")
    ] = None,
    node: Annotated[str, typer.Option(help="This node's name, as spec.storage.node has it; for the audit log.")] = "",
    log_level: Annotated[
        str, typer.Option(help="debug, info, warning or error; SIGUSR1 switches to debug, SIGUSR2 back.")
    ] = "info",
) -> None:
    """Serve contents of versions over HTTPS until told to stop."""
    address = _address("--listen", listen, "0.0.0.0:8443")
    shown_at = _address("--metrics-listen", metrics_listen, "127.0.0.1:8081") if metrics_listen is not None else None
    try:
        level = log_levels.known(log_level)
    except ValueError as error:
        raise _fail(f"--log-level: {error}", 2) from None
    for option, directory in (("--grants", grants), ("--state", state)):
        if not directory.is_dir():
            raise _fail(f"{option} {directory} is no directory; make it, and let this process write to it", 2)
    _log_as_json(level)
    log_levels.switch_by_signal(level, _set_level)
    if audit is not None and not node:
        raise _fail("--audit needs --node: each record says where it was written", 2)
    os.umask(0o077)
    limits = Limits(idle=idle, in_flight=in_flight, per_author=per_author, connections=connections)
    try:
        files = server_files(state)
        auditor = _auditor(audit, node)
        asyncio.run(_run(grants, files, address, shown_at, limits, auditor))
    except (AuditError, CertificateError, GrantError) as error:
        raise _fail(str(error), 1) from error
    except OSError as error:
        places = listen if metrics_listen is None else f"{listen} or {metrics_listen}"
        raise _fail(f"cannot listen on {places}: {error.strerror}", 1) from error


def main() -> None:
    """Run the command, with no rights but those that serving takes."""
    try:
        confined = confine()
    except OSError as error:
        typer.echo(f"dsg-data-plane: cannot give up file handles and programs (seccomp): {error.strerror}", err=True)
        sys.exit(1)
    if not confined:
        typer.echo(
            "dsg-data-plane: no filter of system calls is known for this kind of machine: not confined", err=True
        )
    cli()


def _auditor(path: Path | None, node: str) -> Auditor | None:
    """Return what records, with the start recorded. Raises AuditError."""
    if path is None:
        return None
    auditor = Auditor(AuditLog(path, "data-plane", node), _log.warning)
    auditor.require(Entry(Action.STARTED, details={"version": installed_version("dsg")}))
    _log.info("audit log", extra={"head": str(auditor.flush())})
    return auditor


def _address(option: str, text: str, example: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > _MAX_PORT:
        raise _fail(f"{option} {text!r} is not HOST:PORT, such as {example}", 2)
    return host.strip("[]"), int(port)


async def _run(
    grants: Path,
    files: ServerFiles,
    address: tuple[str, int],
    shown_at: tuple[str, int] | None,
    limits: Limits,
    auditor: Auditor | None,
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    threads = ThreadPoolExecutor(limits.threads, thread_name_prefix="files")
    recorder = PrometheusRecorder()
    trail = Trail(auditor)
    plane = Plane(Grants(grants), Trust(files), limits, threads, recorder, trail)
    async with AsyncExitStack() as stack:
        page = await stack.enter_async_context(MetricsPage(recorder, *shown_at)) if shown_at is not None else None
        listening = await stack.enter_async_context(Listening(plane, application(plane), *address))
        recorder.watch(lambda: plane.under_way, lambda: listening.connections, lambda: plane.hanging.calls)
        # Only a server that listens is named: its certificate is what clients will ask for.
        write_server(grants, files.fingerprint)
        where: dict[str, object] = {"host": address[0], "port": listening.port}
        if page is not None:
            where["metricsPort"] = page.port
        said = {"event": "listening", **where, "certificateFingerprint": files.fingerprint}
        print(json.dumps(said), flush=True)
        _log.info("listening", extra=where)
        living = asyncio.create_task(_live(grants, files.fingerprint))
        telling = asyncio.create_task(_tell_head(auditor)) if auditor is not None else None
        await stop.wait()
        living.cancel()
        if telling is not None:
            telling.cancel()
        _log.info("ending")
    try:
        await asyncio.wait_for(trail.close(), _RECORDING)
    except TimeoutError:
        _log.warning("the audit log could not be closed", extra={"seconds": _RECORDING})
    if not plane.quiet.is_set():
        # Python would wait for its threads, and the storage may hold them for ever.
        _log.warning("ended with requests under way: their file work does not return")
        logging.shutdown()
        os._exit(1)
    _log.info("ended")


async def _tell_head(auditor: Auditor) -> None:
    """Tell where the audit log ends, for those who keep that elsewhere, as often as it has grown."""
    told = ""
    while True:
        await asyncio.sleep(_TELL_HEAD)
        with suppress(AuditError):
            head = str(await asyncio.to_thread(auditor.flush))
            if head != told:
                _log.info("audit log", extra={"head": head})
                told = head


async def _live(grants: Path, fingerprint: str) -> None:
    """Tell the node's operator again and again that this server lives."""
    failing = False
    while True:
        await asyncio.sleep(_SIGN)
        try:
            try:
                sign_of_life(grants)
            except GrantError:
                # The directory may have been made anew.
                write_server(grants, fingerprint)
            failing = False
        except GrantError as error:
            _log.log(logging.DEBUG if failing else logging.WARNING, "no sign of life can be left", extra={"why": error})
            failing = True


_SIGN = 10.0
"""Seconds between two signs of life; an alert waits for several."""


def _fail(message: str, code: int) -> typer.Exit:
    typer.echo(f"dsg-data-plane: {message}", err=True)
    return typer.Exit(code)


_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "taskName"}


class _Json(logging.Formatter):
    """One JSON object for each line."""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, object] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        said.update((key, str(value)) for key, value in vars(record).items() if key not in _PLAIN)
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json.dumps(said)


def _set_level(level: str) -> None:
    logging.getLogger().setLevel(level.upper())
    _log.warning("log level changed", extra={"to": level})


def _log_as_json(level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # It tells of every connection that ends early, with a trace.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)


if __name__ == "__main__":
    main()
