"""Weak orders of the stochastic samplers of diffusers beside flowsolve's (docs/peers.md): the error
of the variance of Gaussian data, known without sampling because a run is linear in its noises."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
from peer_names import DPMPP, GRIDS, SINGLE, TO_QUIETEST, peers

import flowsolve


def their_variance(sampler: Any, options: dict[str, Any], grid: str, n: int) -> float:
    cls = peers.scheduler_class(sampler) if isinstance(sampler, str) else sampler

    def respond(
        start: torch.Tensor, noise: list[torch.Tensor], levels: Sequence[Any], model: Any
    ) -> torch.Tensor:
        return peers.run_on(cls, options, levels, start, model=model, noise=noise)

    return peers.variance_error(respond, grid, n)


def our_variance(solver: str, grid: str, n: int) -> float:
    def respond(
        start: torch.Tensor, noise: list[torch.Tensor], levels: Sequence[Any], model: Any
    ) -> torch.Tensor:
        return flowsolve.solve(
            model(peers.PROCESS),
            solver=solver,
            grid=[v.t for v in levels],
            start=start,
            noise=noise,
        ).x

    return peers.variance_error(respond, grid, n, draws=2)


def weak_orders() -> list[str]:
    sde = {**TO_QUIETEST, "algorithm_type": "sde-dpmsolver++"}
    third = peers.repaired(
        peers.scheduler_class(DPMPP),
        "multistep_dpm_solver_third_order_update",
        ("(2.0 * h) ** 2 - 0.5", "(2.0 * h) ** 2 + 0.5"),
    )
    sa = {"tau_func": lambda t: 1.0, "lower_order_final": False}
    rows = [
        ("DPMSolverMultistep 1", DPMPP, {**sde, "solver_order": 1}, "ddpm"),
        ("DPMSolverMultistep 2", DPMPP, sde, "dpmpp2m_sde"),
        ("DPMSolverMultistep 3", DPMPP, {**sde, "solver_order": 3}, "dpmpp3m_sde"),
        ("the same, sign mended", third, {**sde, "solver_order": 3}, "dpmpp3m_sde"),
        ("DPMSolverSinglestep 2", SINGLE, sde, "dpmpp_sde"),
        (
            "DPMSolverSinglestep 3, `heun`",
            SINGLE,
            {**sde, "solver_order": 3, "solver_type": "heun"},
            "dpmpp_sde",
        ),
        (
            "SASolver 2, 2",
            "SASolverScheduler",
            {**sa, "predictor_order": 2, "corrector_order": 2},
            "sa",
        ),
        (
            "SASolver 3, 4",
            "SASolverScheduler",
            {**sa, "predictor_order": 3, "corrector_order": 4},
            "sa",
        ),
    ]
    lines = [
        "| sampler | order: time | Karras | error at 96 "
        "| flowsolve's | order: time | Karras | error at 96 |",
        f"|{' --- |' * 8}",
    ]
    for shown, sampler, options, solver in rows:
        cells = []
        for measure in (
            lambda g, n, s=sampler, o=options: their_variance(s, o, g, n),
            lambda g, n, s=solver: our_variance(s, g, n),
        ):
            errors = {grid: [measure(grid, n) for n in (24, 48, 96)] for grid in GRIDS}
            cells.append(
                [*(f"{peers.slope(errors[g]):.2f}" for g in GRIDS), f"{errors['karras'][-1]:.0e}"]
            )
        lines.append(f"| {' | '.join([shown, *cells[0], f'`{solver}`', *cells[1]])} |")
        print(lines[-1], file=sys.stderr)
    return lines
