"""`kubectl dsg conflicts`: what a sync asks, and answers to it. Works on .dsg/conflicts.txt alone."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from dsg.plugin.exits import CommandError, Exit, guarded
from dsg.plugin.options import DirectoryOption, OutputOption, QuietOption, VerboseOption
from dsg.plugin.output import Format
from dsg.plugin.session import Session
from dsg.plugin.text import count, path_value, safe
from dsg.sync import resolution
from dsg.sync.plan import Choice
from dsg.sync.resolution import Block, Resolutions
from dsg.workcopy.layout import Layout
from dsg.workcopy.lock import locked
from dsg.workcopy.writing import write_whole

_HOW = """\
Decide each: put mine, theirs or both in place of ? in the file, or say so here:
  kubectl dsg conflicts --keep mine PATH...      the repository gets what you have
  kubectl dsg conflicts --keep theirs PATH...    you get what the repository has; a copy of yours is kept
  kubectl dsg conflicts --keep both PATH...      theirs keeps the name, yours goes beside it
Then: kubectl dsg sync --continue"""


@guarded
def conflicts(
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PATH...]", help="Paths, as they are listed.", show_default=False),
    ] = None,
    keep: Annotated[Choice | None, typer.Option("--keep", help="Decide these paths so.", show_default=False)] = None,
    everything: Annotated[bool, typer.Option("--all", help="With --keep: all that are not decided yet.")] = False,
    directory: DirectoryOption = None,
    output: OutputOption = Format.TEXT,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """List the conflicts that the last sync found and how they are decided, or decide them with --keep."""
    session = Session.of(output, quiet=quiet, verbose=verbose)
    wanted = paths or []
    if (keep is not None) != (bool(wanted) or everything) and (keep is not None or everything):
        raise CommandError("Usage", "--keep needs paths, or --all", "`kubectl dsg conflicts` lists them.", Exit.USAGE)
    place = session.here(directory)
    layout = Layout(place.root)
    with locked(layout):
        found = _read(layout)
        if keep is not None:
            found = _decide(found, keep, wanted, everything=everything)
            write_whole(layout.conflicts, resolution.write(found).encode())
    shown = [block for block in found.blocks if keep is not None or not wanted or block.path in wanted]
    _check_known(found, wanted)
    undecided = sum(block.choice is None for block in found.blocks)
    session.output.documents(
        "ConflictList",
        {
            "file": path_value(str(layout.conflicts)),
            "base": None if found.base is None else found.base.version,
            "head": None if found.head is None else found.head.version,
            "total": len(found.blocks),
            "undecided": undecided,
        },
        "conflicts",
        map(_as_document, shown),
    )
    if not found.blocks:
        session.output.line("No conflict waits for a decision; `kubectl dsg status` says what a sync would do")
        return
    for block in shown:
        _tell(session, block)
    session.output.line()
    session.output.line(
        f"{count(len(found.blocks), 'conflict')}, {undecided:,} not decided; the file is {layout.conflicts}"
    )
    if undecided:
        session.output.note(_HOW)
    else:
        session.output.line("All are decided: kubectl dsg sync --continue")


def _read(layout: Layout) -> Resolutions:
    try:
        return resolution.parse(layout.conflicts.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Resolutions(None, None, ())
    except UnicodeDecodeError:
        raise CommandError(
            "DecisionsWrong",
            f"{layout.conflicts} is not text in UTF-8",
            "Correct it, or delete it: the next sync writes a new one.",
            Exit.CONFLICT,
        ) from None


def _check_known(found: Resolutions, wanted: list[str]) -> None:
    known = {block.path for block in found.blocks}
    unknown = [path for path in wanted if path not in known]
    if unknown:
        raise CommandError(
            "NoSuchConflict",
            f"{safe(unknown[0])} is in no conflict",
            "`kubectl dsg conflicts` lists those that there are, by their paths from the working copy's root.",
        )


def _decide(found: Resolutions, keep: Choice, wanted: list[str], *, everything: bool) -> Resolutions:
    _check_known(found, wanted)
    chosen: list[Choice | None] = []
    for block in found.blocks:
        if block.path in wanted or (everything and block.choice is None):
            if keep not in block.choices:
                raise CommandError(
                    "NoSuchChoice",
                    f"{safe(block.path)} can't be decided by {keep}: one side deleted it",
                    f"Choose {' or '.join(block.choices)}. Nothing was decided.",
                )
            chosen.append(keep)
        else:
            chosen.append(block.choice)
    return found.decided(chosen)


def _tell(session: Session, block: Block) -> None:
    session.output.line()
    line = Text(safe(block.path), style="bold")
    line.append(f"  [{block.choice.value}]" if block.choice else "  [?]", style="green" if block.choice else "bold red")
    session.output.line(line)
    session.output.line(f"  {block.what}")
    session.output.line(f"  mine    {block.mine}")
    session.output.line(f"  theirs  {block.theirs}")


def _as_document(block: Block) -> dict[str, Any]:
    return {
        "path": path_value(block.path),
        "what": block.what,
        "mine": block.mine,
        "theirs": block.theirs,
        "choices": [choice.value for choice in block.choices],
        "choice": None if block.choice is None else block.choice.value,
    }
