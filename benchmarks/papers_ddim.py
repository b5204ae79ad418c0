"""Tables and figures of arXiv 2010.02502 (DDIM), on the shipped digits: see papers.py."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

import flowsolve
from flowsolve.models.data import data
from flowsolve.noise import normal
from flowsolve.training import gamma, l_gamma

from .papers_judge import EMPTY, SAMPLES, SEEDS, Judge, Table, judge, rounded

#: The paper's S, and more.
STEPS = (10, 20, 50, 100, 200, 500, 1000)
#: Budgets of which the least with ddim's error is looked for.
BUDGETS = (5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 75, 100)
OTHERS = ("auto", "vpc3", "etd3")


def table2(few: bool = False) -> dict[str, Any]:
    """Mean square error per dimension of x0 → x_T → x0, of all held-out digits, each with its
    label, in values of [−1, 1] (the paper's [0, 1] has a quarter of it)."""
    n = 2 if few else None
    images, labels = (part[:n] for part in (data().held_out, data().held_out_labels))
    model = flowsolve.digits(labels)

    def error(solver: str, nfe: int, grid: str | None) -> float:
        found = flowsolve.reconstruct(model, images, solver=solver, nfe=nfe, grid=grid)
        return float(found.error.double().mean())

    steps, budgets = (STEPS[:1], BUDGETS[:1]) if few else (STEPS, BUDGETS)
    ddim = {
        grid or "default": {n: error("ddim", n, grid) for n in steps} for grid in ("uniform", None)
    }
    others = {s: {n: error(s, n, None) for n in budgets} for s in OTHERS}
    return {
        "images": len(images),
        "ddim": ddim,
        "others": others,
        "least": {solver: least(ddim["default"], by) for solver, by in others.items()},
    }


def least(ddim: dict[int, float], other: dict[int, float]) -> dict[int, int | None]:
    """For each of ddim's budgets the least with which another solver has its error or less."""
    return {
        n: next((k for k in sorted(other) if other[k] <= error), None) for n, error in ddim.items()
    }


def figure5(few: bool = False) -> dict[str, Any]:
    """Root mean square distance to the end of the ODE from the same x_T, by the number of ddim's
    steps, and that between the ends of two x_T: 16 digits of each class."""
    labels = torch.arange(2) if few else torch.arange(10).repeat(16)
    model = flowsolve.digits(labels, dtype=torch.float64)
    how: dict[str, Any] = {"solver": "adaptive", "rtol": 1e-2, "atol": 1e-2}
    if not few:
        how = {"solver": "dopri8", "rtol": 1e-7, "atol": 1e-7}
    end, other = (flowsolve.sample(model, seed=seed, **how) for seed in (0, 1))
    steps = STEPS[:1] if few else STEPS
    found = {n: flowsolve.sample(model, solver="ddim", nfe=n, seed=0) for n in steps}
    return {
        "images": len(labels),
        "distance": {n: rms(x - end) for n, x in found.items()},
        "another_start": rms(other - end),
    }


def rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


#: The paper's rows: η, and σ̂, the larger of DDPM's two variances.
RULES: dict[str, dict[str, Any]] = {
    "η = 0": {"solver": "ddim"},
    "η = 0.2": {"solver": "ddim", "eta": 0.2},
    "η = 0.5": {"solver": "ddim", "eta": 0.5},
    "η = 1": {"solver": "ddpm"},
    "σ̂": {"solver": "ddpm_large"},
}


def on_the_table(model: flowsolve.Denoiser) -> flowsolve.Denoiser:
    """The model on the paper's levels: the linear table of 1,000 β of DDPM. A state of a VP process
    is known by its σ̄, so the network is told the time at which its own process has it."""
    own = model.process
    table = flowsolve.VP.discrete(flowsolve.tables.linear())
    return replace(model, process=table, time=lambda level: own.time_of(level.sigma))


def by_rule(cell: tuple[str, ...], labels: Tensor, seed: int) -> Tensor:
    """Samples of a cell (levels, rule, S), uniform in time."""
    levels, rule, steps = cell
    model = flowsolve.digits(labels)
    if levels == "table":
        model = on_the_table(model)
    how: dict[str, Any] = {"nfe": int(steps), "grid": "uniform", "seed": seed, **RULES[rule]}
    return flowsolve.sample(model, n=len(labels), batch_size=250, **how)


#: "table": the paper's, whose quietest level σ̄ = 0.01 is always among the S; "cosine": the model's
#: own process, in S equal steps down to clean data, whose last evaluation is at t = 1/S.
TABLE1 = Table(
    [
        (levels, rule, str(steps))
        for levels in ("table", "cosine")
        for steps in (5, 10, 20, 50, 100, 1000)
        for rule in RULES
        if levels == "table" or steps < 1000
    ],
    by_rule,
    [("table", "σ̂", "3"), ("cosine", "η = 0.2", "2")],
    lambda cell: 1 if cell[-1] == "1000" else 3,
)


#: What was done to the samples of five steps on the model's own levels.
CONTROLS = ("η = 0", "η = 0, and noise of 0.05", "η = 0, each class 1.2 times as wide", "σ̂")


def sigma_hat(few: bool = False) -> dict[str, Any]:
    """Why σ̂ is the best in pixels at S = 5 on the model's own levels: DDIM's samples, the same made
    noisier or wider, and those of σ̂; with the measures the share of the data's variance in three
    parts of its principal directions: the 16 empty ones, 42 between, the 6 largest."""
    n, seeds, epochs = (20, 1, 1) if few else (SAMPLES, SEEDS, 20)
    labels, rows = torch.arange(n) % 10, {name: [] for name in CONTROLS}
    found = judge(epochs)
    own = shares(found, found.digits)
    for seed in range(seeds):
        x, noisy = (
            by_rule(("cosine", rule, "5"), labels, seed).double() for rule in ("η = 0", "σ̂")
        )
        z = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype)
        mean = torch.stack([x[labels == k].mean(0) for k in range(10)])[labels]
        for name, y in zip(
            CONTROLS, (x, x + 0.05 * z, mean + 1.2 * (x - mean), noisy), strict=True
        ):
            parts = (shares(found, y) / own).tolist()
            row = dict(zip(("empty", "between", "largest"), parts, strict=True))
            rows[name].append(rounded({**found.row(y, labels), **row}))
    return {
        "samples": n,
        "rows": {
            name: {key: [row[key] for row in each] for key in each[0]}
            for name, each in rows.items()
        },
    }


