"""`kubectl dsg repos`: the repositories that there are, and how they are."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer
from rich.text import Text

from dsg.api.repository import Repository
from dsg.plugin.cluster_remote import REPOSITORY
from dsg.plugin.exits import guarded
from dsg.plugin.options import (
    ContextOption,
    KubeconfigOption,
    NamespaceOption,
    OutputOption,
    QuietOption,
    VerboseOption,
)
from dsg.plugin.output import Format
from dsg.plugin.session import Session
from dsg.plugin.text import local
from dsg.plugin.transaction import parse_repository


@guarded
def repos(
    everywhere: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="Of all namespaces, not of one only.")
    ] = False,
    output: OutputOption = Format.TEXT,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    namespace: NamespaceOption = "",
    context: ContextOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """List the repositories of a namespace: newest version, who made it and when, state, size."""
    session = Session.of(
        output, quiet=quiet, verbose=verbose, context=context, namespace=namespace, kubeconfig=kubeconfig
    )
    kubectl = session.kubectl()
    found = [parse_repository(raw) for raw in kubectl.list(REPOSITORY, everywhere=everywhere)]
    found.sort(key=lambda one: (one.metadata.namespace or "", one.metadata.name))
    session.output.documents("RepositoryList", {}, "repositories", map(_as_document, found))
    if not found:
        where = "this cluster" if everywhere else f"namespace {kubectl.context().namespace}"
        session.output.note(f"There is no Repository in {where} that you may see.")
        return
    headings = ["NAME", "STATE", "VERSION", "BY", "COMMITTED", "USED", "NODE"]
    rows = [_row(one) for one in found]
    if everywhere:
        headings.insert(0, "NAMESPACE")
        rows = [[Text(one.metadata.namespace or ""), *row] for one, row in zip(found, rows, strict=True)]
    if session.output.verbose:
        headings.append("MESSAGE")
        rows = [[*row, Text(_ready(one)["message"])] for one, row in zip(found, rows, strict=True)]
    session.output.table(headings, rows)


def _ready(one: Repository) -> dict[str, str]:
    conditions = one.status.conditions if one.status is not None else []
    found = next((condition for condition in conditions if condition.type == "Ready"), None)
    if found is None:
        return {"status": "Unknown", "reason": "", "message": "no operator has looked at it yet"}
    return {"status": found.status, "reason": found.reason, "message": found.message}


def _row(one: Repository) -> list[str | Text]:
    ready, status = _ready(one), one.status
    head = status.head if status is not None else None
    style = {"True": "green", "False": "red"}.get(ready["status"], "yellow")
    state = "Ready" if ready["status"] == "True" else ready["reason"] or "Unknown"
    return [
        one.metadata.name,
        Text(state, style=style),
        head.version if head is not None else "none",
        head.author if head is not None else "",
        local(datetime.fromisoformat(head.time)) if head is not None else "",
        status.storage.used if status is not None and status.storage is not None else "",
        one.spec.storage.node,
    ]


def _as_document(one: Repository) -> dict[str, Any]:
    status = one.status
    head = status.head if status is not None else None
    storage = status.storage if status is not None else None
    return {
        "namespace": one.metadata.namespace or "",
        "name": one.metadata.name,
        "uid": one.metadata.uid,
        "node": one.spec.storage.node,
        "type": one.spec.storage.type,
        "ready": _ready(one),
        "head": None if head is None else head.model_dump(mode="json", by_alias=True),
        "used": storage.used if storage is not None else None,
        "openTransactions": status.open_transactions if status is not None else 0,
        "suspended": one.spec.suspend,
        "dataDirs": list(one.spec.data_dirs),
        "nameRules": one.spec.name_rules,
    }
