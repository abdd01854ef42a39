"""`kubectl dsg`: found by kubectl as `kubectl-dsg` on the PATH."""

from __future__ import annotations

from importlib.metadata import version as installed_version

import typer

app = typer.Typer(
    name="kubectl-dsg",
    help="Work with data Repositories.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def _commands() -> None:
    """Work with data Repositories."""


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(installed_version("dsg"))


def main() -> None:
    """Entry point of the script."""
    app(prog_name="kubectl dsg")
