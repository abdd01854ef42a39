"""`kubectl dsg completion`, and what its scripts ask: which words can stand where the cursor is.

The answer has the form of kubectl's own completions (cobra: a word a line, tab, description; `:4` at the end forbids
file names, `:0` allows them), so one command serves the shells and kubectl's hook for plugins.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import pairwise
from types import MappingProxyType
from typing import Annotated

import typer

from dsg.plugin.cluster_remote import REPOSITORY
from dsg.plugin.exits import guarded
from dsg.plugin.kubectl import Connection, Kubectl
from dsg.plugin.signatures import Command, Parameter, first_sentence, parameters
from dsg.plugin.text import safe
from dsg.workcopy.remote import RemoteError

ASK = "__complete"
"""The word by which the scripts ask; what follows are the words up to the cursor, the last one unfinished."""
_FILES, _NO_FILES = 0, 4
_WITH_REPOSITORY = frozenset({"init", "clone", "doctor"})
"""Commands whose first argument is a Repository's name."""
_WITH_FILES = frozenset({"clone", "blame", "diff", "ls", "fetch", "config", "repository"})
_FILE_OPTIONS = frozenset({"directory", "kubeconfig", "files", "to", "spec", "snapshots", "report"})


class Shell(StrEnum):
    """For whom a script is written."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"
    KUBECTL = "kubectl"


_BASH = """\
# bash completion for kubectl-dsg
_kubectl_dsg() {
    local line directive cur="${COMP_WORDS[COMP_CWORD]}"
    local -a found
    mapfile -t found < <(kubectl-dsg __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    [ "${#found[@]}" -gt 0 ] || return
    directive="${found[-1]#:}"
    unset 'found[-1]'
    COMPREPLY=()
    for line in "${found[@]}"; do COMPREPLY+=("${line%%$'\\t'*}"); done
    if [ "$directive" = 0 ]; then
        compopt -o filenames
        mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$cur")
    fi
}
complete -F _kubectl_dsg kubectl-dsg
"""
_ZSH = """\
#compdef kubectl-dsg
# zsh completion for kubectl-dsg
_kubectl_dsg() {
    local -a found described
    local line
    found=("${(@f)$(kubectl-dsg __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    [ "${#found}" -gt 0 ] || return
    for line in "${found[@]:0:-1}"; do described+=("${${line%%$'\\t'*}//:/\\\\:}:${line#*$'\\t'}"); done
    [ "${#described}" -gt 0 ] && _describe 'kubectl-dsg' described
    [ "${found[-1]}" = ":0" ] && _files
}
compdef _kubectl_dsg kubectl-dsg
"""
_FISH = """\
# fish completion for kubectl-dsg
function __kubectl_dsg
    set -l words (commandline -opc) (commandline -ct)
    set -l found (kubectl-dsg __complete $words[2..-1] 2>/dev/null)
    test (count $found) -gt 0; or return
    test (count $found) -gt 1; and printf '%s\\n' $found[1..-2]
    test "$found[-1]" = ":0"; and __fish_complete_path (commandline -ct)
end
complete -c kubectl-dsg -f -a '(__kubectl_dsg)'
"""
_KUBECTL = """\
#!/bin/sh
# What kubectl's own completion runs for `kubectl dsg` (kubectl 1.26 and newer): put it on the PATH as
# kubectl_complete-dsg, executable.
exec kubectl-dsg __complete "$@"
"""
_SCRIPTS = {Shell.BASH: _BASH, Shell.ZSH: _ZSH, Shell.FISH: _FISH, Shell.KUBECTL: _KUBECTL}


@guarded
def completion(
    shell: Annotated[Shell, typer.Argument(help="Whose completion; kubectl for its hook, kubectl_complete-dsg.")],
) -> None:
    """Print the script that completes commands, options and names.

    bash: `source <(kubectl-dsg completion bash)`. For `kubectl dsg …`: `kubectl-dsg completion kubectl >
    ~/.local/bin/kubectl_complete-dsg && chmod +x ~/.local/bin/kubectl_complete-dsg`.
    """
    typer.echo(_SCRIPTS[shell], nl=False)


def answer(
    commands: Mapping[str, Command],
    words: Sequence[str],
    groups: Mapping[str, tuple[str, Sequence[Command]]] = MappingProxyType({}),
) -> Iterator[str]:
    """Yield the lines that complete the last of the words that follow `kubectl dsg`.

    `groups` are commands that have commands: what each is for, and those.
    """
    current = words[-1] if words else ""
    before = list(words[:-1])
    name = next((word for word in before if not word.startswith("-")), None)
    if name is not None and name in groups:
        inner = {one.__name__: one for one in groups[name][1]}
        yield from answer(inner, words[before.index(name) + 1 :])
        return
    if name is None or name not in commands:
        found: Iterable[tuple[str, str]] = [
            *((one, first_sentence(body.__doc__)) for one, body in commands.items()),
            *((one, first_sentence(about)) for one, (about, _) in groups.items()),
        ]
        directive = _NO_FILES
    else:
        found, directive = _inside(name, commands[name], before[before.index(name) + 1 :], current)
    for word, about in found:
        if word.startswith(current):
            yield f"{word}\t{about}" if about else word
    yield f":{directive}"


def _inside(name: str, command: Command, before: Sequence[str], current: str) -> tuple[Iterable[tuple[str, str]], int]:
    known = list(parameters(command))
    options = {word: one for one in known for word in one.words}
    last = options.get(before[-1]) if before else None
    if last is not None and not last.flag:
        return _choices(last), _FILES if last.name in _FILE_OPTIONS else _NO_FILES
    if current.startswith("-"):
        return ((word, first_sentence(one.help)) for word, one in options.items()), _NO_FILES
    arguments = [one for one in known if not one.words]
    given = _positional(before, options)
    found = _choices(arguments[given]) if given < len(arguments) else []
    if name in _WITH_REPOSITORY and given == 0:
        found += _repositories(before)
    return found, _FILES if name in _WITH_FILES else _NO_FILES


def _positional(before: Sequence[str], options: Mapping[str, Parameter]) -> int:
    """Return how many arguments stand before the cursor."""
    number, skip = 0, False
    for word in before:
        option = options.get(word)
        if skip:
            skip = False
        elif option is not None:
            skip = not option.flag
        elif not word.startswith("-"):
            number += 1
    return number


def _choices(parameter: Parameter) -> list[tuple[str, str]]:
    return [(choice, "") for choice in parameter.choices]


def _repositories(before: Sequence[str]) -> list[tuple[str, str]]:
    def value(*names: str) -> str:
        return next((after for word, after in pairwise(before) if word in names), "")

    connection = Connection(value("--context"), value("--namespace", "-n"), value("--kubeconfig"))
    try:
        found = Kubectl(connection).list(REPOSITORY)
    except RemoteError:
        return []
    return [(safe(str(one.get("metadata", {}).get("name", ""))), "") for one in found]
