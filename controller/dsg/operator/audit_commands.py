"""`dsg-operator audit`: what an audit log proves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from dsg.audit.errors import AuditError
from dsg.audit.log import rotated_files
from dsg.audit.record import Head, HeadError
from dsg.audit.verify import Verified, read_sources
from dsg.audit.verify import verify as follow

_BROKEN = 1
_USAGE = 2

app = typer.Typer(help="Check audit logs.", no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def audit() -> None:
    """Check audit logs."""


@app.command()
def verify(
    files: Annotated[
        list[Path],
        typer.Argument(help="Files of one log, in any order; of one that is named alone, its older ones too."),
    ],
    expect: Annotated[
        list[str] | None,
        typer.Option(help="A head that is known from elsewhere, SEQUENCE:SHA-256; may be given several times."),
    ] = None,
    output: Annotated[str, typer.Option("--output", "-o", help="text or json.")] = "text",
) -> None:
    """Follow the chain of an audit log's records and say where it does not hold.

    Exit codes: 0 the chain holds, 1 it does not, 2 wrong usage or a file can't be read.
    """
    if output not in {"text", "json"}:
        raise _usage(f"--output {output!r} is neither text nor json")
    try:
        expected = [Head.parse(text) for text in expect or ()]
        heads: list[Head | None] = [*expected] or [None]
        chosen = [*rotated_files(files[0]), files[0]] if len(files) == 1 else files
        found = [follow(read_sources(chosen), head) for head in heads]
    except (HeadError, AuditError) as error:
        raise _usage(str(error)) from error
    whole = all(one.whole for one in found)
    typer.echo(_as_json(found, whole=whole) if output == "json" else _as_text(found, expected))
    if not whole:
        raise typer.Exit(_BROKEN)


def _usage(message: str) -> typer.Exit:
    typer.echo(f"dsg-operator: {message}", err=True)
    return typer.Exit(_USAGE)


def _findings(found: list[Verified]) -> list[str]:
    return list(dict.fromkeys(str(finding) for one in found for finding in one.findings))


def _as_text(found: list[Verified], expected: list[Head]) -> str:
    one = found[0]
    lines = [f"broken: {finding}" for finding in _findings(found)]
    lines += [f"note: {note}" for note in one.notes]
    lines.append(f"{one.records} records from {one.first}, the last of {one.last_time or 'no time'}")
    lines.append(f"head: {one.head}")
    if lines[0].startswith("broken"):
        lines.append("The chain does NOT hold.")
    elif expected:
        lines.append("The chain holds, and holds what was expected. Records after that may have been cut off unseen.")
    else:
        lines.append(
            "The chain holds. That the last records were cut off, or all were written anew, can't be seen from the "
            "files alone: give --expect a head that the operator's log or Lease tells"
        )
    return "\n".join(lines)


def _as_json(found: list[Verified], *, whole: bool) -> str:
    one = found[0]
    said = {
        "whole": whole,
        "findings": _findings(found),
        "notes": one.notes,
        "records": one.records,
        "first": one.first,
        "head": str(one.head),
        "lastTime": one.last_time,
    }
    return json.dumps(said, indent=2)
