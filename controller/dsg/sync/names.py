"""Which names a repository admits, in one table; how a name can be made good; and which paths are one elsewhere.

The rules are DSG's, with what it missed (docs/sync.md). `portable` names mean the same file on Linux, macOS and
Windows; `posix` ones are all that an entry can have (`dsg.manifests.entries`).
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from dsg.manifests.entries import MAX_NAME, EntryError, check_path, to_bytes


class NameRules(StrEnum):
    """A repository's `nameRules`."""

    PORTABLE = "portable"
    POSIX = "posix"


class Rule(StrEnum):
    """What can be wrong with a name."""

    ENTRY = "not a path"
    UTF8 = "not UTF-8"
    FORM = "not NFC"
    INVISIBLE = "invisible character"
    CHARACTER = "character of Windows' own"
    BLANK = "blank at an end"
    DOT = "dot at the end"
    TILDE = "tilde at an end"
    DEVICE = "device of Windows"
    LENGTH = "too long"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a rule is, and what makes a name good; both for people."""

    rule: Rule
    why: str
    repair: str | None
    """What `normalized` does; None where a person must choose another name."""
    posix: bool
    """Whether the rule holds under `posix`, too."""


RULES: tuple[Reason, ...] = (
    Reason(
        Rule.ENTRY,
        "no entry can have it: empty, '.' and '..' components, a leading '/', NUL, over 4,095 bytes, "
        "or .dsg or .zfs at the root",
        None,
        True,
    ),
    Reason(Rule.LENGTH, "file systems allow 255 bytes for a name", None, True),
    Reason(
        Rule.UTF8, "macOS refuses it, Windows has no such name, and it reads differently in each locale", None, False
    ),
    Reason(
        Rule.FORM,
        "macOS takes composed and decomposed letters for the same, Linux does not: two files that look alike",
        "composed (Unicode NFC)",
        False,
    ),
    Reason(
        Rule.INVISIBLE,
        "control, formatting, private and unassigned characters and line separators: names that look alike, read "
        "backwards, break lists into lines, or have another normal form in a later Unicode",
        "control characters and separators become _, the others are left out",
        False,
    ),
    Reason(Rule.CHARACTER, 'Windows has no < > : " | ? * or \\ in names', "each becomes _", False),
    Reason(Rule.BLANK, "Windows drops it at the end; elsewhere nobody sees it", "left out", False),
    Reason(Rule.DOT, "Windows drops it", "left out", False),
    Reason(
        Rule.TILDE,
        "shells take a leading ~ for a home, editors name their backups with one at the end",
        "left out",
        False,
    ),
    Reason(
        Rule.DEVICE,
        "Windows opens the device, whatever follows the first dot: CON PRN AUX NUL CONIN$ CONOUT$ COM1-9 LPT1-9, "
        "with superscript digits too",
        "an _ follows it",
        False,
    ),
)
"""All rules, each with its reason."""

_WHY = {reason.rule: reason.why for reason in RULES}
_WINDOWS = re.compile(r'[<>:"|?*\\]')
_DEVICE = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|com[1-9\u00b9\u00b2\u00b3]|lpt[1-9\u00b9\u00b2\u00b3]) *(?=\.|\Z)",
    re.IGNORECASE,
)
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_TO_REPLACE = frozenset({"Cc", "Zl", "Zp"})
_PLAIN = re.compile(r"[A-Za-z0-9_+,;=@#%&()\[\]{}!'`^$-][A-Za-z0-9_+,;=@#%&()\[\]{}!'`^$. -]*(?<![. ])")
"""Names that need no look at their characters: only length and devices can be wrong with them."""
# What HFS+ and case-folding ext4 leave out when they compare names.
_IGNORED = dict.fromkeys([0x00AD, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070), 0xFEFF])


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a path."""

    path: str
    name: str
    """The component it is about; the whole path for `Rule.ENTRY`."""
    rule: Rule
    detail: str
    """What was found."""

    def __str__(self) -> str:
        return f"{self.path!r}: {self.detail} ({_WHY[self.rule]})"


def check(path: str, rules: NameRules = NameRules.PORTABLE) -> list[Problem]:
    """Return what is wrong with a path, component by component; nothing when it is good."""
    problems: list[Problem] = []
    names = path.split("/")
    for name in names:
        problems.extend(Problem(path, name, rule, detail) for rule, detail in _problems(name, rules))
    if not any(problem.rule is Rule.LENGTH for problem in problems):
        try:
            check_path(path)
        except EntryError as error:
            problems.append(Problem(path, path, Rule.ENTRY, str(error)))
    return problems


def normalized(path: str) -> str | list[Problem]:
    """Return the path with every name made portable, or what only a person can mend.

    The path may be another file's by then, or be one with it elsewhere; see `collisions`. Does nothing on disk.
    """
    fixed = "/".join(_fixed(name) for name in path.split("/"))
    problems = check(fixed)
    return [Problem(path, p.name, p.rule, p.detail) for p in problems] if problems else fixed


