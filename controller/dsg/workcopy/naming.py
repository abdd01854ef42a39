"""Names of new files: what a repository does not admit is refused, or made good by renaming."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from dsg.manifests import tree
from dsg.manifests.changes import Change, Place
from dsg.manifests.digest import Summary
from dsg.sync.names import Collision, NameRules, Problem, check, collisions, folded_path, normalized
from dsg.sync.plan import Plan
from dsg.workcopy.base import Base
from dsg.workcopy.errors import NamesRefused

_SHOWN = 50


Changes = Callable[[], Iterable[Change]]
"""Gives what a sync sends, each time anew."""


def _new_paths(changes: Changes, base: Base, head: Summary) -> Iterator[str]:
    find = tree.Finder(base, head).find
    for change in changes():
        if isinstance(change, Place) and find(change.path) is None:
            yield change.path


def require(changes: Changes, base: Base, head: Summary, made: Summary, rules: NameRules) -> None:
    """Refuse new names that the rules do not admit, and new ones that are one with another of the tree elsewhere.

    Names that the head has already are not looked at. Raises NamesRefused.
    """
    problems: list[Problem] = []
    any_new = False
    for path in _new_paths(changes, base, head):
        any_new = True
        problems.extend(check(path, rules))
        if len(problems) > _SHOWN:
            raise NamesRefused(problems[:_SHOWN], (), more=True)
    if problems:
        raise NamesRefused(problems, (), more=False)
    if not any_new or rules is NameRules.POSIX:
        return
    found = list(islice(_colliding(base, head, made), _SHOWN + 1))
    if found:
        raise NamesRefused((), found[:_SHOWN], more=len(found) > _SHOWN)


def _colliding(base: Base, head: Summary, made: Summary) -> Iterator[Collision]:
    """Yield collisions of the new tree that the head does not have already."""
    several = list(collisions(lambda: (entry.path for entry in base.entries(made))))
    if not several:
        return
    before = {(one.one, one.other) for one in collisions(lambda: (entry.path for entry in base.entries(head)))}
    for one in several:
        if (one.one, one.other) not in before and (one.other, one.one) not in before:
            yield one


def repairs(plan: Plan, changes: Changes, base: Base, head: Summary, rules: NameRules) -> list[tuple[str, str]]:
    """Return from and to for each new path that the rules do not admit, by what `names.normalized` makes of it.

    Raises NamesRefused where only a person can choose a name, or the good one is taken.
    """
    found: list[tuple[str, str]] = []
    problems: list[Problem] = []
    for path in _new_paths(changes, base, head):
        if check(path, rules):
            good = normalized(path)
            if isinstance(good, str):
                found.append((path, good))
            else:
                problems.extend(good)
    if problems:
        raise NamesRefused(problems[:_SHOWN], (), more=len(problems) > _SHOWN)
    if not found:
        return []
    wanted: dict[str, str] = {}
    taken: list[Collision] = []
    for path, good in found:
        other = wanted.setdefault(folded_path(good), path)
        if other != path:
            taken.append(Collision(other, path))
    olds = {path for path, _ in found}
    taken.extend(
        Collision(path, wanted[folded_path(path)])
        for path in plan.sides.paths()
        if path not in olds and folded_path(path) in wanted
    )
    if taken:
        raise NamesRefused((), taken[:_SHOWN], more=len(taken) > _SHOWN)
    return found
