"""`python -m demo`: the story. `--lab`: on the real parts. `--shell`: a shell with the embedded parts running."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer

from demo.narrator import Narrator, Unexpected
from demo.place import Place
from demo.shell import open_shell
from demo.story import Story
from demo.world import LabWorld, LocalWorld, World
from lab.errors import LabError
from lab.progress import say

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
_LOG_LINES, _LOG_WIDTH = 20, 300


def _tell(world: World) -> None:
    narrator = Narrator()
    with world:
        try:
            Story(world, narrator).tell()
        except (Unexpected, LabError) as error:
            narrator.failed(str(error))
            lines = [line[:_LOG_WIDTH] for line in world.operator_log().splitlines()[-_LOG_LINES:]]
            narrator.say("The operator's log ends:")
            narrator.output("\n".join(lines))
            raise typer.Exit(1) from None
    narrator.summary()


@app.command()
def main(
    lab: Annotated[bool, typer.Option("--lab", help="On a real kube-apiserver and real OpenZFS.")] = False,
    shell: Annotated[bool, typer.Option("--shell", help="Open a shell with everything running instead.")] = False,
    directory: Annotated[Path | None, typer.Option(help="Keep everything there; left out, a place is made.")] = None,
) -> None:
    """Show the main job end to end, or open a shell in which to try it."""
    try:
        with Place(directory, lab=lab) as place:
            if shell:
                raise typer.Exit(open_shell(LocalWorld(place.current())))
            _tell(LabWorld(place.fresh()) if lab else LocalWorld(place.fresh()))
            if not lab:
                print("\nTry more: `make demo-shell` opens a shell in which this API and this operator run.")
    except LabError as error:
        say(f"demo: {error}")
        raise typer.Exit(1) from None


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


if __name__ == "__main__":
    # Ended politely, everything that was started is ended too; killed, its children die with it.
    signal.signal(signal.SIGTERM, _terminate)
    signal.signal(signal.SIGHUP, _terminate)
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
