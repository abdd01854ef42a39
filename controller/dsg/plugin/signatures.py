"""The commands' options and arguments, read from their signatures: for completion and for the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, get_args, get_origin, get_type_hints

from typer.models import OptionInfo

Command = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Parameter:
    """An option or argument."""

    name: str
    words: tuple[str, ...]
    """Its names as they are typed; none for an argument."""
    help: str
    flag: bool
    """Whether it takes no value."""
    choices: tuple[str, ...]
    """The values that it may have, where these are few."""
    metavar: str
    """How an argument is shown."""


def parameters(command: Command) -> Iterator[Parameter]:
    """Yield what a command takes."""
    for name, hint in get_type_hints(command, include_extras=True).items():
        if get_origin(hint) is not Annotated:
            continue
        kind, about = get_args(hint)[:2]
        words: tuple[str, ...] = ()
        if isinstance(about, OptionInfo):
            # Inside Annotated, typer takes the first name for a default.
            words = tuple(word for word in (about.default, *(about.param_decls or ())) if isinstance(word, str))
        kinds = [one for one in get_args(kind) or (kind,) if isinstance(one, type) and issubclass(one, Enum)]
        choices = tuple(one.value for one in kinds[0]) if kinds else ()
        optional = type(None) in get_args(kind)
        metavar = about.metavar or (f"[{name.upper()}]" if optional else name.upper())
        yield Parameter(name, words, about.help or "", kind is bool, choices, metavar)


def first_sentence(text: str | None) -> str:
    """Return a docstring's first sentence, in one line without its full stop."""
    line = (text or "").strip().partition("\n\n")[0].replace("\n", " ")
    return " ".join(line.split()).split(". ")[0].rstrip(".")
