"""Which QEMU runs storage nodes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import emulator, system
from lab.emulator import Emulator
from lab.errors import LabError


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Look anew in each test, and after them: a lab must not be given one of theirs."""
    emulator.emulator.cache_clear()
    yield
    emulator.emulator.cache_clear()


def qemu(folder: Path, version: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a QEMU on the path that only tells its version."""
    program = folder / "qemu-system-x86_64"
    program.write_text(f"#!/bin/sh\necho 'QEMU emulator version {version} (Debian)'\n")
    program.chmod(0o755)
    monkeypatch.setattr(system, "SEARCH", str(folder))
    return program


def test_a_quick_one_of_the_machine_is_used_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = qemu(tmp_path, "10.0.2", monkeypatch)
    found = emulator.emulator()
    assert (found.argv, found.major) == ((str(program),), 10)


def test_a_slow_one_serves_where_none_can_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    program = qemu(tmp_path, "7.2.22", monkeypatch)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert emulator.emulator().argv == (str(program),)
    assert "QEMU emulator version 7.2.22 (Debian) is used" in "".join(capfd.readouterr())


def test_where_there_is_none_it_is_said_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "SEARCH", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(LabError, match="apt-get install --no-install-recommends qemu-system-x86"):
        emulator.emulator()


def test_one_that_tells_no_version_is_not_guessed_at() -> None:
    with pytest.raises(LabError, match="does not tell its version"):
        _ = Emulator(("qemu",), "something else").major


def test_one_in_a_folder_of_its_own_takes_its_own_libraries_and_firmware(tmp_path: Path) -> None:
    argv = emulator.in_root(tmp_path)
    assert argv[0] == f"{tmp_path}/lib64/ld-linux-x86-64.so.2"
    assert argv[argv.index("--library-path") + 2] == f"{tmp_path}/usr/bin/qemu-system-x86_64"
    assert all(str(tmp_path) in word for word in argv if word.startswith("/"))
