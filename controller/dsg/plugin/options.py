"""The options that several commands share, each stated once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dsg.plugin.output import Format

_CLUSTER = "Cluster"
_PRINTING = "Printing"

OutputOption = Annotated[
    Format,
    typer.Option("--output", "-o", help="text, json or yaml.", rich_help_panel=_PRINTING, show_default=True),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Say results only.", rich_help_panel=_PRINTING)]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Say more.", rich_help_panel=_PRINTING)]
ContextOption = Annotated[
    str, typer.Option("--context", help="Context of the kubeconfig.", rich_help_panel=_CLUSTER, show_default=False)
]
KubeconfigOption = Annotated[
    str,
    typer.Option("--kubeconfig", help="File of the kubeconfig.", rich_help_panel=_CLUSTER, show_default=False),
]
NamespaceOption = Annotated[
    str,
    typer.Option(
        "--namespace", "-n", help="Namespace of the Repository.", rich_help_panel=_CLUSTER, show_default=False
    ),
]
DirectoryOption = Annotated[
    Path | None,
    typer.Option(
        "--directory",
        "-C",
        help="A directory of the working copy, instead of the current one.",
        show_default=False,
    ),
]
TimeoutOption = Annotated[
    str,
    typer.Option(
        "--timeout",
        help="How long the transaction may take, such as 4h; by itself an hour, and one more for each 10 GiB.",
        show_default=False,
        rich_help_panel=_CLUSTER,
    ),
]
MessageOption = Annotated[str, typer.Option("--message", "-m", help="Why, for the log.", show_default=False)]
NormalizeOption = Annotated[
    bool,
    typer.Option("--normalize", help="Rename new files whose names the repository does not admit; undone on failure."),
]
