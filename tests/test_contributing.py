"""CONTRIBUTING to the letter: what its blocks define is tested on arrival.

The blocks are one plugin of another pytest, loaded before it collects: whoever adds a solver, a
process, a prediction or a grid edits no list.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

TESTS = Path(__file__).parent
TEXT = (TESTS.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
#: Where each is to turn up by itself, and how often at least.
FOUND = {
    "ssp3": {"test_zoo": 20, "test_orders": 6, "test_gddim_solvers": 10, "test_gddim_orders": 2},
    "flow_two_step": {"test_zoo": 20, "test_orders": 6, "test_gddim_solvers": 6},
    "trigonometric": {"test_zoo": 50, "test_processes": 1, "test_denoiser": 8, "test_grids": 12},
    "added_noise": {"test_plan": 50, "test_denoiser": 9, "test_training": 1},
    "power_law": {"test_grids": 9, "test_gddim_solvers": 2},
}


#: The end of the plugin: it tells what the tests' files have of each newcomer, and of each function
#: runs one item of each, unless everything is asked for.
FEW = """
import json, random
import pytest

@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    found, few = {{}}, {{}}
    for item in random.Random(config.option.sweep_seed).sample(items, len(items)):
        for name in {names}:
            if name in item.name:
                found.setdefault(name, {{}}).setdefault(item.path.stem, []).append(item.name)
                few.setdefault((name, item.nodeid.split("[")[0]), item)
    with open({file!r}, "w") as file:
        json.dump(found, file)
    if not {full}:
        items[:] = [item for item in items if item in {{*few.values()}}]
"""


def run(folder: Path, last: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "newcomers.py").write_text("\n\n".join([*BLOCKS, last]), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "newcomers", "-q", "-p", "no:cacheprovider"]
    environment = {"PYTHONPATH": f"{folder}:{TESTS.parent}", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        [*command, "-p", "timeout", *arguments],
        cwd=TESTS.parent,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


@pytest.mark.late
@pytest.mark.timeout(600)
def test_the_zoo_s_tests_find_what_is_defined(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    files = [str(TESTS / f"{name}.py") for name in sorted({n for v in FOUND.values() for n in v})]
    report, found = tmp_path / "report.xml", tmp_path / "found.json"
    option, only = request.config.option, " or ".join(FOUND)
    few = FEW.format(names=[*FOUND], file=str(found), full=option.full)
    how = ["-k", f"({only}) and not readme and not cuda", f"--sweep-seed={option.sweep_seed}"]
    done = run(tmp_path, few, *files, *how, f"--junitxml={report}")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    there = json.loads(found.read_text())
    missing = {
        (name, file): there[name].get(file, [])
        for name, places in FOUND.items()
        for file, least in places.items()
        if len(there[name].get(file, [])) < least
    }
    assert not missing
    passed = {
        (name, case.attrib["classname"].split(".")[-1])
        for case in ElementTree.parse(report).iter("testcase")
        for name in FOUND
        if case.find("skipped") is None and name in case.attrib["name"]
    }
    assert passed >= {(name, file) for name, places in FOUND.items() for file in places}


MINE = """
import flowsolve, torch

def of(process, predicts, answer):
    law = flowsolve.exact.Gaussian(process, torch.zeros(1, 4, 4), 0.3)
    net = lambda x, t: answer(law, x, process.level(float(t[0])))
    return flowsolve.Denoiser(net, process, predicts, (1, 4, 4), time="t", dtype=torch.float64)

def noise():
    return of(flowsolve.VP(), "added_noise", lambda law, x, level: level.R @ law(x, level).eps)

def data():
    return of(Trigonometric(), "x0", lambda law, x, level: law(x, level).x0)
"""


@pytest.mark.late
@pytest.mark.parametrize(
    ("model", "solver", "grid"),
    [("noise", "ssp3", "power_law(power=2)"), ("data", "flow_two_step", "power_law")],
)
def test_they_are_known_to_the_command_line(model, solver, grid, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("\n\n".join([*BLOCKS, MINE]), encoding="utf-8")
    command = [sys.executable, "-m", "flowsolve", "sample", "--model", f"mine.py:{model}"]
    options = ["-n", "4", "--solver", solver, "--grid", grid, "--nfe", "9", "-o", "x.png"]
    done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "9 evaluations, 4 samples" in done.stdout and (tmp_path / "x.png").stat().st_size > 100


@pytest.mark.late
def test_they_are_found_as_files_of_the_library(tmp_path: Path) -> None:
    """In a copy of the package, none of whose other files is edited."""
    package = tmp_path / "flowsolve"
    shutil.copytree(TESTS.parent / "flowsolve", package)
    _, rule, process, _, grid = BLOCKS
    for folder, block in (("solvers", rule), ("processes", process), ("grids", grid)):
        (package / folder / "newcomer.py").write_text(block, encoding="utf-8")
    script = (
        "import flowsolve\n"
        "assert str(flowsolve.__file__).startswith('" + str(tmp_path) + "')\n"
        "assert 'flow_two_step' in {row.name for row in flowsolve.solver_table()}\n"
        "process = flowsolve.processes.examples()['trigonometric']\n"
        "print(flowsolve.plan('flow_two_step', process, nfe=4, grid='power_law(power=2)').nfe)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "4", done.stderr


def test_blocks_are_short() -> None:
    assert len(BLOCKS) == 5
    assert max(len(block.strip().splitlines()) for block in BLOCKS) <= 25
