"""The lab's command line: `python -m lab up`, `down`, `destroy`, `shell`, `env`, `status`,
`prefetch`, `prune`."""

import os
import shlex
import sys
import time
from typing import Annotated

import typer

from lab import binaries, cache, container, tools, verdicts
from lab.credentials import USERS
from lab.errors import LabError
from lab.library import POOL, Lab, prefetch, recorded_nodes
from lab.paths import lab_directory
from lab.progress import duration, say

app = typer.Typer(
    help="A real Kubernetes API and storage nodes with real OpenZFS on this machine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _standing() -> Lab:
    directory = lab_directory()
    names = recorded_nodes(directory)
    if not names:
        raise LabError(f"there is no lab in {directory}; `python -m lab up` makes one")
    return Lab(directory, names, tied=False)


@app.command()
def up(
    nodes: Annotated[int | None, typer.Option(min=1, max=len(_LETTERS), help="How many storage nodes.")] = None,
    operators: Annotated[bool, typer.Option(help="Start the operator on each node.")] = True,
) -> None:
    """Start the lab and leave it running; a lab that was stopped goes on with its data."""
    begin = time.monotonic()
    had = recorded_nodes(lab_directory())
    wanted = had if nodes is None else tuple(f"node-{letter}" for letter in _LETTERS[:nodes])
    # Nodes that exist stay part of the lab, so that `down` and `destroy` know them.
    names = tuple(dict.fromkeys((*had, *wanted))) or ("node-a",)
    lab = Lab(lab_directory(), names, tied=False)
    lab.up(operators=operators)
    say(f"the lab is up after {duration(time.monotonic() - begin)}: {', '.join(names)}, pool {POOL} on each")
    say(f"try: {shlex.quote(str(binaries.kubectl()))} --kubeconfig={lab.api.kubeconfig('admin')} get namespaces")


@app.command()
def down() -> None:
    """Shut the lab down in order; its data stays."""
    _standing().down()


@app.command()
def destroy() -> None:
    """Stop the lab at once and remove all its data; what was built stays cached."""
    _standing().destroy()


@app.command()
def shell(node: Annotated[str, typer.Argument(help="The node; the first when left out.")] = "") -> None:
    """Open a root shell in a storage node."""
    lab = _standing()
    where = lab.node(node or next(iter(lab.nodes)))
    if not where.running:
        raise LabError(f"{where.name} does not run; `python -m lab up` starts it")
    argv = where.shell.base_argv()
    # ssh's own socket has a name relative to the node's directory.
    os.chdir(where.directory)
    os.execvp(argv[0], [*argv[:-1], "-t", argv[-1], "exec bash --login"])


@app.command()
def env() -> None:
    """Print a shell function for each API user: `eval "$(python -m lab env)"`, then `k-alice get pods`."""
    lab = _standing()
    program = shlex.quote(str(binaries.kubectl()))
    for user in USERS:
        config = shlex.quote(str(lab.api.kubeconfig(user)))
        print(f'k-{user}() {{ {program} --kubeconfig={config} "$@"; }}')
    print(f"export KUBECONFIG={shlex.quote(str(lab.api.kubeconfig('admin')))}")


@app.command()
def status() -> None:
    """Tell what runs."""
    lab = _standing()
    print(f"directory   {lab.directory}")
    print(f"API server  {lab.api.url if lab.api.running else 'stopped'}")
    for name, node in lab.nodes.items():
        if not node.running:
            print(f"{name:<11} stopped")
            continue
        pool = node.run("zpool", "list", "-H", "-o", "name,health,free", check=False).stdout.split()
        operator = "running" if node.operator_running() else "stopped"
        print(f"{name:<11} pool {' '.join(pool) or 'none'}, operator {operator}")


@app.command("prefetch")
def fetch() -> None:
    """Do all slow builds now: about 7 minutes for kube-apiserver, 8 for OpenZFS, 12 for the rest, on two idle cores."""
    begin = time.monotonic()
    prefetch()
    tools.prefetch()
    verdicts.argocd_parts()
    verdicts.flux_parts()
    if os.geteuid() == 0:
        container.built()
    say(f"everything is built; it took {duration(time.monotonic() - begin)}")


@app.command()
def prune(days: Annotated[float, typer.Option(min=0, help="Keep what was used within so many days.")] = 7) -> None:
    """Remove built parts that nothing has used for some days and that the standing lab is not made of."""
    directory = lab_directory()
    names = recorded_nodes(directory)
    nodes = Lab(directory, names, tied=False).nodes.values() if names else ()
    for folder in cache.prune(days, [part for node in nodes for part in node.built_on()]):
        say(f"removed {folder}")


def main() -> None:
    """Run the command line; what the lab can't do is told without a traceback."""
    try:
        app()
    except LabError as error:
        say(f"lab: {error}")
        sys.exit(1)


if __name__ == "__main__":
    main()
