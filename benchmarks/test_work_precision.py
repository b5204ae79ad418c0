"""Error against evaluations: every deterministic solver, grids, budgets from 5 to 100, and the adaptive ones.

Two problems whose denoiser is known without error: eight Gaussians on a circle in the plane, and scikit-learn's digits,
smoothed a little (a Gaussian of width 0.1 around each of 1,500 images; around points alone every path ends on some
point, and the error is either nothing or a whole digit). The reference is DOP853 with tolerances of 1e-10, in float64,
down to σ̄ = 1e-5. A sample's error is the root mean square over its pixels; reported are the root mean square over
samples, which a few samples that go to another mode can decide, and the median, which they cannot.
"""

from __future__ import annotations

import json
import math
import statistics
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from rounding import rounded
from work_precision_picture import draw

import flowsolve
from flowsolve.solvers import Multistep, RungeKutta, multistep, zoo

RESULTS = Path(__file__).with_name("results")
PROCESSES: dict[str, flowsolve.Process] = {
    "VP": flowsolve.VP(),
    "cosine": flowsolve.VP.cosine(),
    "EDM": flowsolve.EDM(),
    "flow": flowsolve.RectifiedFlow(),
}
#: Named grids that differ on these processes, which have no table.
GRIDS = ("uniform", "quadratic", "linspace", "karras", "logsnr", "beta", "shifted")
BUDGETS = (5, 7, 10, 14, 20, 30, 50, 100)
TOLERANCES = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 1e-4, 1e-5)
ADAPTIVE = ("adaptive", "dopri5", "bosh3", "dopri8")


def fixed_step() -> dict[str, flowsolve.solvers.Solver]:
    """The zoo's own deterministic solvers with a number of evaluations per step."""
    rows = (r for r in zoo.ROWS if r.family not in ("torchdiffeq", "scipy", "stochastic"))
    return {r.name: r.solver for r in rows if r.solver.evaluations is not None and r.solver.fixed}


class Problem:
    """An exact denoiser on one process, starts, and where they truly end."""

    def __init__(self, name: str, process: str, n: int, quiet: float = 1e-5) -> None:
        p = PROCESSES[process]
        self.name, self.process, self.n = name, process, n
        if name == "mixture":
            angle = torch.arange(8) * (math.pi / 4)
            means = torch.stack([angle.cos(), angle.sin()], 1).double()
        else:
            from flowsolve.models.digits import data

            means = data().train.double()
        self.model = flowsolve.exact.Mixture(p, torch.ones(len(means)), means, 0.01)
        self.end = p.time_of(quiet)
        tolerance = 1e-10 if n > 8 else 1e-5  # a smoke test needs no reference worth the name
        self.truth = flowsolve.sample(self.model, n=n, seed=0, solver="scipy:DOP853", rtol=tolerance, atol=tolerance, span=(None, self.end))

    def errors(self, *, to_end: bool = False, **arguments: Any) -> dict[str, float]:
        """{"nfe", "rms", "median"} of a run; ``to_end`` stops it where the reference stops, else it goes to clean data."""
        span = (None, self.end) if to_end else (None, None)
        run = flowsolve.solve(self.model, n=self.n, seed=0, span=span, **arguments)
        error = (run.x - self.truth).flatten(1).square().mean(1).sqrt()
        return {"nfe": run.nfe, "rms": error.square().mean().sqrt().item(), "median": error.median().item()}


@lru_cache
def problem(name: str, process: str, n: int, quiet: float = 1e-5) -> Problem:
    return Problem(name, process, n, quiet)


def curves(where: Problem, solvers: tuple[str, ...], grids: tuple[str, ...], budgets: tuple[int, ...]) -> dict[str, Any]:
    """{grid: {solver: [errors by budget]}}."""
    table: dict[str, Any] = {g: {s: [] for s in solvers} for g in grids}
    for g, by_solver in table.items():
        for s, points in by_solver.items():
            for nfe in budgets:
                try:
                    points.append(where.errors(solver=s, grid=g, nfe=nfe))
                except ValueError:
                    continue  # the budget does not pay for a step
    return table


def adaptive(where: Problem, tolerances: tuple[float, ...]) -> dict[str, Any]:
    names = [s for s in ADAPTIVE if s in zoo.NAMES]
    return {s: [{"rtol": tol, **where.errors(solver=s, rtol=tol, atol=tol)} for tol in tolerances] for s in names}


