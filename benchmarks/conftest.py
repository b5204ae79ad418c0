"""The benchmarks' reporting: a line for each on the terminal as it goes, whatever is captured, and
one table at the end."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from report import Report

HERE = Path(__file__).parent
REPORT = pytest.StashKey[Report]()
PLACES = pytest.StashKey[dict[str, str]]()


def pytest_configure(config: pytest.Config) -> None:
    def say(line: str) -> None:
        terminal = config.pluginmanager.get_plugin("terminalreporter")
        capture = config.pluginmanager.get_plugin("capturemanager")
        if terminal is None or capture is None:
            return
        with capture.global_and_fixture_disabled():
            terminal.ensure_newline()
            terminal.write_line(line)

    config.stash[REPORT] = Report(bool(config.getoption("--benchmark")), say)


def pytest_collection_finish(session: pytest.Session) -> None:
    here = [item.nodeid for item in session.items if HERE in item.path.parents]
    width = len(str(len(here)))
    session.config.stash[PLACES] = {
        name: f"[{k:{width}}/{len(here)}]" for k, name in enumerate(here, 1)
    }


def pytest_runtest_setup(item: pytest.Item) -> None:
    report = item.config.stash[REPORT]
    report.place = item.config.stash[PLACES][item.nodeid]
    said = inspect.getdoc(getattr(item, "function", None)) or item.name
    report.doing(said.split("\n\n")[0].replace("\n", " "))


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    """Where a benchmark puts what it finds."""
    return request.config.stash[REPORT]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    report = config.stash[REPORT]
    if not report.rows and not report.files:
        return
    terminalreporter.section("benchmarks: medians of rounds, spreads from least to most")
    for line in report.table():
        terminalreporter.write_line(line)
    terminalreporter.write_line("written:")
    for path in report.files:
        terminalreporter.write_line(f"  {path.relative_to(config.rootpath)}")