def shares(found: Judge, x: Tensor) -> Tensor:
    """The variance in the empty principal directions, in those between, and in the 6 largest."""
    along = x.double().flatten(1) @ found.directions
    variance = along.var(0)
    return torch.stack([part.sum() for part in variance.split((EMPTY, 64 - 6 - EMPTY, 6))])


def figure3(few: bool = False) -> dict[str, Any]:
    """Pictures, in sixteenths of the ink: the same starts by three rules and S, on the paper's
    levels; six digits."""
    labels = torch.tensor([0, 2, 3, 5, 6, 8])
    rules, steps = ("η = 0", "η = 1", "σ̂"), (5, 10, 20, 50, 100)
    pictures = {
        f"{rule}, {s}": (8 * by_rule(("table", rule, str(s)), labels, 2) + 8).flatten(1).round()
        for rule in rules
        for s in (steps[:1] if few else steps)
    }
    return {
        "labels": labels.tolist(),
        "pictures": {name: x.int().tolist() for name, x in pictures.items()},
    }


def figure4(few: bool = False) -> dict[str, Any]:
    """The time of a run over that of S = 10, in one process, processor time: the median of five."""
    steps, repeats = ((10, 20), 1) if few else ((10, 20, 50, 100, 200), 5)
    model = flowsolve.digits(torch.arange(20) % 10)
    took: dict[int, list[float]] = {n: [] for n in steps}
    for _ in range(repeats + 1):  # the first makes the plans
        for n in steps:
            begin = time.process_time()
            flowsolve.sample(model, solver="ddim", nfe=n, grid="uniform", seed=0)
            took[n].append(time.process_time() - begin)
    ratios = {n: [a / b for a, b in zip(took[n], took[10], strict=True)][1:] for n in steps}
    return {"ratio": {n: round(statistics.median(found), 2) for n, found in ratios.items()}}


ETAS = (0.2, 0.5, 1.0)


def gammas(few: bool = False) -> dict[str, Any]:
    """L_γ of three η beside L_simple, over 50 levels on the held-out digits: which third of the
    levels each owes how much to, and the one number by which all the network's ε̂ would have to be
    multiplied to make it least (one for a network that cannot be bettered so)."""
    steps, n = (5, 4) if few else (50, 297)
    split = data()
    x0, model = split.held_out[:n], flowsolve.digits(split.held_out_labels[:n])
    quiet = model.process.t_min
    times = [1.0 - quiet - (1.0 - 2 * quiet) * k / steps for k in range(steps + 1)]
    levels = [model.process.level(t) for t in times]
    error, product, square = [], [], []
    for k, level in enumerate(levels[:-1]):
        eps = normal(0, range(n), k, x0.shape[1:], x0.dtype, x0.device)
        said = model(level.A @ x0 + level.R @ eps, level).eps.double()
        error.append((eps - said).square().flatten(1).sum(1).mean())
        product.append((eps * said).flatten(1).sum(1).mean())
        square.append(said.square().flatten(1).sum(1).mean())
    errors, products, squares = (torch.stack(each) for each in (error, product, square))
    rows: dict[str, Any] = {}
    for eta in (None, *ETAS):
        weights = torch.ones(steps, dtype=torch.float64)
        if eta is not None:
            weights = torch.tensor([gamma(s, t, eta) for s, t in pairwise(levels)])
        parts = weights * errors
        thirds = [float(part.sum() / parts.sum()) for part in parts.tensor_split(3)]
        row: dict[str, Any] = {
            "value": float(f"{float(parts.sum()):.5g}"),
            "largest_over_least": float(f"{float(weights.max() / weights.min()):.4g}"),
            "thirds": [float(f"{third:.3g}") for third in thirds],
            "factor": round(float((weights * products).sum() / (weights * squares).sum()), 5),
        }
        if eta is not None and eta == 1.0:  # the library's own sum, of the same noises
            row["l_gamma"] = float(f"{float(l_gamma(model, x0, levels, eta=eta).mean()):.5g}")
        rows["L_simple" if eta is None else f"η = {eta:g}"] = row
    factors = products / squares
    return {
        "images": n,
        "levels": steps,
        "rows": rows,
        "factor_of_each_level": [round(float(f), 4) for f in (factors.min(), factors.max())],
    }
