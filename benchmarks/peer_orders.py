"""What diffusers and azula do, measured: the tables of docs/peers.md.

    python benchmarks/peer_orders.py            prints them and writes them into the page, minutes
    python benchmarks/peer_orders.py details    one of orders, weak, details

Each sampler runs through its own public face in float64 (tests/peers.py). Orders: the L2 error of
the endpoint on a mixture of three Gaussians against DOP853, from σ̄ = 2 to 0.4 over 48, 96 and 192
steps, on a grid uniform in the time of VP() and on Karras's; a second time with the first steps
exact, so that the order is the formula's and not the start's.
"""

from __future__ import annotations

import importlib
import logging
import sys
import warnings
from typing import Any

import torch
from peer_details import details
from peer_names import DPMPP, GRIDS, ROOT, SINGLE, TO_QUIETEST, UNIPC, peers
from peer_weak_orders import weak_orders

azula: Any = importlib.import_module("azula.sample")
PAGE = ROOT / "docs" / "peers.md"

NS = (48, 96, 192)
NOISE_FREE = {"tau_func": lambda t: 0.0, "lower_order_final": False}
MULTISTEP = ("zAB", "vAB", "zEAB", "xEAB", "REAB")
#: Shown as, class, options, claimed order, steps to be made exact the second time (0: it starts by
#: itself).
SAMPLERS: tuple[tuple[str, Any, dict[str, Any], int, int], ...] = (
    ("DDIM", "DDIMScheduler", {"clip_sample": False}, 1, 0),
    ("EulerDiscrete", "EulerDiscreteScheduler", {}, 1, 0),
    ("HeunDiscrete", "HeunDiscreteScheduler", {}, 2, 0),
    ("KDPM2Discrete", "KDPM2DiscreteScheduler", {}, 2, 0),
    ("LMSDiscrete", "LMSDiscreteScheduler", {}, 4, 3),
    ("PNDM", "PNDMScheduler", {}, 4, 0),
    ("PNDM, `skip_prk_steps`", "PNDMScheduler", {"skip_prk_steps": True}, 4, 0),
    ("IPNDM", "IPNDMScheduler", {}, 4, 3),
    ("DPMSolverMultistep 2", DPMPP, TO_QUIETEST, 2, 1),
    ("DPMSolverMultistep 3", DPMPP, {**TO_QUIETEST, "solver_order": 3}, 3, 2),
    (
        "DPMSolverMultistep 3, `dpmsolver`",
        DPMPP,
        {**TO_QUIETEST, "solver_order": 3, "algorithm_type": "dpmsolver"},
        3,
        2,
    ),
    ("DPMSolverSinglestep 2", SINGLE, TO_QUIETEST, 2, 0),
    ("DPMSolverSinglestep 3", SINGLE, {**TO_QUIETEST, "solver_order": 3}, 3, 0),
    ("DEISMultistep 2", "DEISMultistepScheduler", {}, 2, 1),
    ("DEISMultistep 3", "DEISMultistepScheduler", {"solver_order": 3}, 3, 2),
    *(
        (
            f"UniPCMultistep {p}",
            UNIPC,
            {**TO_QUIETEST, "solver_order": p, "lower_order_final": False},
            p + 1,
            p - 1,
        )
        for p in (1, 2, 3)
    ),
    (
        "SASolver 2, 2, τ = 0",
        "SASolverScheduler",
        {**NOISE_FREE, "predictor_order": 2, "corrector_order": 2},
        2,
        1,
    ),
    (
        "SASolver 3, 4, τ = 0",
        "SASolverScheduler",
        {**NOISE_FREE, "predictor_order": 3, "corrector_order": 4},
        4,
        2,
    ),
    ("azula Euler", azula.EulerSampler, {}, 1, 0),
    ("azula Heun", azula.HeunSampler, {}, 2, 0),
    *(
        (f"azula {s} {k}", getattr(azula, f"{s}Sampler"), {"order": k}, k, k - 1)
        for s in MULTISTEP
        for k in (2, 3, 4)
    ),
)


def orders() -> list[str]:
    lines = [
        "| sampler | claimed | its own start: time | Karras | exact start: time | Karras |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for shown, sampler, options, claimed, first in SAMPLERS:
        cells = [
            f"{peers.order(sampler, options, grid, k, NS):.2f}"
            for k in ((0, first) if first else (0,))
            for grid in GRIDS
        ]
        lines.append(f"| {' | '.join([shown, str(claimed), *cells, *['–'] * (4 - len(cells))])} |")
        print(lines[-1], file=sys.stderr)
    return lines


def main() -> None:
    warnings.simplefilter("ignore")
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    text = PAGE.read_text(encoding="utf-8")
    for name, table in (("orders", orders), ("weak", weak_orders), ("details", details)):
        if name not in (sys.argv[1:] or [name]):
            continue
        before, rest = text.split(f"<!-- {name}:begin -->")
        after = rest.split(f"<!-- {name}:end -->")[1]
        text = "\n".join(
            (f"{before}<!-- {name}:begin -->", "", *table(), "", f"<!-- {name}:end -->{after}")
        )
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
