"""Bring what pages of the documentation link to beside `docs/` into the site: examples, and what was measured."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

_TREE = Path(__file__).resolve().parent
_BESIDE = ("examples", "gitops", "benchmarks/README.md")
_LINK = re.compile(r"\]\((?P<up>(?:\.\./)*)\.\./(?P<rest>(?:examples|gitops|benchmarks)/[^)]*)\)")
_FOLDER = re.compile(r"\[(?P<text>[^]]*)\]\((?!https?:)[^)]*/\)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the files, each at its own path."""
    for name in _BESIDE:
        place = _TREE / name
        found = sorted(place.rglob("*")) if place.is_dir() else [place]
        for path in (one for one in found if one.suffix in {".yaml", ".md"}):
            files.append(File.generated(config, str(path.relative_to(_TREE)), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Let links lead to where they are in the site.

    It has one directory less, for `docs` is its root; the README's place is taken by the first page; and a folder of
    files has no page.
    """
    inside = _LINK.sub(r"](\g<up>\g<rest>)", markdown)
    return _FOLDER.sub(r"\g<text>", inside).replace("](../docs/", "](../").replace("](../README.md)", "](index.md)")
