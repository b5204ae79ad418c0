"""Accuracy with few evaluations: every deterministic solver on every grid against diffusers, azula
and iPNDM.

The problems are in exact_problems.py, the peers in peer_settings.py, the scores in few_step.py. The
setting behind ``auto`` was chosen on the first set of problems and is checked on the second, with
other laws and other processes. Nothing here is a time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import few_step
import pictures
import pytest
import torch
from exact_problems import (
    CHECKING,
    CHOOSING,
    PROCESSES,
    Problem,
    end,
    library_model,
    network_problem,
    problem,
)
from few_step_report import markdown, network_markdown
from report import Report
from workers import gather, workers

#: Two methods for the reference differ by at most this, far below any error in the tables.
AGREEMENT = 1e-6
#: The most that the errors may be, in the best of the peers'.
BEST, AUTO = 1.0, 0.8
SMALL_SOLVERS = ("ddim", "ab2", "etd2")
SMALL_PEERS = ("DPM++ 2M, karras", "azula zEAB-3, VESchedule", "iPNDM 3, exponential")
NETWORK_PEERS = (
    "azula zEAB-3, VESchedule",
    "azula zEAB-3, Karras",
    "iPNDM 3, exponential",
    "azula vAB-2, RectifiedSchedule",
)


@pytest.fixture
def installed() -> None:
    pytest.importorskip("diffusers")
    pytest.importorskip("azula")


def small(law: str, process: str) -> Problem:
    return problem(law, process, n=3, tolerance=1e-7)


def disagreement(where: Problem) -> float:
    return max(where.errors(end(where, "scipy:RK45", rtol=1e-9, atol=1e-10)))


def by_process(problems: Iterable[Problem]) -> list[list[Problem]]:
    found: dict[str, list[Problem]] = {}
    for p in problems:
        found.setdefault(p.process_name, []).append(p)
    return list(found.values())


def merged(parts: Iterable[few_step.Runs]) -> few_step.Runs:
    return {where: row for part in parts for where, row in part.items()}


def test_law_is_the_library_s() -> None:
    """The problems' denoisers against the library's own."""
    for law in ("mixture", "digits", "random mixture", "rougher images"):
        where = problem(law, "VP", n=2, tolerance=1e-3)
        slow = library_model(law, PROCESSES["VP"])
        for sigma in (0.01, 0.3, 10.0):
            level = where.process.at("sigma", sigma)
            x = slow.draw(3, level=level)
            for fast, exact in zip(where.model(x, level), slow(x, level), strict=True):
                assert torch.allclose(fast, exact, rtol=1e-8, atol=1e-8), (law, sigma)


def test_few_step(full: bool, installed: None, report: Report) -> None:
    """Few evaluations: the error of every setting, ours and the peers'."""
    sets = {
        "choosing": CHOOSING if full else [("mixture", "VP"), ("mixture", "flow")],
        "checking": CHECKING if full else [("random mixture", "table")],
    }
    result: dict[str, dict[int, Any]] = {"choosing": {}, "checking": {}}
    with workers(report) as submit:
        # The largest first, so that the last one is a short one.
        pairs = sorted({p for pairs in sets.values() for p in pairs}, key=_size, reverse=True)
        make = problem if full else small
        made = gather(report, "references", [submit(make, *pair) for pair in pairs])
        known = dict(zip(pairs, made, strict=True))
        apart = gather(report, "references again", [submit(disagreement, p) for p in made])
        assert max(apart) < (AGREEMENT if full else 1e-4), dict(zip(pairs, apart, strict=True))
        choosing, checking = ([known[p] for p in pairs] for pairs in sets.values())
        only: set[str] | None = None
        solvers, names = (None, None) if full else (SMALL_SOLVERS, SMALL_PEERS)
        for nfe in few_step.BUDGETS if full else (8,):
            parts = by_process(choosing)
            theirs = [submit(few_step.peers, part, nfe, names) for part in parts]
            mine = [submit(few_step.ours, part, nfe, only, solvers) for part in parts]
            found = gather(report, f"{nfe} evaluations", [*theirs, *mine])
            peers, own = merged(found[: len(parts)]), merged(found[len(parts) :])
            only = few_step.promising(own)
            result["choosing"][nfe] = few_step.compare(own, peers, few_step.special(choosing, nfe))
            leaders = few_step.leading(peers)
            again = [submit(few_step.peers, p, nfe, leaders) for p in by_process(checking)]
            peers = merged(gather(report, f"{nfe} evaluations, checked", again))
            result["checking"][nfe] = few_step.compare(None, peers, few_step.special(checking, nfe))
    report.save("few_step.json", result)
    report.save("few_step.md", markdown(result))
    if full:
        pictures.few_step(result, report.file("few_step.png"))
    judge(result, report)


def _size(pair: tuple[str, str]) -> tuple[bool, tuple[str, str]]:
    return "images" in pair[0], pair


def judge(result: dict[str, dict[int, Any]], report: Report) -> None:
    """The worst of all budgets against what was set. Errors are exact, so this is asserted."""
    rows = {"our best setting / the peers' best, worst budget": ("choosing", "ours/peers", BEST)}
    for which in result:
        rows[f"auto / the best single peer, {which}, worst budget"] = (
            which,
            "auto/single_peer",
            AUTO,
        )
    over: dict[str, float] = {}
    for name, (which, key, most) in rows.items():
        worst = max(row["both"][key] for row in result[which].values())
        report.row(name, worst, most)
        if worst > most:
            over[name] = worst
    assert not over or not report.full, over


def test_few_step_network(full: bool, installed: None, report: Report) -> None:
    """One trained network, which nothing was chosen on: ``auto`` against each of the best peers."""
    where = network_problem() if full else network_problem(2, 1e-2)
    table: dict[int, dict[str, Any]] = {}
    for nfe in few_step.BUDGETS[:-1] if full else (6,):
        report.doing(f"{nfe} evaluations")
        key = where.name, where.process_name
        found = few_step.special([where], nfe)[key]
        found |= few_step.peers([where], nfe, NETWORK_PEERS)[key]
        table[nfe] = {
            name: few_step.MEASURES["both"](e) for name, e in found.items() if e is not None
        }
        best = min(table[nfe][name] for name in NETWORK_PEERS)
        name = f"auto / the best of {len(NETWORK_PEERS)} peers, network, {nfe} evaluations"
        report.row(name, table[nfe]["auto"] / best)
    report.save("few_step_network.md", network_markdown(table))
