"""Problems with known answers, shared by tests."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

import flowsolve
from flowsolve import exact
from flowsolve.operators import Block
from flowsolve.processes import Process

F64 = torch.float64

#: Every process that is known, by name: those whose A and R are numbers, and those of matrices.
EXAMPLES = flowsolve.processes.examples()
PROCESSES = {name: process for name, process in EXAMPLES.items() if process.scalar}
MATRIX_PROCESSES = {name: process for name, process in EXAMPLES.items() if not process.scalar}

SOLVERS = {row.name: row.solver for row in flowsolve.solver_table()}
ALL = [*SOLVERS]
FIXED = [name for name in ALL if SOLVERS[name].fixed]
STOCHASTIC = [row.name for row in flowsolve.solver_table() if row.family == "stochastic"]
DETERMINISTIC = [name for name in FIXED if name not in STOCHASTIC]


def mixture(process: Process) -> exact.Mixture:
    """Three Gaussians in the plane, smooth enough for slopes to be measured."""
    variances = [torch.tensor(c, dtype=F64) for c in ([0.09, 0.09], [0.2, 0.15], [0.05, 0.3])]
    return exact.Mixture(
        process, [0.3, 0.5, 0.2], [[1.0, 0.5], [-1.0, 0.3], [0.2, -1.2]], variances
    )


@lru_cache(maxsize=64)
def mixture_run(
    process: Process, noisy: float, quiet: float, n: int = 16
) -> tuple[exact.Mixture, Tensor, Tensor, tuple[float, float]]:
    """The mixture, starts at σ̄ = ``noisy``, the ODE's exact ends at σ̄ = ``quiet`` (DOP853 at
    3e-14), and the span in t."""
    model = mixture(process)
    s, t = process.at("sigma", noisy), process.at("sigma", quiet)
    start = model.draw(n, level=s)
    end = flowsolve.solve(
        model, solver="scipy:DOP853", rtol=3e-14, atol=1e-15, grid=[s.t, t.t], start=start
    ).x
    return model, start, end, (s.t, t.t)


def elementwise(x: Tensor, t: Tensor) -> Tensor:
    """A network whose result for a sample does not depend on the others, to the bit."""
    return 0.9 * torch.tanh(x * 0.7) + 0.1 * torch.cos(x + t.view(-1, *[1] * (x.ndim - 1)).to(x))


class Tanh(torch.nn.Module):
    """A network with parameters: tanh after ``inner``, whatever the time."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.eval()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return torch.tanh(self.inner(x))


def rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


#: The shape of the data of processes whose A and R are matrices.
MATRIX_SHAPES = {name: getattr(p, "size", (2,)) for name, p in MATRIX_PROCESSES.items()}
#: The times between which orders of convergence are measured on them.
MATRIX_SPANS = {name: (0.9 * p.t_max, 0.3) for name, p in MATRIX_PROCESSES.items()}
MATRIX_SPANS |= {"cld": (1.0, 0.3), "blurring": (0.9, 0.3)}


@cache
def refusal(name: str, solver: str) -> str | None:
    """What a row says against working on a matrix process; None if it works there. Whatever it
    raises besides a ValueError is for its tests to tell."""
    process, shape = MATRIX_PROCESSES[name], MATRIX_SHAPES[name]
    try:
        if SOLVERS[solver].fixed:
            flowsolve.plan(solver, process, nfe=8)
        else:
            model = flowsolve.Denoiser(elementwise, process, "eps", shape)
            flowsolve.sample(model, solver=solver, nfe=8, n=1, seed=0)
    except ValueError as error:
        return str(error)
    except Exception:
        return None
    return None


#: The rows that work on matrix processes, by trying.
WORKING = [(name, row) for name in MATRIX_PROCESSES for row in FIXED if refusal(name, row) is None]


def matrix_mixture(name: str, process: Process | None = None) -> exact.Mixture:
    """Three Gaussians as the data of a matrix process: those of :func:`mixture`, or isotropic ones
    among small pictures."""
    process = process or MATRIX_PROCESSES[name]
    if name == "cld":
        return mixture(process)
    means = torch.randn(
        3, *MATRIX_SHAPES[name], dtype=F64, generator=torch.Generator().manual_seed(0)
    )
    return exact.Mixture(process, [0.3, 0.5, 0.2], means, [0.09, 0.2, 0.15])


def matrix_data(name: str, dtype: torch.dtype = F64) -> flowsolve.Denoiser:
    """:func:`matrix_mixture` as a network of this dtype that returns the data alone."""
    law = matrix_mixture(name)

    def net(x: Tensor, t: Tensor) -> Tensor:
        level = law.process.level(min(float(t[0]), law.process.t_max))  # rounded, up perhaps
        return law.process.data(law(x, level).x0).to(dtype)

    return flowsolve.Denoiser(net, law.process, "x0", law.shape, time="t", dtype=dtype)


@lru_cache(maxsize=8)
def matrix_run(
    name: str, noisy: float, quiet: float, n: int = 16
) -> tuple[exact.Mixture, Tensor, Tensor]:
    """The mixture, states at t = ``noisy``, and the ODE's exact ends at t = ``quiet`` (DOP853 at
    3e-14)."""
    model = matrix_mixture(name)
    start = model.draw(n, level=noisy)
    return (
        model,
        start,
        flowsolve.solve(
            model, solver="scipy:DOP853", rtol=3e-14, atol=1e-15, grid=[noisy, quiet], start=start
        ).x,
    )


def dense(operator: flowsolve.operators.Operator, shape: tuple[int, ...]) -> Tensor:
    """The matrix of an operator on flattened states of this shape, a column for each entry."""
    size = torch.Size(shape).numel()
    return (operator @ torch.eye(size, dtype=F64).view(size, *shape)).flatten(1).T


def norm(operator: Any) -> float:
    """The largest factor by which a matrix stretches."""
    if isinstance(operator, Block):
        return float(np.linalg.norm(operator.entries, 2))
    return float(np.abs(operator.value).max())


def marginal_covariance(process: Process, shape: tuple[int, ...], c: float, t: float) -> Tensor:
    """A C Aᵀ + R Rᵀ at t, on flattened states, for data N(0, c)."""
    level, state = process.level(t), process.state_shape(shape)
    data = torch.Size(shape).numel()
    clean = process.state(torch.eye(data, dtype=F64).view(data, *shape)).flatten(1)
    a, r = dense(level.A, state), dense(level.R, state)
    return c * (clean @ a.T).T @ (clean @ a.T) + r @ r.T


def run_covariance(
    process: Process,
    shape: tuple[int, ...],
    c: float,
    solver: Any,
    times: list[float],
    **options: Any,
) -> Tensor:
    """The covariance that a run from the exact marginal ends with, for data N(0, c).

    The exact denoiser is linear, and so is the run in its start and its draws: a batch of unit
    vectors gives the whole map.
    """
    draws, state = (
        flowsolve.plan(solver, process, grid=times, **options).draws,
        process.state_shape(shape),
    )
    d, model = torch.Size(state).numel(), exact.Gaussian(process, torch.zeros(shape, dtype=F64), c)
    unit = torch.eye((1 + draws) * d, dtype=F64).view(-1, 1 + draws, *state)
    ends = flowsolve.solve(
        model,
        solver=solver,
        grid=times,
        start=unit[:, 0],
        noise=unit[:, 1:].transpose(0, 1),
        **options,
    ).x
    columns = ends.flatten(1).T
    carry, noise = columns[:, :d], columns[:, d:]
    return carry @ marginal_covariance(process, shape, c, times[0]) @ carry.T + noise @ noise.T
