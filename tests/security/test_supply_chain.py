"""Licences of what is shipped, and what an answer of a vulnerability service is taken for."""

from __future__ import annotations

import re
from importlib.metadata import Distribution, distribution

import pytest
from packaging.requirements import Requirement

from lab.supply_chain import NONE_FOUND, NOT_KNOWN, VULNERABLE, verdict

FREE = frozenset(
    {
        "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "MIT-0", "PSF-2.0",
    }
)  # fmt: skip
"""Licences, by SPDX identifier, under which anything may be installed beside anything."""
WEAK = frozenset({"MPL-2.0"})
"""Copyleft of single files: of no consequence to who uses them unchanged. On storage nodes only."""
OLD_NAMES = {
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: BSD License": "BSD-3-Clause",
    "License :: OSI Approved :: ISC License (ISCL)": "ISC",
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "License :: OSI Approved :: Python Software Foundation License": "PSF-2.0",
}
"""Classifiers, which packages had before there were expressions (PEP 639)."""
IN_WORDS = {"3-Clause BSD License": "BSD-3-Clause", "MIT style": "MIT", "BSD": "BSD-3-Clause"}
"""What packages with neither say."""


def closure(name: str, extra: str = "") -> set[str]:
    """Return what is installed with a package on this platform, itself left out."""
    found: set[str] = set()
    waiting = [(name, extra)]
    seen: set[tuple[str, str]] = set()
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        for text in distribution(one[0]).requires or []:
            wanted = Requirement(text)
            if wanted.marker is not None and not wanted.marker.evaluate({"extra": one[1]}):
                continue
            found.add(wanted.name)
            waiting += [(wanted.name, part) for part in ("", *wanted.extras)]
    return found


def _parts(expression: str) -> list[set[str]]:
    assert not re.search(r"\bWITH\b", expression), expression
    plain = expression.replace("(", "").replace(")", "")
    return [set(part.split(" OR ")) for part in plain.split(" AND ")]


def licences(package: Distribution) -> list[set[str]]:
    """Return a package's licences: each set one that must be fulfilled, its members alternatives."""
    metadata = package.metadata
    if "License-Expression" in metadata:
        return _parts(metadata["License-Expression"])
    classifiers = [c for c in metadata.get_all("Classifier") or [] if c.startswith("License ::")]
    # Several classifiers are alternatives or parts, nobody says which: all must be fine.
    if named := [{OLD_NAMES.get(c, c)} for c in classifiers if c != "License :: OSI Approved"]:
        return named
    said = metadata["License"].strip() if "License" in metadata else "none stated"
    return _parts(IN_WORDS.get(said, said))


def not_allowed(packages: set[str], allowed: frozenset[str]) -> dict[str, list[set[str]]]:
    found = {name: licences(distribution(name)) for name in packages}
    return {name: parts for name, parts in found.items() if not all(part & allowed for part in parts)}


def test_a_researchers_machine_gets_nothing_under_a_copyleft_licence() -> None:
    packages = closure("dsg")
    assert {"pydantic", "typer", "blake3", "urllib3", "cryptography", "pydantic-core", "cffi"} <= packages
    assert not_allowed(packages, FREE) == {}


def test_a_storage_node_gets_nothing_under_a_strong_copyleft_licence() -> None:
    packages = closure("dsg", "operator")
    assert {"kopf", "kubernetes", "aiohttp", "structlog"} <= packages
    assert not_allowed(packages, FREE | WEAK) == {}


def test_a_copyleft_licence_would_be_found() -> None:
    assert not_allowed({"hypothesis"}, FREE) == {"hypothesis": [{"MPL-2.0"}]}


GOOD = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "CVE-2"}, {"id": "CVE-1"}]}
SKIPPED = {"name": "c", "skip_reason": "not found"}
OWN = {"name": "dsg", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("packages", "code"),
    [
        ([GOOD, OWN], NONE_FOUND),
        ([GOOD, BAD], VULNERABLE),
        ([BAD, SKIPPED], VULNERABLE),
        ([GOOD, SKIPPED], NOT_KNOWN),
        ([OWN], NOT_KNOWN),
        ([], NOT_KNOWN),
    ],
)
def test_silence_is_not_taken_for_none_found(packages: list[dict[str, object]], code: int) -> None:
    assert verdict({"dependencies": packages}).exit_code == code


def test_vulnerabilities_are_named() -> None:
    assert verdict({"dependencies": [GOOD, BAD]}).vulnerable == ("b 2: CVE-1, CVE-2",)
