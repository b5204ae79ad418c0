"""Sweeps: big parametrisations of which a run takes a sample, another each time.

``@pytest.mark.sweep(keep=0.2)`` keeps a fifth of a function's items, ``keep=30`` thirty of them: in
the sample every value of every parameter comes up, as far as the size allows. The rest is
deselected, and so is what is marked ``slow`` or ``late``. The header names the seed that draws the
same sample again: ``--sweep-seed=N``. What is asked for by node id, with ``-k`` or with ``--lf``
runs whole. ``--late`` runs what is marked so and nothing else.

``--full`` runs everything and writes what came of it to ``tests/full.json``, file by file, with a
hash of the code; tests/test_full.py holds the two together.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import random
import re
import subprocess
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
FULL = HERE / "full.json"
#: Functions that are sampled or left out, of the files that were collected.
RARE = pytest.StashKey[dict[str, set[str]]]()


# How much of a sweep a quick run takes, and which tests it leaves out, changes nothing of what a
# full run did: these lines are no part of the hash. (A function that becomes one of the sweeps has
# no row in the results yet, which tests/test_full.py finds.)
MARKS = re.compile(r"^[ \t]*@pytest\.mark\.(slow|late|sweep\(keep=[\d.]+\))\n", re.MULTILINE)
SIZE = re.compile(r"(mark\.sweep\(keep=)[\d.]+")


def code(file: str) -> str:
    """A hash of what a file's sweeps are: its text, and that of the problems they share."""
    text = SIZE.sub(r"\1", MARKS.sub("", (HERE / file).read_text(encoding="utf-8")))
    shared = (HERE / "problems.py").read_text(encoding="utf-8")
    return hashlib.sha256((text + shared).encode()).hexdigest()


def sample(items: list[pytest.Item], keep: float | int, draw: random.Random) -> list[pytest.Item]:
    """``keep`` of the items, or that part of them: first those that show a value not seen yet."""
    size = keep if isinstance(keep, int) else math.ceil(keep * len(items))
    kept, left, seen = [], [], set()
    for item in draw.sample(items, len(items)):
        values = {(name, repr(value)) for name, value in item.callspec.params.items()}  # type: ignore[attr-defined]
        (left if values <= seen else kept).append(item)
        seen |= values
    return [*kept, *left][:size]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("sweeps")
    group.addoption(
        "--sweep-seed", type=int, metavar="N", help="draws the sample of each sweep; else the clock"
    )
    group.addoption("--late", action="store_true", help="only what is marked so, for .ci/run")
    group.addoption(
        "--full", action="store_true", help="whole sweeps and slow tests; writes tests/full.json"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if config.option.sweep_seed is None:
        drawn = time.time_ns() // 1_000_000 % 1_000_000
        config.option.sweep_seed = getattr(config, "workerinput", {}).get("sweep_seed", drawn)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """A process of xdist draws what the others draw."""
    node.workerinput["sweep_seed"] = node.config.option.sweep_seed


def whole(config: pytest.Config) -> bool:
    """Whether no sample is drawn: everything, or something in particular, is asked for."""
    option = config.option
    named = option.keyword or getattr(option, "lf", False) or any("::" in a for a in config.args)
    return bool(option.full or named)


def how(config: pytest.Config) -> str:
    return (
        "whole" if whole(config) else f"a sample of each; --sweep-seed={config.option.sweep_seed}"
    )


def pytest_report_header(config: pytest.Config) -> str:
    return f"sweeps: {how(config)}"


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if terminalreporter.stats.get("failed"):
        terminalreporter.write_line(f"sweeps: {how(config)}")
    reports = (report for every in terminalreporter.stats.values() for report in every)
    tried = [
        value
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == "tried" and report.when == "call"
    ]
    if tried:
        from fuzzing import summary

        for line in summary(tried):
            terminalreporter.write_line(line)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    sweeps: dict[str, list[pytest.Item]] = defaultdict(list)
    left_out: set[pytest.Item] = set()
    rare: dict[str, set[str]] = defaultdict(set)
    for item in items:
        slow, sweep = item.get_closest_marker("slow"), item.get_closest_marker("sweep")
        function, late = item.nodeid.split("[")[0], bool(item.get_closest_marker("late"))
        if slow or sweep:
            rare[item.path.name].add(function.split("::", 1)[1])
        if slow or late is not config.option.late:
            left_out.add(item)
        elif sweep:
            sweeps[function].append(item)
    config.stash[RARE] = dict(rare)
    if whole(config):
        return
    for function, members in sweeps.items():
        keep = members[0].get_closest_marker("sweep").kwargs["keep"]  # type: ignore[union-attr]
        draw = random.Random(f"{config.option.sweep_seed} {function}")
        left_out |= {*members} - {*sample(members, keep, draw)}
    config.hook.pytest_deselected(items=[item for item in items if item in left_out])
    items[:] = [item for item in items if item not in left_out]


class Results:
    """What came of the sweeps of a full run, for :data:`FULL`."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
        self.rare: set[tuple[str, str]] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        path, function = report.nodeid.split("[")[0].split("::", 1)
        nothing = {"passed": 0, "failed": 0, "skipped": 0, "seconds": 0.0}
        row = self.files[Path(path).name].setdefault(function, nothing)
        row["seconds"] += report.duration
        if report.when == "call" or not report.passed:
            row[report.outcome] += 1
        if {"sweep", "slow"} & {*report.keywords}:  # a process that died tells no keywords
            self.rare.add((Path(path).name, function))

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        # All passed, or some failed; a run that was cut short says nothing.
        if exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            write(
                {
                    file: {
                        function: {**row, "seconds": round(row["seconds"], 1)}
                        for function, row in sorted(functions.items())
                        if (file, function) in self.rare
                    }
                    for file, functions in self.files.items()
                }
            )


def pytest_sessionstart(session: pytest.Session) -> None:
    config, option = session.config, session.config.option
    part = option.keyword or option.markexpr or any("::" in a for a in config.args)
    cut = option.collectonly or option.maxfail or getattr(option, "lf", False)
    if option.full and not (part or cut or hasattr(config, "workerinput")):
        config.pluginmanager.register(Results())


def write(files: dict[str, dict[str, dict[str, Any]]]) -> None:
    """The results of these files beside those of the others, which stay."""
    import torch

    git = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=HERE, capture_output=True, text=True, check=False
    )
    run = {
        "commit": git.stdout.strip() or None,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    kept = json.loads(FULL.read_text()) if FULL.exists() else {}
    for name, sweeps in files.items():
        kept[name] = {**run, "code": code(name), "sweeps": sweeps} if sweeps else {}
    kept = {name: of for name, of in sorted(kept.items()) if of and (HERE / name).exists()}
    FULL.write_text(json.dumps(kept, indent=1) + "\n")
