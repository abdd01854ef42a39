"""`make demo-shell`: a shell in which embedded API, operator and data plane run, and kubectl finds them."""

from __future__ import annotations

import os
import signal
import subprocess

from demo import specs
from demo.specs import POOL, REPOSITORY
from demo.state import NAMESPACE, State
from demo.world import NODE, OPERATOR_NAMESPACE, Done, World
from lab.errors import LabError
from lab.progress import say

_WORDS = f"""
You are the platform team and a research team. The API and the operator of {NODE} run until you leave this shell.

  kubectl get storagepools,repositories       what is declared, and how well it is
  kubectl explain repository.spec --recursive what can be declared
  kubectl edit repository {REPOSITORY}             change it
  kubectl events --for repository/{REPOSITORY}     what the operator did
  ls                                          the YAML files of the story
  ls -l {NODE}/srv {NODE}/data                the node's side; change something there by hand
  tail -f operator.log                        what the operator writes

  export KUBECONFIG=$ALICE                    be Alice, a researcher ($BOB: Bob)
  mkdir -p alice/input && cd alice            her directory; put files there, then:
  kubectl dsg init {REPOSITORY} -m "first"         the first version
  kubectl dsg clone {REPOSITORY} ../bob            somebody else's working copy
  kubectl dsg status, sync, log, --help       work with it
"""


PEOPLE = ("alice", "bob")


def _checked(done: Done, what: str) -> None:
    if done.code != 0:
        raise LabError(f"{what} failed:\n{done.text.strip()}")


def set_up(world: World) -> None:
    """Declare the story's pool and repository in an open world, and start its node. Raises `LabError`, `Unexpected`."""
    objects = {
        "namespace.yaml": specs.NAMESPACE_SPEC,
        "storagepool.yaml": specs.pool(world),
        "repository.yaml": specs.repository(world),
    }
    for name, obj in objects.items():
        (world.directory / name).write_text(specs.text(obj))
    files = [str(OPERATOR_NAMESPACE), *objects]
    _checked(world.run(("kubectl", "apply", *(f"--filename={file}" for file in files))), "applying the story's objects")
    world.start_data_plane()
    world.start_operator()
    state = State(world)
    state.wait_reason(REPOSITORY, "Reconciled")
    for user in ("admin", *PEOPLE):
        where = ("--kubeconfig", str(world.api.kubeconfig(user)))
        context = ("kubectl", "config", "set-context", "--current", f"--namespace={NAMESPACE}", *where)
        _checked(world.run(context), "kubectl config")


def environment(world: World) -> dict[str, str]:
    """Return the shell's environment: kubectl finds the API as its administrator, and `ALICE` names her kubeconfig."""
    people = {user.upper(): str(world.api.kubeconfig(user)) for user in PEOPLE}
    return {**world.environment(), **people, "DSG_DEMO": str(world.directory)}


def open_shell(world: World) -> int:
    """Open a shell and return its exit code; everything ends with it, and the state stays for the next one."""
    with world:
        world.open()
        set_up(world)
        say(_WORDS)
        say(world.run(("kubectl", "get", f"storagepool/{POOL}", f"repository/{REPOSITORY}")).text)
        # Ctrl-C is for what runs in the shell.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            program = os.environ.get("SHELL") or "/bin/sh"
            shell = subprocess.Popen([program], cwd=world.directory, env=environment(world), restore_signals=True)
            return shell.wait()
        finally:
            signal.signal(signal.SIGINT, before)
            say(f"The API and the operator end here. {world.directory} stays for the next `make demo-shell`.")
