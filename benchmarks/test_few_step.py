"""Accuracy with few evaluations: every deterministic solver on every grid against diffusers, azula and iPNDM, in one run.

The problems are in few_step_problems.py, the peers in peer_samplers.py, the scores in few_step.py. The setting behind ``auto`` was
chosen on the first set of problems and is checked on the second, with other laws and other processes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import few_step
import pytest
import torch
from few_step_problems import CHECKING, CHOOSING, Problem, end, network_problem, problem, slow_model
from few_step_report import draw, markdown, network_markdown
from rounding import rounded

RESULTS = Path(__file__).with_name("results")
#: Two methods for the reference differ by at most this, far below any error in the tables.
AGREEMENT = 1e-6


@pytest.fixture
def settings() -> list[Any]:
    pytest.importorskip("diffusers")
    pytest.importorskip("azula")
    import peer_settings

    return peer_settings.settings()


def small(law: str, process: str) -> Problem:
    return problem(law, process, n=3, tolerance=1e-7)


def test_reference(full: bool) -> None:
    for law, process in CHOOSING + CHECKING if full else [("mixture", "flow")]:
        where = problem(law, process) if full else small(law, process)
        other = end(where, "scipy:RK45", rtol=1e-9, atol=1e-10)
        assert max(where.errors(other)) < (AGREEMENT if full else 1e-4), (law, process)


def test_law_is_the_library_s() -> None:
    for law in ("mixture", "digits", "random mixture", "rougher images"):
        where = problem(law, "VP", n=2, tolerance=1e-3)
        slow = slow_model(law, where.process)
        for sigma in (0.01, 0.3, 10.0):
            level = where.process.at("sigma", sigma)
            x = slow.draw(3, level=level)
            for fast, exact in zip(where.model(x, level), slow(x, level), strict=True):
                assert torch.allclose(fast, exact, rtol=1e-8, atol=1e-8), (law, sigma)


def test_few_step(full: bool, settings: list[Any]) -> None:
    budgets = few_step.BUDGETS if full else (8,)
    make = problem if full else small
    choosing = [make(law, process) for law, process in (CHOOSING if full else [("mixture", "VP"), ("mixture", "flow")])]
    checking = [make(law, process) for law, process in (CHECKING if full else [("random mixture", "table")])]
    solvers, grids = few_step.solvers(), few_step.grids()
    if not full:
        solvers = {k: v for k, v in solvers.items() if k in ("ddim", "ab2", "etd2")}
        settings = [s for s in settings if str(s) in ("DPM++ 2M, karras", "azula zEAB-3, VESchedule", "iPNDM 3, exponential")]
    result: dict[str, Any] = {"choosing": {}, "checking": {}}
    only: set[str] | None = None
    for nfe in budgets:
        theirs = few_step.peers(choosing, nfe, settings)
        mine = few_step.ours(choosing, nfe, solvers, grids, only)
        only = few_step.promising(mine)
        result["choosing"][nfe] = few_step.compare(mine, theirs, few_step.special(choosing, nfe))
        leaders = few_step.leading(theirs)
        theirs = few_step.peers(checking, nfe, [s for s in settings if str(s) in leaders])
        result["checking"][nfe] = few_step.compare(None, theirs, few_step.special(checking, nfe))
    text = markdown(result)
    print("\n" + text)
    if not full:
        return
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "few_step.json").write_text(json.dumps(rounded(result), indent=1) + "\n")
    (RESULTS / "few_step.md").write_text(text + "\n")
    draw(result, Path(__file__).parents[1] / "docs" / "_static" / "few_step.png")
    for nfe, row in result["choosing"].items():
        assert row["both"]["ours/peers"] <= 1.0, (nfe, row["both"]["ours/peers"])
    for which in ("choosing", "checking"):
        for nfe, row in result[which].items():
            assert row["both"]["auto/single_peer"] <= 0.8, (which, nfe, row["both"]["auto/single_peer"])


def test_few_step_network(full: bool, settings: list[Any]) -> None:
    """One trained network, which nothing was chosen on: ``auto`` against each of the best peers."""
    where = network_problem() if full else network_problem(2, 1e-2)
    names = ("azula zEAB-3, VESchedule", "azula zEAB-3, Karras", "iPNDM 3, exponential", "azula vAB-2, RectifiedSchedule")
    table: dict[int, dict[str, Any]] = {}
    for nfe in few_step.BUDGETS[:-1] if full else (6,):
        runs = few_step.peers([where], nfe, [s for s in settings if str(s) in names])
        found = few_step.special([where], nfe)[where.name, where.process_name] | runs[where.name, where.process_name]
        table[nfe] = {name: few_step.MEASURES["both"](e) for name, e in found.items() if e is not None}
    print("\n" + network_markdown(table))
    if full:
        (RESULTS / "few_step_network.md").write_text(network_markdown(table) + "\n")