def _problems(name: str, rules: NameRules) -> Iterator[tuple[Rule, str]]:
    size = len(name) if name.isascii() else len(name.encode("utf-8", "surrogatepass"))
    if any("\udc80" <= character <= "\udcff" for character in name):
        size = _bytes_of(name)
    if size > MAX_NAME:
        yield Rule.LENGTH, f"{name[:40]!r}… has {size} bytes"
    if rules is NameRules.POSIX or name in {"", ".", ".."}:
        return
    if _DEVICE.match(name):
        yield Rule.DEVICE, f"{name!r} is a device"
    if _PLAIN.fullmatch(name) and not name.startswith("~"):
        return
    try:
        name.encode()
    except UnicodeEncodeError:
        yield Rule.UTF8, f"{name!r} is not UTF-8"
        return
    yield from _problems_of_characters(name)


def _bytes_of(name: str) -> int:
    try:
        return len(to_bytes(name))
    except EntryError:
        return len(name)


def _problems_of_characters(name: str) -> Iterator[tuple[Rule, str]]:
    if not unicodedata.is_normalized("NFC", name):
        yield Rule.FORM, f"{name!r} is not composed"
    invisible = [character for character in name if unicodedata.category(character) in _INVISIBLE]
    if invisible:
        yield Rule.INVISIBLE, f"{name!r} holds U+{ord(invisible[0]):04X}"
    windows = _WINDOWS.search(name)
    if windows:
        yield Rule.CHARACTER, f"{name!r} holds {windows[0]}"
    if name != name.strip():
        yield Rule.BLANK, f"{name!r} begins or ends with a blank"
    if name.endswith("."):
        yield Rule.DOT, f"{name!r} ends with a dot"
    if name.startswith("~") or name.endswith("~"):
        yield Rule.TILDE, f"{name!r} begins or ends with ~"


def _fixed(name: str) -> str:
    """Return the name with all done that can be, each step again until none finds anything."""
    if name in {"", ".", ".."}:
        return name
    try:
        name.encode()
    except UnicodeEncodeError:
        return name
    while True:
        before = name
        name = unicodedata.normalize("NFC", name)
        name = "".join(map(_visible, name))
        name = _WINDOWS.sub("_", name)
        name = name.strip().rstrip(".").strip("~")
        name = _DEVICE.sub(lambda found: found[1] + "_", name, count=1) if _DEVICE.match(name) else name
        if name == before:
            return name


def _visible(character: str) -> str:
    category = unicodedata.category(character)
    if category in _TO_REPLACE:
        return "_"
    return "" if category in _INVISIBLE else character


def folded(name: str) -> str:
    """Return what a component is to the least discerning of the file systems that people use: equal ones are one file.

    Unicode's canonical caseless match (D145), as case-folding ext4 and APFS compare, without what they and HFS+ ignore
    and the blanks and dots that Windows drops at the end. Most systems fold less, so what is one here may be two there.
    """
    if name.isascii():
        low = name.lower()
    else:
        low = unicodedata.normalize("NFD", unicodedata.normalize("NFD", name.translate(_IGNORED)).casefold())
    return low.rstrip(" .") or low


def folded_path(path: str) -> str:
    """Return a path with each component folded."""
    return "/".join(map(folded, path.split("/")))


def collide(one: str, other: str) -> bool:
    """Tell whether two different paths are one on some system."""
    return one != other and folded_path(one) == folded_path(other)


@dataclass(frozen=True, slots=True)
class Collision:
    """Two paths in one directory, each a file, link or directory, that are one on some system."""

    one: str
    other: str


def collisions(paths: Callable[[], Iterable[str]]) -> Iterator[Collision]:
    """Yield each path that is one with an earlier path of its directory, both as written.

    `paths` gives the paths in the order of manifests each time it is called; a second time only when something may
    collide. What lies below two directories that are one is not told again. Memory: some fifty bytes for each path and
    directory, and what collides.
    """
    # Equal hashes come from equal names, or by chance; the second look tells which.
    hashes = sorted(array("Q", (hash(key) & _MASK for key, _ in _places(paths()))))
    several = {one for one, other in pairwise(hashes) if one == other}
    if not several:
        return
    first: dict[tuple[str, str], str] = {}
    for key, path in _places(paths()):
        if hash(key) & _MASK in several:
            known = first.setdefault(key, path)
            if known != path:
                yield Collision(known, path)


_MASK = 2**64 - 1


def _places(paths: Iterable[str]) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield every path and directory once: its directory with its folded name, and itself.

    All that lies in one directory stands together in the order of manifests, so those in which the last path lies are
    all that need be known.
    """
    last: list[str] = []
    for path in paths:
        names = path.split("/")
        depth = 0
        while depth < min(len(last), len(names)) and last[depth] == names[depth]:
            depth += 1
        for at in range(depth, len(names)):
            yield ("/".join(names[:at]), folded(names[at])), "/".join(names[: at + 1])
        last = names
