"""`kubectl dsg version`."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version

from dsg.api.names import API_VERSION as RESOURCES
from dsg.plugin.exits import guarded
from dsg.plugin.options import OutputOption
from dsg.plugin.output import API_VERSION, Format, Output


def installed() -> str:
    """Return the version of this package; `unknown` when it was not installed as one."""
    try:
        return installed_version("dsg")
    except PackageNotFoundError:
        return "unknown"


@guarded
def version(output: OutputOption = Format.TEXT) -> None:
    """Print the version."""
    printer = Output(output)
    printer.document(
        "Version",
        {"version": installed(), "resources": RESOURCES, "documents": API_VERSION, "python": platform.python_version()},
    )
    printer.line(installed())
