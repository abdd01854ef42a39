"""`kubectl dsg migrate config`: an older config as the YAML of a Repository."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from dsg.migration.config import Draft, draft
from dsg.migration.shapes import Shape, ShapeError, read_config
from dsg.plugin.exits import CommandError, Exit, guarded
from dsg.plugin.options import OutputOption
from dsg.plugin.output import Format, Output

_USER_FIELDS = {
    "user_name": "not needed: your name is the one that `kubectl auth whoami` prints",
    "user_id": "not needed: your name is the one that `kubectl auth whoami` prints",
    "default_host": "the cluster of your kubeconfig takes its place; `kubectl dsg repos` lists what there is",
    "default_project_path": "the cluster of your kubeconfig takes its place; `kubectl dsg repos` lists what there is",
    "local_log": "not needed: commands print what they do, and keep no log on your machine",
    "backup_on_conflict": "always so: what a sync replaces and no version has is kept in .dsg/kept",
    "ssh": "not needed: content travels over HTTPS, with a key made for each transaction",
    "rclone": "not offered; copy versions out with rclone",
    "ipfs": "not offered; publish chosen versions with ipfs",
}


@guarded
def config(
    file: Annotated[Path, typer.Argument(help="The old file: .dsgconfig.yml, .dsg/config.yml, or a user's dsg.yml.")],
    spec: Annotated[
        Path | None,
        typer.Option("--spec", help="YAML file with the fields of a spec that the config can't know.", metavar="FILE"),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="One field of the spec, such as storage.properties.quota=500Gi.", metavar="FIELD=V"),
    ] = None,
    node: Annotated[str, typer.Option("--node", help="Storage node; the same as --set storage.node=…")] = "",
    pool: Annotated[str, typer.Option("--pool", help="ZFS pool; the same as --set storage.pool=…")] = "",
    name: Annotated[str, typer.Option("--name", help="Name of the Repository, where it is to have another one.")] = "",
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Namespace of the Repository.")] = "",
    provenance: Annotated[
        bool,
        typer.Option("--provenance/--no-provenance", help="Whether dataDirs get the directory for old manifests."),
    ] = True,
    output: OutputOption = Format.TEXT,
) -> None:
    """Turn a DSG config of any age into the YAML of a Repository.

    What the config can't know is asked by options; what is still missing is marked TODO in a form that the API refuses,
    and listed on stderr. Exit code 3 then.
    """
    printer = Output(output)
    given = _given(spec, settings or [], node, pool)
    try:
        old = read_config(_read(file), str(file))
    except ShapeError as error:
        raise CommandError("ConfigRefused", str(error)) from None
    if old.shape is Shape.USER:
        _user(printer, file, old.user)
        return
    made = draft(old, given, name=name, namespace=namespace, provenance=provenance)
    _print(printer, made, old.shape)
    if not made.complete:
        raise typer.Exit(int(Exit.CONFLICT))


def _print(printer: Output, made: Draft, shape: Shape) -> None:
    if printer.form is Format.JSON:
        document = {
            "shape": str(shape),
            "complete": made.complete,
            "repository": yaml.safe_load(made.text) if made.complete else None,
            "asked": [{"field": path, "question": question} for path, question in made.asked],
            "wrong": list(made.wrong),
            "notes": list(made.notes),
        }
        printer.document("MigratedConfig", document)
    else:
        typer.echo(made.text, nl=False)
    for note in made.notes:
        printer.note(f"note: {note}", "dim")
    for path, question in made.asked:
        printer.note(f"to be filled in: {path}: {question}", "yellow")
    for problem in made.wrong:
        printer.note(f"wrong: {problem}", "red")
    if not made.complete:
        printer.note("The Repository is not complete; the API refuses it as it is.", "bold")


def _user(printer: Output, file: Path, fields: Mapping[str, Any]) -> None:
    """Say what becomes of the fields of a user's config, which describes no repository."""
    said = {key: _USER_FIELDS.get(key, "no field of DSG") for key in fields}
    printer.document("MigratedUserConfig", {"fields": said})
    printer.line(f"# {file} is a user's config. It describes no Repository; nothing of it is needed any more.")
    for key, why in said.items():
        printer.line(f"# {key}: {why}")


def _given(spec: Path | None, settings: list[str], node: str, pool: str) -> dict[str, Any]:
    given: dict[str, Any] = {}
    if spec is not None:
        try:
            raw = yaml.safe_load(_read(spec))
        except yaml.YAMLError as error:
            raise CommandError("Usage", f"--spec {spec} is not YAML: {error}", code=Exit.USAGE) from None
        if not isinstance(raw, dict):
            raise CommandError("Usage", f"--spec {spec} is no mapping of fields", code=Exit.USAGE)
        given = raw
    shorthands = [f"storage.node={node}"] if node else []
    shorthands += [f"storage.pool={pool}"] if pool else []
    for one in (*settings, *shorthands):
        path, equals, value = one.partition("=")
        if not equals or not all(path.split(".")):
            raise CommandError(
                "Usage", f"--set {one}: write FIELD=VALUE, such as --set storage.node=node-a", code=Exit.USAGE
            )
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError:
            raise CommandError("Usage", f"--set {one}: the value is not YAML", code=Exit.USAGE) from None
        at = given
        *above, last = path.split(".")
        for key in above:
            below = at.setdefault(key, {})
            if not isinstance(below, dict):
                raise CommandError("Usage", f"--set {one}: {key} is no mapping", code=Exit.USAGE)
            at = below
        at[last] = parsed
    return given


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise CommandError("ConfigRefused", f"{file} is no text in UTF-8") from None
