"""`kubectl dsg`: found by kubectl as `kubectl-dsg` on the PATH.

Exit codes: 0 done, 1 what was looked at is not well, 2 the command itself was wrong.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from enum import StrEnum
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated

import typer

from dsg.api.documents import Checked, check, load_files, read_documents

app = typer.Typer(
    name="kubectl-dsg",
    help="Work with data Repositories.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


class Output(StrEnum):
    """How results are printed."""

    TEXT = "text"
    JSON = "json"


@app.callback()
def _commands() -> None:
    """Work with data Repositories."""


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(installed_version("dsg"))


@app.command()
def validate(
    files: Annotated[
        list[Path],
        typer.Option("--filename", "-f", help="YAML file, directory of YAML files, or - for standard input."),
    ],
    output: Annotated[Output, typer.Option("--output", "-o", help="text or json.")] = Output.TEXT,
) -> None:
    """Check Repositories, StoragePools and SyncTransactions in files, as the API server would, without one."""
    try:
        found = _read(files)
    except OSError as error:
        typer.echo(f"kubectl dsg: {error.filename}: {error.strerror}", err=True)
        raise typer.Exit(2) from None
    if output is Output.JSON:
        typer.echo(json.dumps([_as_json(one) for one in found], indent=2))
    else:
        _print(found)
    if any(one.problems for one in found):
        raise typer.Exit(1)


def _read(files: Sequence[Path]) -> list[Checked]:
    found: list[Checked] = []
    for file in files:
        if str(file) == "-":
            found += check(read_documents(sys.stdin.read(), "standard input"))
        elif file.is_dir():
            found += load_files(sorted(p for p in file.rglob("*") if p.suffix in {".yaml", ".yml", ".json"}))
        else:
            found += load_files([file])
    return found


def _as_json(one: Checked) -> dict[str, object]:
    return {
        "file": one.document.source,
        "object": one.title,
        "valid": None if one.foreign else not one.problems,
        "problems": [{"line": one.document.line(p.path), "path": p.path, "message": p.message} for p in one.problems],
    }


def _print(found: Sequence[Checked]) -> None:
    for one in found:
        if one.problems:
            for line in one.report():
                typer.echo(line)
        elif one.foreign:
            typer.echo(f"{one.document.source}: {one.title}: not of dsg.hrdag.org, not looked at")
        else:
            typer.echo(f"{one.document.source}: {one.title}: valid")
    if not found:
        typer.echo("no objects found")


def main() -> None:
    """Entry point of the script."""
    app(prog_name="kubectl dsg")