def test_work_precision(full: bool) -> None:
    sizes = {"mixture": 256, "digits": 64} if full else {"mixture": 8, "digits": 2}
    solvers = tuple(fixed_step()) if full else ("ddim", "ab2")
    grids, budgets, tolerances = (GRIDS, BUDGETS, TOLERANCES) if full else (("karras",), (5, 10), (1e-1,))
    result: dict[str, Any] = {}
    for name, n in sizes.items():
        where = problem(name, "VP", n)
        result[name] = {"grids": curves(where, solvers, grids, budgets), "adaptive": adaptive(where, tolerances)}
        best = result[name]["grids"]["karras"]
        assert best["ddim"][-1]["median"] < best["ddim"][0]["median"]
    if full:
        for name, parts in result.items():
            print(table_of(name, parts))
        save("work_precision.json", {"process": "VP", "samples": sizes, "problems": result})
        draw(result, RESULTS / "work_precision.png")


def test_one_setting_for_all(full: bool) -> None:
    """Which (solver, grid) is best as a default: errors over the best setting's, as a geometric mean over problems."""
    names = {"mixture": 256, "digits": 48} if full else {"mixture": 8}
    solvers = tuple(fixed_step()) if full else ("ddim", "ab2")
    report: dict[str, Any] = {}
    for nfe in (10, 20) if full else (10,):
        relative: dict[str, dict[str, list[float]]] = {}  # process, setting: one number for each problem and measure
        for process in PROCESSES if full else ("flow",):
            ratios = relative.setdefault(process, {})
            for name, n in names.items():
                grids = curves(problem(name, process, n), solvers, GRIDS if full else GRIDS[:1], (nfe,))
                found = {f"{s}, {g}": points[0] for g, by in grids.items() for s, points in by.items() if points}
                for measure in ("median", "rms"):
                    least = min(point[measure] for point in found.values())
                    for setting, point in found.items():
                        ratios.setdefault(setting, []).append(point[measure] / least)
        settings = relative[next(iter(relative))]
        relative["all"] = {s: [r for by in relative.values() for r in by[s]] for s in settings}
        report[str(nfe)] = {}
        for process, ratios in relative.items():
            means = {s: statistics.geometric_mean(r) for s, r in ratios.items()}
            ranked = sorted(means, key=means.__getitem__)
            report[str(nfe)][process] = {s: {"mean": means[s], "worst": max(ratios[s])} for s in ranked}
            print(f"\nnfe={nfe}, {process}: error in units of the least, geometric mean (worst)")
            print("\n".join(f"  {s:24} {means[s]:6.2f} ({max(ratios[s]):7.2f})" for s in ranked[:8]))
    if full:
        save("settings.json", report)


def test_starts(full: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a Runge-Kutta start of ab3 and ab4 costs or gains against warming up through the lower orders."""
    from flowsolve.run import layout

    monkeypatch.setattr(multistep, "START_FROM", 0)  # always with the starter; the plans in the cache do not know of it
    layout.cache_clear()
    budgets = (5, 8, 10, 15, 20, 40, 80, 160) if full else (12,)
    starters = {3: RungeKutta(flowsolve.solvers.HEUN), 4: RungeKutta(flowsolve.solvers.KUTTA3)}
    report: dict[str, list[float]] = {}
    try:
        for process, grids in {
            "VP": ("uniform", "karras", "logsnr"),
            "EDM": ("karras", "logsnr"),
            "flow": ("uniform", "karras", "logsnr"),
        }.items():
            where = problem("mixture", process, 128 if full else 4, 0.02)
            for grid in grids:
                for order, starter in starters.items():
                    ratios = []
                    for nfe in budgets:
                        plain, started = (
                            where.errors(solver=Multistep(order, starter=s), grid=grid, nfe=nfe, to_end=True)["median"]
                            for s in (None, starter)
                        )
                        ratios.append(started / plain)
                    report[f"ab{order} {process} {grid}"] = ratios
    finally:
        layout.cache_clear()
    if full:
        print("\nmedian error with a Runge-Kutta start over that without, nfe = " + ", ".join(map(str, budgets)))
        for name, ratios in report.items():
            print(f"  {name:20}" + "".join(f"{r:8.2f}" for r in ratios))
        save("starts.json", {"nfe": list(budgets), "ratios": report})


def table_of(name: str, parts: dict[str, Any]) -> str:
    """The table a person reads: median error by budget for each grid and solver, then the adaptive solvers."""
    lines = [f"\n{name}, VP: median error (root mean square error), nfe = {', '.join(map(str, BUDGETS))}"]
    for grid, by_solver in parts["grids"].items():
        for solver, points in by_solver.items():
            cells = "  ".join(f"{p['median']:.1e} ({p['rms']:.1e})" for p in points)
            lines.append(f"  {grid:9} {solver:12} {cells}")
    for solver, points in parts["adaptive"].items():
        cells = "  ".join(f"{p['nfe']}: {p['median']:.1e} ({p['rms']:.1e})" for p in points)
        lines.append(f"  {'-':9} {solver:12} {cells}")
    return "\n".join(lines)


def save(name: str, content: Any) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / name).write_text(json.dumps(rounded(content, 3), separators=(",", ":")).replace('],"', '],\n"') + "\n")
