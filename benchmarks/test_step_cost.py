"""What a step costs where A and R are matrices: CLD and blurring diffusion beside VP, on states of
the same size, in float64.

The network's answer is ready, in the network's dtype, so a run is all arithmetic. A plan's
coefficients are computed at the first run of a solver on a process, which is measured apart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from report import Report
from timing import ROUNDS, spread, take_turns, timed

import flowsolve

#: States; half of the channels of a CLD's are velocities.
SHAPES = {
    "16x2x8x8": (16, 2, 8, 8),
    "64x2x8x8": (64, 2, 8, 8),
    "16x6x32x32": (16, 6, 32, 32),
    "16x4x64x64": (16, 4, 64, 64),
}
SOLVERS = ("ddim", "etd3", "unipc3")
NETWORKS = {"float32 network": torch.float32, "float64 network": torch.float64}
#: The most that a DDIM step should cost with a network in float32, in DDIM steps of VP, and the
#: largest side of a picture for which that is asked: a transform is a matrix product, and costs in
#: proportion to the side.
TARGETS = {"cld": (4.0, 64), "blurring": (6.0, 32)}


def models(shape: tuple[int, ...], dtype: torch.dtype, k: int = 0) -> dict[str, flowsolve.Denoiser]:
    """A model on each process; with another k on others that differ in the last digits, of which
    nothing is known yet."""
    ready = 0.1 * torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(0))
    _, channels, height, width = shape
    scale = 1.0 + 1e-9 * k
    processes: dict[str, tuple[flowsolve.Process, int]] = {
        "vp": (flowsolve.VP(beta_max=20.0 * scale), channels),
        "cld": (flowsolve.CLD(beta=4.0 * scale), channels // 2),
        "blurring": (flowsolve.Blurring((height, width), sigma_max=10.0 * scale), channels),
    }
    return {
        name: flowsolve.Denoiser(
            lambda x, t: ready, process, "eps", (c, height, width), dtype=dtype
        )
        for name, (process, c) in processes.items()
    }


def measure(
    shape: tuple[int, ...], dtype: torch.dtype, solver: str, full: bool
) -> dict[str, dict[str, Any]]:
    """For each process µs per evaluation, the same in those of VP with its spread, and the ms that
    its coefficients took."""
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    nfe, rounds, turns = (50, ROUNDS, 3) if full else (6, 1, 1)

    def run(model: flowsolve.Denoiser) -> Callable[[], Any]:
        return lambda: flowsolve.solve(model, solver=solver, nfe=nfe, start=x)

    firsts = [
        {name: timed(run(model)) for name, model in models(shape, dtype, k).items()}
        for k in range(1, 1 + min(rounds, 3))
    ]
    jobs = {name: run(model) for name, model in models(shape, dtype).items()}
    for job in jobs.values():
        job()
    found = [take_turns(jobs, turns) for _ in range(rounds)]
    table: dict[str, dict[str, Any]] = {}
    for name in jobs:
        run_time = spread(best[name] for best in found)
        table[name] = {
            "us_per_evaluation": 1e6 * run_time.median / nfe,
            "ratio": spread(best[name] / best["vp"] for best in found),
            "ms_first": 1e3 * (spread(f[name] for f in firsts).median - run_time.median),
        }
    return table


def test_step_cost(full: bool, report: Report) -> None:
    """A step on CLD and blurring diffusion in steps of VP."""
    result: dict[str, Any] = {}
    for shape, size in SHAPES.items():
        for network, dtype in NETWORKS.items():
            report.doing(f"{shape}, {network}")
            table = {s: measure(size, dtype, s, full) for s in (SOLVERS if full else SOLVERS[:1])}
            result[f"{shape}, {network}"] = table
            for process, (most, side) in TARGETS.items():
                if dtype == torch.float32:
                    report.row(
                        f"ddim step, {process} / vp, {shape}",
                        table["ddim"][process]["ratio"],
                        most if size[-1] <= side else None,
                    )
    report.save("step_cost.json", result)
