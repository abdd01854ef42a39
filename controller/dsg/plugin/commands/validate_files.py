"""`kubectl dsg validate -f`: objects in YAML files, checked as the API server would, without one."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import typer
import yaml

from dsg.api.documents import Checked, check, load_files, read_documents
from dsg.plugin.exits import CommandError, Exit
from dsg.plugin.output import Format, Output


def validate_files(files: Sequence[Path], output: Output) -> None:
    """Print what is wrong with the objects in files; exit code 1 when anything is."""
    try:
        found = _read(files)
    except OSError as error:
        raise CommandError("Usage", f"{error.filename}: {error.strerror}", code=Exit.USAGE) from None
    if output.structured:
        objects = [_as_json(one) for one in found]
        sys.stdout.write(
            json.dumps(objects, indent=2) + "\n"
            if output.form is Format.JSON
            else yaml.safe_dump(objects, sort_keys=False)
        )
    else:
        _print(found, output)
    if any(one.problems for one in found):
        raise typer.Exit(int(Exit.FAILED))


def _read(files: Sequence[Path]) -> list[Checked]:
    found: list[Checked] = []
    for file in files:
        if str(file) == "-":
            found += check(read_documents(sys.stdin.read(), "standard input"))
        elif file.is_dir():
            found += load_files(sorted(p for p in file.rglob("*") if p.suffix in {".yaml", ".yml", ".json"}))
        else:
            found += load_files([file])
    return found


def _as_json(one: Checked) -> dict[str, object]:
    return {
        "file": one.document.source,
        "object": one.title,
        "valid": None if one.foreign else not one.problems,
        "problems": [{"line": one.document.line(p.path), "path": p.path, "message": p.message} for p in one.problems],
    }


def _print(found: Sequence[Checked], output: Output) -> None:
    for one in found:
        if one.problems:
            for line in one.report():
                output.line(line, "red")
        elif one.foreign:
            output.line(f"{one.document.source}: {one.title}: not of dsg.hrdag.org, not looked at")
        else:
            output.line(f"{one.document.source}: {one.title}: valid")
    if not found:
        output.line("no objects found")
