"""`kubectl dsg`: found by kubectl as `kubectl-dsg` on the PATH. Puts the commands together."""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer

from dsg.plugin.commands.care import clean, validate
from dsg.plugin.commands.completion import ASK, answer, completion
from dsg.plugin.commands.conflicts import conflicts
from dsg.plugin.commands.doctor import doctor
from dsg.plugin.commands.history import blame, diff, log, ls
from dsg.plugin.commands.migrate import repository
from dsg.plugin.commands.migrate_config import config
from dsg.plugin.commands.old import fetch, restore
from dsg.plugin.commands.repos import repos
from dsg.plugin.commands.start import clone, init
from dsg.plugin.commands.support import support
from dsg.plugin.commands.sync import status, sync
from dsg.plugin.commands.version import version
from dsg.plugin.exits import Exit, handle_signals
from dsg.plugin.output import prepare_streams

_HELP = """\
Work with data repositories: clone one, change files as you like, sync.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 conflict, 130 interrupted.
"""
PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    "Start": (repos, init, clone),
    "Work": (status, sync, conflicts),
    "Look back": (log, blame, diff, ls, fetch, restore),
    "Care": (validate, clean, doctor, support, version, completion),
}
"""All commands, as the help groups them."""
COMMANDS = {command.__name__: command for commands in PANELS.values() for command in commands}
GROUPS: dict[str, tuple[str, tuple[Callable[..., None], ...]]] = {
    "migrate": (
        "Bring older DSG projects here: their configs as Repositories, their repositories as versions.",
        (config, repository),
    )
}
"""Commands of commands: what each group is for, and what it has."""

app = typer.Typer(
    name="kubectl-dsg",
    help=_HELP,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)
for _panel, _commands in PANELS.items():
    for _command in _commands:
        app.command(rich_help_panel=_panel)(_command)
for _name, (_about, _commands) in GROUPS.items():
    _group = typer.Typer(help=_about, no_args_is_help=True, context_settings={"help_option_names": ["--help", "-h"]})
    for _command in _commands:
        _group.command()(_command)
    app.add_typer(_group, name=_name, rich_help_panel="Care")


def main() -> None:
    """Entry point of the script."""
    prepare_streams()
    try:
        handle_signals()
        if sys.argv[1:2] == [ASK]:
            for line in answer(COMMANDS, sys.argv[2:], GROUPS):
                typer.echo(line)
            return
        app(prog_name="kubectl dsg")
    except KeyboardInterrupt:
        # Before or after a command; inside, `exits.guarded` has said so already.
        sys.exit(int(Exit.INTERRUPTED))
