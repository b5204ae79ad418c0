"""Tables and figures of papers, on the shipped digits model.

    python -m benchmarks.papers table2       # arXiv 2010.02502, table 2: reconstruction error
    python -m benchmarks.papers figure5      # the same x_T with more and more steps

Each writes benchmarks/results/<name>.json, from which the documentation has its numbers. Nothing
here is a time. ``--few`` takes a few digits and the small budgets, and writes nothing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import flowsolve
from flowsolve.models.data import data

RESULTS = Path(__file__).parent / "results"
#: The paper's S, and more.
STEPS = (10, 20, 50, 100, 200, 500, 1000)
#: Budgets of which the least with ddim's error is looked for.
BUDGETS = (5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 75, 100)
OTHERS = ("auto", "vpc3", "etd3")


def table2(few: bool = False) -> dict[str, Any]:
    """Mean square error per dimension of x0 → x_T → x0, of all held-out digits, each with its
    label, in values of [−1, 1] (the paper's [0, 1] has a quarter of it)."""
    n = 4 if few else None
    images, labels = (part[:n] for part in (data().held_out, data().held_out_labels))
    model = flowsolve.digits(labels)

    def error(solver: str, nfe: int, grid: str | None) -> float:
        found = flowsolve.reconstruct(model, images, solver=solver, nfe=nfe, grid=grid)
        return float(found.error.double().mean())

    steps = STEPS[:2] if few else STEPS
    ddim = {
        grid or "default": {n: error("ddim", n, grid) for n in steps} for grid in ("uniform", None)
    }
    others = {s: {n: error(s, n, None) for n in (BUDGETS[:3] if few else BUDGETS)} for s in OTHERS}
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
    labels = torch.arange(10).repeat(1 if few else 16)
    model = flowsolve.digits(labels, dtype=torch.float64)
    how: dict[str, Any] = {"solver": "adaptive", "rtol": 1e-4, "atol": 1e-4}
    if not few:
        how = {"solver": "dopri8", "rtol": 1e-7, "atol": 1e-7}
    end, other = (flowsolve.sample(model, seed=seed, **how) for seed in (0, 1))
    steps = STEPS[:2] if few else STEPS
    found = {n: flowsolve.sample(model, solver="ddim", nfe=n, seed=0) for n in steps}
    return {
        "images": len(labels),
        "distance": {n: rms(x - end) for n, x in found.items()},
        "another_start": rms(other - end),
    }


def rms(x: torch.Tensor) -> float:
    return float(x.square().mean().sqrt())


NAMES: dict[str, Callable[[bool], dict[str, Any]]] = {"table2": table2, "figure5": figure5}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--few", action="store_true", help="small, and nothing is written")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    found = json.dumps(NAMES[asked.name](asked.few), indent=1) + "\n"
    if not asked.few:
        (RESULTS / f"{asked.name}.json").write_text(found)
    print(found, end="")


if __name__ == "__main__":
    main()
