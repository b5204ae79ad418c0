"""Weak orders of the stochastic samplers of diffusers beside flowsolve's (docs/peers.md): the error
of the variance of Gaussian data, known without sampling because a run is linear in its noises."""

from __future__ import annotations

import sys

from peer_names import DPMPP, GRIDS, SINGLE, TO_QUIETEST, peers


def weak_orders() -> list[str]:
    sde = {**TO_QUIETEST, "algorithm_type": "sde-dpmsolver++"}
    third = peers.repaired(peers.scheduler_class(DPMPP), peers.THIRD, peers.SIGN)
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
            lambda g, n, s=sampler, o=options: peers.their_variance_error(s, o, g, n),
            lambda g, n, s=solver: peers.our_variance_error(s, g, n),
        ):
            errors = {grid: [measure(grid, n) for n in (24, 48, 96)] for grid in GRIDS}
            cells.append(
                [*(f"{peers.slope(errors[g]):.2f}" for g in GRIDS), f"{errors['karras'][-1]:.0e}"]
            )
        lines.append(f"| {' | '.join([shown, *cells[0], f'`{solver}`', *cells[1]])} |")
        print(lines[-1], file=sys.stderr)
    return lines
