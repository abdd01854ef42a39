"""What all tests share."""

import os

import pytest
from hypothesis import settings

# A busy machine is no failure: examples may take as long as they take. They are the same every time, so what passes
# on one machine passes on another; `make explore` looks at new ones.
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=2000, print_blob=True)
settings.load_profile("explore" if os.environ.get("DSG_EXPLORE") else "same")


class _ToldAtOnce:
    """Shows each failure when it happens: a run of an hour may be ended before its summary."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if report.failed and terminal is not None:
            terminal.ensure_newline()
            terminal.write_line(report.longreprtext)


def pytest_configure(config: pytest.Config) -> None:
    """Take what `lab.tier` asks for."""
    if os.environ.get("DSG_TELL_AT_ONCE"):
        config.pluginmanager.register(_ToldAtOnce(config))
    if os.environ.get("DSG_LOT_UNTIL"):
        # Not in guests, which get of the tests what they run.
        from tests.lots import asked_for

        config.pluginmanager.register(asked_for())
