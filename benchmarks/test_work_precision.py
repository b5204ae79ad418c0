"""Error against evaluations: DDIM, the Runge-Kutta and the Adams-Bashforth methods on every named
grid, budgets from 5 to 100, and the adaptive solvers.

Two problems whose denoiser is known without error: eight Gaussians on a circle in the plane, and
1,500 of scikit-learn's digits, smoothed a little. Nothing here is a time.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import inside
import pictures
from exact_problems import PROCESSES, Problem, errors, path_to, problem
from report import Report
from workers import gather, workers

import flowsolve
from flowsolve.solvers import HEUN, KUTTA3, Multistep, Polynomial, RungeKutta, Starter

SOLVERS = ("ddim", "heun", "midpoint", "ralston", "kutta3", "rk4", "ab2", "ab3", "ab4")
#: Named grids that differ on these processes, which have no table.
GRIDS = ("uniform", "quadratic", "linspace", "karras", "logsnr", "beta", "shifted")
BUDGETS = (5, 7, 10, 14, 20, 30, 50, 100)
TOLERANCES = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 1e-4, 1e-5)
ADAPTIVE = ("dopri5", "bosh3", "dopri8")
#: What the summary shows of all this.
SHOWN = ("ab3", "quadratic", 20)
LAWS = ("circle", "1500 digits")
FOUR = ("VP", "cosine", "EDM", "flow")
STARTS = {
    "VP": ("uniform", "karras", "logsnr"),
    "EDM": ("karras", "logsnr"),
    "flow": ("uniform", "karras", "logsnr"),
}
#: Where the comparison of starts ends.
STARTS_END = 0.02


def point(where: Problem, **arguments: Any) -> dict[str, float]:
    """{"nfe", "rms", "median"} of a run to clean data."""
    run = flowsolve.solve(where.model, start=where.start, **arguments)
    rms, median = where.errors(run.x)
    return {"nfe": run.nfe, "rms": rms, "median": median}


def curves(
    where: Problem, solvers: Sequence[str], grids: Sequence[str], budgets: Sequence[int]
) -> dict[str, Any]:
    """{grid: {solver: [errors by budget]}}."""
    table: dict[str, Any] = {g: {s: [] for s in solvers} for g in grids}
    for g, by_solver in table.items():
        for s, points in by_solver.items():
            for nfe in budgets:
                try:
                    points.append(point(where, solver=s, grid=g, nfe=nfe))
                except ValueError:
                    continue  # the budget does not pay for a step
    return table


def adaptive(where: Problem, tolerances: Sequence[float]) -> dict[str, Any]:
    return {
        s: [{"rtol": tol, **point(where, solver=s, rtol=tol, atol=tol)} for tol in tolerances]
        for s in ADAPTIVE
    }


def made(law: str, process: str, full: bool) -> Problem:
    return problem(law, process) if full else problem(law, process, 3, 1e-5)


def _budgets(law: str, grid: str, full: bool) -> dict[str, Any]:
    solvers, budgets = (SOLVERS, BUDGETS) if full else (("ddim", "ab2"), (5, 10))
    return curves(made(law, "VP", full), solvers, (grid,), budgets)


def _tolerances(law: str, full: bool) -> dict[str, Any]:
    return adaptive(made(law, "VP", full), TOLERANCES if full else TOLERANCES[:1])


def test_work_precision(full: bool, report: Report) -> None:
    """Error against evaluations on VP, by solver and grid."""
    grids = GRIDS if full else ("karras",)
    result: dict[str, Any] = {}
    with workers(report) as submit:
        for law in LAWS:
            jobs = [submit(_budgets, law, grid, full) for grid in grids]
            jobs.append(submit(_tolerances, law, full))
            *by_grid, by_tolerance = gather(report, law, jobs)
            merged = {grid: by for found in by_grid for grid, by in found.items()}
            result[law] = {"grids": merged, "adaptive": by_tolerance}
            best = merged["karras"]["ddim"]
            assert best[-1]["median"] < best[0]["median"]
            solver, grid, nfe = SHOWN
            for p in merged.get(grid, {}).get(solver, []):
                if p["nfe"] == nfe:
                    name = f"median error, {solver} on {grid}, {nfe} evaluations, {law}"
                    report.row(name, p["median"])
    report.save("work_precision.json", {"process": "VP", "problems": result}, digits=3)
    if full:
        pictures.work_precision(result, report.file("work_precision.png"))


def _settings(law: str, process: str, nfe: int, full: bool) -> dict[str, dict[str, float]]:
    """{"solver, grid": errors}."""
    solvers, grids = (SOLVERS, GRIDS) if full else (("ddim", "ab2"), GRIDS[:1])
    table = curves(made(law, process, full), solvers, grids, (nfe,))
    return {f"{s}, {g}": found[0] for g, by in table.items() for s, found in by.items() if found}


def test_one_setting_for_all(full: bool, report: Report) -> None:
    """Which solver and grid is best as a default: errors over the best setting's, as a geometric
    mean over problems."""
    laws, processes = (LAWS, FOUR) if full else (LAWS[:1], ("flow",))
    result: dict[str, Any] = {}
    with workers(report) as submit:
        for nfe in (10, 20) if full else (10,):
            pairs = [(law, process) for process in processes for law in laws]
            jobs = [submit(_settings, *pair, nfe, full) for pair in pairs]
            relative: dict[str, dict[str, list[float]]] = {process: {} for process in processes}
            found = gather(report, f"{nfe} evaluations", jobs)
            for (_, process), points in zip(pairs, found, strict=True):
                for measure in ("median", "rms"):
                    least = min(p[measure] for p in points.values())
                    for setting, p in points.items():
                        ratios = relative[process].setdefault(setting, [])
                        ratios.append(p[measure] / least)
            settings = relative[processes[0]]
            relative["all"] = {s: [r for by in relative.values() for r in by[s]] for s in settings}
            result[str(nfe)] = {process: _ranked(by) for process, by in relative.items()}
            name, first = next(iter(result[str(nfe)]["all"].items()))
            report.row(f"best setting on all, {nfe} evaluations: {name}", first["mean"])
    report.save("settings.json", result, digits=3)


def _ranked(ratios: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    rows = {
        setting: {"mean": statistics.geometric_mean(each), "worst": max(each)}
        for setting, each in ratios.items()
    }
    return dict(sorted(rows.items(), key=lambda row: row[1]["mean"]))


def _starts(process: str, full: bool, budgets: Sequence[int]) -> dict[str, list[float]]:
    where = problem("circle", process, 128) if full else problem("circle", process, 3, 1e-5)
    level = PROCESSES[process].at("sigma", STARTS_END)
    truth = inside.numbers(level)[0] * path_to(where, STARTS_END)

    def median(grid: str, nfe: int, solver: Multistep) -> float:
        run = flowsolve.solve(
            where.model,
            solver=solver,
            grid=grid,
            nfe=nfe,
            start=where.start,
            span=(None, level.t),
        )
        return errors(run.x, truth)[1]

    report: dict[str, list[float]] = {}
    for grid in STARTS[process]:
        for order, tableau in ((3, HEUN), (4, KUTTA3)):
            started = Multistep(Polynomial(order), starter=Starter(RungeKutta(tableau), order - 2))
            plain = Multistep(Polynomial(order))
            report[f"ab{order} {process} {grid}"] = [
                median(grid, nfe, started) / median(grid, nfe, plain) for nfe in budgets
            ]
    return report


def test_starts(full: bool, report: Report) -> None:
    """What a Runge-Kutta start of ab3 and ab4 costs or gains against a warm-up through the lower
    orders."""
    budgets = (5, 8, 10, 15, 20, 40, 80, 160) if full else (12,)
    with workers(report) as submit:
        jobs = [submit(_starts, process, full, budgets) for process in STARTS]
        ratios = {k: v for part in gather(report, "processes", jobs) for k, v in part.items()}
    shown = statistics.geometric_mean(by[len(by) // 2] for by in ratios.values())
    name = f"Runge-Kutta start / warm-up, {budgets[len(budgets) // 2]} evaluations"
    report.row(name, shown)
    report.save("starts.json", {"nfe": list(budgets), "ratios": ratios}, digits=3)
