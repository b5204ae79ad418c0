"""Which solver and grid for a few evaluations where A and R are matrices: what ``auto`` stands for
there was read off this.

Three distributions that are known without error and the two shipped networks. Errors are distances
to the ends of unipc3 with 400 evaluations, eight times as many as the most that is measured.
Nothing here is a time.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from inside import training_digits
from report import Report
from workers import gather, workers

import flowsolve
from flowsolve import exact
from flowsolve.solvers import HEUN, RungeKutta, Starter

SOLVERS = (
    "ddim",
    "ab2",
    "ab3",
    "etd2",
    "etd3",
    "etd4",
    "unipc1",
    "unipc2",
    "unipc3",
    "vpc2",
    "vpc3",
    "dpmpp2s",
    "heun",
)
GRIDS = ("quadratic", "uniform", "beta")
BUDGETS = (5, 10, 20, 50)
#: Evaluations for which a Runge-Kutta start is compared with a warm-up, from the noisiest level to
#: t = 0.02.
STARTS = (10, 20, 40, 80, 160, 320)
STARTS_ON = ("CLD, mixture in the plane", "blurring, 300 smoothed digits")
#: Variances of the mixture in the plane.
PLANE = ([0.09, 0.09], [0.2, 0.15], [0.05, 0.3])
#: The most that the errors of ``auto`` may be, in the best setting's.
MOST = 1.1


@lru_cache
def cases(full: bool) -> dict[str, tuple[flowsolve.Denoiser, int]]:
    """Models, and how many samples of each."""
    n = 64 if full else 4
    labels = torch.arange(n) % 10
    plane = exact.Mixture(
        flowsolve.CLD(),
        [0.3, 0.5, 0.2],
        [[1.0, 0.5], [-1.0, 0.3], [0.2, -1.2]],
        [torch.tensor(c) for c in PLANE],
    )
    smooth = exact.Mixture(
        flowsolve.Blurring(8, sigma_max=2.5), torch.ones(300), training_digits()[:300], 0.01
    )
    walks = (
        torch.randn(10, 1, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
        .cumsum(-1)
        .cumsum(-2)
    )
    return {
        "CLD, mixture in the plane": (plane, n),
        "CLD, digits network": (flowsolve.digits(labels, process="cld"), n),
        "blurring, 300 smoothed digits": (smooth, max(2, n // 3)),
        "blurring, digits network": (flowsolve.digits(labels, process="blurring"), n),
        "blurring, rough pictures": (
            exact.Mixture(flowsolve.Blurring(16), torch.ones(10), 0.05 * walks, 0.02),
            max(2, n // 4),
        ),
    }


def rms(x: torch.Tensor) -> float:
    return x.double().square().mean().sqrt().item()


def measure(name: str, full: bool) -> dict[int, dict[str, float]]:
    """{evaluations: {"solver, grid": error}} on one problem."""
    model, n = cases(full)[name]
    end = flowsolve.sample(
        model, solver="unipc3", grid="quadratic", nfe=400 if full else 30, n=n, seed=0
    )
    rows: dict[int, dict[str, float]] = {}
    for nfe in BUDGETS if full else BUDGETS[:1]:
        for solver in SOLVERS if full else ("ddim", "etd3"):
            if solver.startswith("vpc") and isinstance(model.process, flowsolve.CLD):
                continue
            for grid in GRIDS if full else GRIDS[:1]:
                x = flowsolve.sample(model, solver=solver, grid=grid, nfe=nfe, n=n, seed=0)
                rows.setdefault(nfe, {})[f"{solver}, {grid}"] = rms(x - end)
    return rows


def over_best(table: dict[str, Any], nfe: int) -> dict[str, float]:
    """For every setting that all problems have: its error over the least of the problem, as a
    geometric mean over problems."""
    settings = set.intersection(*(set(rows[nfe]) for rows in table.values()))
    ratios = {
        s: [rows[nfe][s] / min(rows[nfe].values()) for rows in table.values()] for s in settings
    }
    return {s: math.exp(sum(map(math.log, values)) / len(values)) for s, values in ratios.items()}


_STARTED: dict[str, Any] = {"starter": Starter(RungeKutta(HEUN), 2)}


def starts(name: str, full: bool) -> dict[str, dict[int, float]]:
    """Error after a Runge-Kutta start over that after a warm-up, by solver and evaluations."""
    model, n = cases(full)[name]
    process = model.process
    x = process.prior(process.start) @ torch.randn(
        n, *model.state_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    run: dict[str, Any] = {"start": x, "span": (process.t_max, 0.02)}
    end = flowsolve.sample(model, solver="unipc3", nfe=1000 if full else 30, **run)
    result: dict[str, dict[int, float]] = {}
    for solver in ("ab3", "etd3", "unipc3") if full else ("ab3",):
        for nfe in STARTS if full else STARTS[:1]:
            a, b = (
                rms(flowsolve.sample(model, solver=solver, nfe=nfe, **run, **o) - end)
                for o in (_STARTED, {})
            )
            result.setdefault(f"{solver}, {name}", {})[nfe] = a / b
    return result


def test_few_evaluations_on_matrices(full: bool, report: Report) -> None:
    """Few evaluations where A and R are matrices: solvers and grids, and Runge-Kutta starts."""
    names = list(cases(full))
    with workers(report) as submit:
        jobs = [submit(measure, name, full) for name in names]
        others = [submit(starts, name, full) for name in STARTS_ON]
        table = dict(zip(names, gather(report, "problems", jobs), strict=True))
        beginning = {k: v for by in gather(report, "starts", others) for k, v in by.items()}
    best = {nfe: over_best(table, nfe) for nfe in next(iter(table.values()))}
    assert all(math.isfinite(value) for by in best.values() for value in by.values())
    whole = {"errors": table, "over_best": best, "runge_kutta_start": beginning}
    report.save("matrices.json", whole, digits=3)
    if not full:
        return
    worst = max(by["unipc3, quadratic"] / min(by.values()) for by in best.values())
    report.row("auto / the best setting, matrices, worst budget", worst, MOST)
    assert worst <= MOST, f"auto is {worst:.2f} times the best setting; expected {MOST} at most"
