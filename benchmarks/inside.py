"""What the benchmarks know of flowsolve beyond its public face: all of it, and nothing else, is
here."""

from __future__ import annotations

import statistics

import torch

import flowsolve
from flowsolve.grids import GRIDS, Grid
from flowsolve.models.data import data
from flowsolve.operators import Scalar
from flowsolve.output import columns as columns
from flowsolve.plans import Combine
from flowsolve.processes import Level
from flowsolve.solvers import Solver


def fixed_steps() -> dict[str, Solver]:
    """The named solvers with a fixed number of evaluations."""
    return {row.name: row.solver for row in flowsolve.solver_table() if row.solver.fixed}


def deterministic() -> dict[str, Solver]:
    """Those of them without noise, each once."""
    noisy = {row.name for row in flowsolve.solver_table() if row.family == "stochastic"}
    again = {"flow_euler"}  # which is ddim
    return {k: v for k, v in fixed_steps().items() if k not in noisy | again}


def grids() -> dict[str, Grid]:
    """The named grids, each once."""
    found: dict[str, Grid] = {}
    for name, kind in GRIDS.items():
        if kind() not in found.values():
            found[name] = kind()
    return found


def numbers(level: Level) -> tuple[float, float]:
    """A and R of a level of a process for which they are numbers."""
    assert isinstance(level.A, Scalar)
    assert isinstance(level.R, Scalar)
    return level.A.value, level.R.value


def terms_of(solver: str, nfe: int) -> int:
    """How many terms the linear combination of an evaluation has, in the middle."""
    plan = flowsolve.plan(solver, flowsolve.VP(), nfe=nfe)
    return int(statistics.median(len(i.terms) for i in plan.program if isinstance(i, Combine)))


def training_digits() -> torch.Tensor:
    """The images that the shipped models were trained on, (1500, 1, 8, 8), in float64."""
    return data().train.double()
