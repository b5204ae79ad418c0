"""Few-step accuracy: which settings are run, how they are scored, and the tables.

A *setting* is a solver and a grid, the same on every problem. A run is scored by two numbers: the
root mean square error over samples, which the few that land on another mode decide, and the median,
which they cannot; where one number is needed it is their geometric mean. Two questions are asked
for each number of evaluations: how good is the best setting on each problem, ours against the
peers', and how good is one setting on all problems.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from statistics import geometric_mean
from typing import Any

import inside
from exact_problems import Errors, Problem

import flowsolve
from flowsolve.grids import Grid, Logistic, Shifted

BUDGETS = (5, 6, 8, 10, 12, 15, 20, 30, 50)
#: {(law, process): {setting: errors}}, for one budget; None where the budget does not pay for a
#: step, or the run leaves all bounds.
Runs = dict[tuple[str, str], dict[str, Errors | None]]
MEASURES: dict[str, Callable[[Errors], float]] = {
    "rmse": lambda e: e[0],
    "median": lambda e: e[1],
    "both": lambda e: math.sqrt(e[0] * e[1]),
}

#: (most evaluations, arguments of a run), the same on every process.
Choice = tuple[tuple[float, dict[str, Any]], ...]
_HELD: dict[str, Any] = {"corrector": None, "finish": False}
#: Nearly as good as ``auto``, with one grid.
AUTO_SIMPLE: Choice = (
    (13, {"solver": "vpc2", "grid": Logistic()}),
    (math.inf, {"solver": "vpc3", "grid": Logistic()}),
)
#: The best found within the rule that a run ends on the x̂0 of its last evaluation.
AUTO_HELD: Choice = (
    (7, {"solver": "vpc2", "grid": Logistic(1.0, 1.75, 1.75), **_HELD}),
    (9, {"solver": "vpc3", "grid": Logistic(1.0, 2.25, 2.25), **_HELD}),
    (14, {"solver": "vpc2", "grid": Logistic(1.0, 2.25, 2.25), "finish": False}),
    (math.inf, {"solver": "vpc3", "grid": Logistic(), "finish": False}),
)


def at(nfe: int, table: Choice) -> dict[str, Any]:
    return next(arguments for most, arguments in table if nfe <= most)


def grids() -> dict[str, Grid]:
    """The named grids, each once, and some values of their parameters."""
    return inside.grids() | {
        "shifted, shift=1/3": Shifted(1 / 3),
        "logistic, 0.7, 1.75, 2": Logistic(0.7, 1.75, 2.0),
    }


def errors(where: Problem, nfe: int | None, **arguments: Any) -> Errors | None:
    try:
        run = flowsolve.solve(where.model, nfe=nfe, start=where.start, **arguments)
    except (ValueError, flowsolve.NonFiniteError):  # the budget is too small; or it blows up
        return None
    assert nfe is None or run.nfe <= nfe
    found = where.errors(run.x)
    return found if all(map(math.isfinite, found)) else None


def ours(
    problems: Sequence[Problem],
    nfe: int,
    only: set[str] | None = None,
    solvers: Sequence[str] | None = None,
) -> Runs:
    """Every deterministic solver on every grid, or ``only`` some, on problems of one process; grids
    that lay out the same levels are run once, under their first name."""
    process, on = problems[0].process, grids()
    levels = {
        name: tuple(round(level.t, 12) for level in grid.levels(process, nfe))
        for name, grid in on.items()
    }
    runs: Runs = {(p.name, p.process_name): {} for p in problems}
    for solver_name, solver in inside.deterministic().items():
        if solvers is not None and solver_name not in solvers:
            continue
        known: dict[Any, str] = {}
        for grid_name, grid in on.items():
            name = f"{solver_name}; {grid_name}"
            if only is not None and name not in only:
                continue
            same = known.setdefault(levels[grid_name], name)
            for p in problems:  # one plan serves them all
                row = runs[p.name, p.process_name]
                row[name] = row[same] if same in row else errors(p, nfe, solver=solver, grid=grid)
    return runs


def promising(runs: Runs, factor: float = 3.0) -> set[str]:
    """Settings that come within ``factor`` of the best somewhere, or that the budget was too small
    for: worth a larger one."""
    kept: set[str] = set()
    for row in runs.values():
        limit = factor * min(MEASURES["both"](e) for e in row.values() if e is not None)
        kept |= {name for name, e in row.items() if e is None or MEASURES["both"](e) <= limit}
    return kept


def peers(problems: Sequence[Problem], nfe: int, names: Iterable[str] | None = None) -> Runs:
    """The settings of the peers, or those of some names."""
    import peer_runs
    import peer_settings

    wanted = None if names is None else set(names)
    settings = [s for s in peer_settings.settings() if wanted is None or str(s) in wanted]
    return {
        (p.name, p.process_name): {str(s): peer_runs.errors(s, p, nfe) for s in settings}
        for p in problems
    }


#: What is looked at on its own.
SPECIAL = ("auto", "auto, one grid", "auto, held", "default")


def special(problems: Sequence[Problem], nfe: int) -> Runs:
    """``auto``, and what one gets without a word."""
    runs: Runs = {(p.name, p.process_name): {} for p in problems}
    for p in problems:
        runs[p.name, p.process_name] = {
            "auto": errors(p, nfe, solver="auto"),
            "auto, one grid": errors(p, nfe, **at(nfe, AUTO_SIMPLE)),
            "auto, held": errors(p, nfe, **at(nfe, AUTO_HELD)),
            "default": errors(p, nfe, solver="ab3"),
        }
    return runs


def best(runs: Runs, measure: str) -> dict[tuple[str, str], tuple[float, str]]:
    """The least error on each problem, and whose it is."""
    of = MEASURES[measure]
    return {
        where: min((of(e), name) for name, e in row.items() if e is not None)
        for where, row in runs.items()
    }


def everywhere(runs: Runs, measure: str) -> list[tuple[float, str]]:
    """Settings that run on every problem by the geometric mean of their errors, the best first."""
    of, rows = MEASURES[measure], list(runs.values())
    names = set(rows[0]).intersection(*rows[1:])
    found = []
    for name in names:
        each = [row[name] for row in rows]
        if all(e is not None for e in each):
            found.append((geometric_mean(of(e) for e in each if e is not None), name))
    return sorted(found)


def leading(runs: Runs, factor: float = 2.5) -> set[str]:
    """Settings within ``factor`` of the best single one by any measure: the rest cannot be the best
    single one of a like set."""
    kept: set[str] = set()
    for measure in MEASURES:
        ranked = everywhere(runs, measure)
        kept |= {name for e, name in ranked if e <= factor * ranked[0][0]}
    return kept


def compare(mine: Runs | None, theirs: Runs, chosen: Runs) -> dict[str, Any]:
    """One budget's row of the tables, for each measure."""
    row: dict[str, Any] = {}
    for measure in MEASURES:
        their_best, single = best(theirs, measure), everywhere(theirs, measure)
        part: dict[str, Any] = {
            "peers_best": geometric_mean(e for e, _ in their_best.values()),
            "single_peer": single[0][0],
            "single_peer_name": single[0][1],
            "single_peers": [[name, e] for e, name in single[:5]],
        }
        for name in SPECIAL:
            part[name] = dict((b, a) for a, b in everywhere(chosen, measure))[name]
            part[f"{name}/single_peer"] = part[name] / part["single_peer"]
        if mine is not None:
            my_best, my_single = best(mine, measure), everywhere(mine, measure)
            part["ours_best"] = geometric_mean(e for e, _ in my_best.values())
            part["ours/peers"] = part["ours_best"] / part["peers_best"]
            part["single_ours"] = [[name, e] for e, name in my_single[:5]]
            part["problems"] = {
                f"{law}, {process}": {
                    "ours": my_best[law, process],
                    "peers": their_best[law, process],
                }
                for law, process in theirs
            }
        row[measure] = part
    return row
