"""What a step costs where A and R are matrices: CLD and blurring diffusion beside VP, on states of the same size, in float64.

The network's answer is ready, in the network's dtype, so a run is all arithmetic. Runs take turns; each is represented by the least
processor time it took. A plan's coefficients are computed at the first run of a solver on a process, which is measured apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_overhead import save, timed

import flowsolve
from flowsolve.run import layout

#: States; half of the channels of a CLD's are velocities.
SHAPES = {"16x2x8x8": (16, 2, 8, 8), "64x2x8x8": (64, 2, 8, 8), "16x6x32x32": (16, 6, 32, 32), "16x4x64x64": (16, 4, 64, 64)}
SOLVERS = ("ddim", "etd3", "unipc3")
NETWORKS = {"float32 network": torch.float32, "float64 network": torch.float64}
#: The most that a DDIM step may cost with a network in float32, in DDIM steps of VP, and the largest side of a picture for which that is
#: asked: a transform is a matrix product, and costs in proportion to the side.
TARGETS = {"cld": (4.0, 64), "blurring": (6.0, 32)}


def models(shape: tuple[int, ...], dtype: torch.dtype) -> dict[str, flowsolve.Denoiser]:
    ready = 0.1 * torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(0))
    _, channels, height, width = shape
    processes: dict[str, tuple[flowsolve.Process, int]] = {
        "vp": (flowsolve.VP(), channels),
        "cld": (flowsolve.CLD(), channels // 2),
        "blurring": (flowsolve.Blurring((height, width)), channels),
    }
    return {
        name: flowsolve.Denoiser(lambda x, t: ready, process, "eps", (c, height, width), dtype=dtype)
        for name, (process, c) in processes.items()
    }


def measure(shape: tuple[int, ...], dtype: torch.dtype, solver: str, nfe: int, rounds: int) -> dict[str, dict[str, float]]:
    """For each process µs per evaluation, the same in those of VP, and the ms that its coefficients took."""
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def run(model: flowsolve.Denoiser) -> Callable[[], Any]:
        return lambda: flowsolve.solve(model, solver=solver, nfe=nfe, start=x)

    jobs = {name: run(model) for name, model in models(shape, dtype).items()}
    layout.cache_clear()
    first = {name: timed(job) for name, job in jobs.items()}
    best = dict.fromkeys(jobs, math.inf)
    for _ in range(rounds):
        for name, job in jobs.items():
            best[name] = min(best[name], timed(job))
    return {
        name: {"us_per_evaluation": 1e6 * least / nfe, "ratio": least / best["vp"], "ms_first": 1e3 * (first[name] - least)}
        for name, least in best.items()
    }


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("shape", SHAPES)
def test_step_cost(shape: str, network: str, full: bool) -> None:
    nfe, rounds = (50, 30) if full else (6, 1)
    solvers = SOLVERS if full else SOLVERS[:1]
    table = {solver: measure(SHAPES[shape], NETWORKS[network], solver, nfe, rounds) for solver in solvers}
    if not full:
        return
    print(f"\n{shape}, {network}, {nfe} evaluations: µs per evaluation (in those of VP; ms for the coefficients)")
    for solver, by in table.items():
        cells = (f"{p}: {row['us_per_evaluation']:7.1f} ({row['ratio']:.2f}; {row['ms_first']:.0f})" for p, row in by.items())
        print(f"  {solver:8}" + "  ".join(cells))
    save({f"matrices, {shape}, {network}": table})
    for process, (most, side) in TARGETS.items():
        ratio = table["ddim"][process]["ratio"]
        if network == "float32 network" and SHAPES[shape][-1] <= side:
            assert ratio <= most, f"a DDIM step on {process} costs {ratio:.2f} of VP's; expected {most} at most"
